"""``POST /v1/messages`` and ``POST /v1/messages/count_tokens``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from claude_force.domain.models import model_class, model_facts
from claude_force.simulator.answers import Answer, make_answer
from claude_force.simulator.distortions import distort
from claude_force.simulator.draws import Draws
from claude_force.simulator.errors import ApiError, JsonObject, error_response
from claude_force.simulator.faults import STOP_REASONS, Fault, FaultKind
from claude_force.simulator.prompts import Prompt, read_prompt
from claude_force.simulator.streaming import event_pieces, message_object
from claude_force.simulator.validation import (
    check_count_request,
    check_message_request,
    check_version,
)
from claude_force.simulator.wire import EVENT_STREAM_TYPE, JSON_TYPE, HttpRequest, Piece, Response

if TYPE_CHECKING:
    from claude_force.simulator.platform import Platform
    from claude_force.simulator.prompt_cache import CacheUse

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
# Something between the client and the model answers or fails: nothing is generated, nothing is billed.
_BEFORE_THE_MODEL: Final = frozenset(
    {
        FaultKind.CLOSE,
        FaultKind.RESET,
        FaultKind.GARBAGE,
        FaultKind.WRONG_CONTENT_TYPE,
        FaultKind.HUGE_HEADER,
    }
)
# A patient client gets every byte of the answer; of the other faults in a stream none leaves a whole answer.
_WHOLE_IN_THE_END: Final = frozenset({FaultKind.SLOW_HEADERS, FaultKind.STALL})
_decode = msgspec.json.decode


def decode_body(request: HttpRequest) -> JsonObject:
    """The JSON object of a request; everything else is a 400, a body that is too large a 413."""
    if request.too_large:
        raise ApiError(413, "Request exceeds the maximum size")
    try:
        body = _decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ApiError(400, f"The request body is not valid JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise ApiError(400, "The request body is not a JSON object")
    return body


def check_context(prompt: Prompt) -> None:
    """Refuse a prompt that does not fit into the model's context."""
    facts = model_facts(prompt.model)
    if facts is not None and prompt.total_tokens > facts.context_tokens:
        raise ApiError(
            400,
            f"prompt is too long: {prompt.total_tokens} tokens > {facts.context_tokens} maximum",
        )


def create_message(platform: Platform, request: HttpRequest, request_id: str) -> Response:
    """Answer one request, with whatever the scenario or the queue puts in its way.

    What the API refuses is refused before any fault is drawn, so that a fault never hides a request that is wrong.
    """
    platform.counters.requests += 1
    organisation = platform.organisation(request.headers)
    version = check_version(request.headers)
    body = decode_body(request)
    platform.keep(request, body)
    check_message_request(body, version=version, today=platform.today())
    prompt = read_prompt(body)
    check_context(prompt)
    platform.counters.requests_by_model[prompt.model] += 1
    attempt = platform.counters.next_attempt(prompt.fingerprint)
    fault = platform.take_fault(request.path, request.body) or _drawn_fault(
        platform, prompt, attempt
    )
    return _Exchange(platform, prompt, organisation, request_id).respond(fault)


def count_tokens(platform: Platform, request: HttpRequest, request_id: str) -> Response:
    """The size of a prompt; free, with a limit of its own."""
    organisation = platform.organisation(request.headers)
    check_version(request.headers)
    body = decode_body(request)
    platform.keep(request, body)
    check_count_request(body, today=platform.today())
    prompt = read_prompt(body)
    refusal = platform.limiter.admit_count(organisation, model_class(prompt.model))
    if refusal is not None:
        return error_response(
            429,
            "This request would exceed your organization's rate limit for token counting.",
            request_id=request_id,
            headers=platform.limiter.retry_headers(refusal),
        )
    data = msgspec.json.encode({"input_tokens": prompt.total_tokens})
    return Response(
        status=200, content_type=JSON_TYPE, pieces=(Piece(data),), request_id=request_id
    )


def _drawn_fault(platform: Platform, prompt: Prompt, attempt: int) -> Fault | None:
    scenario = platform.scenario
    if not scenario.fault_rates:
        return None
    draws = Draws(platform.seed, prompt.fingerprint, "attempt", attempt)
    kind = scenario.draw_fault(draws)
    if kind is None:
        return None
    return Fault(
        kind=kind,
        retry_after=scenario.retry_after,
        retry_after_seconds=scenario.retry_after_seconds,
        seconds=scenario.stall_seconds,
    )


class _Exchange:
    """One accepted request on its way to an answer."""

    __slots__ = (
        "_answer",
        "_class",
        "_organisation",
        "_platform",
        "_prompt",
        "_request_id",
        "_use",
    )

    def __init__(
        self, platform: Platform, prompt: Prompt, organisation: str, request_id: str
    ) -> None:
        self._platform = platform
        self._prompt = prompt
        self._organisation = organisation
        self._request_id = request_id
        self._class = model_class(prompt.model)
        self._answer: Answer
        self._use: CacheUse

    def respond(self, fault: Fault | None) -> Response:
        """The response, with the fault in it."""
        platform = self._platform
        self._use = platform.prompt_cache.look_up(
            self._prompt, organisation=self._organisation, now=platform.monotonic()
        )
        limited = self._limited()
        if limited is not None:
            return limited
        self._answer = make_answer(
            self._prompt,
            seed=platform.seed,
            scenario=platform.scenario,
            fault=fault.kind if fault else None,
            unfinished=platform.unfinished,
        )
        response = self._response()
        if fault is None:
            platform.prompt_cache.accept(self._use)
            return response
        platform.counters.faults[fault.kind.value] += 1
        shown = distort(response, fault, epoch_seconds=platform.wall_clock())
        if shown.status != 200:
            # A refusal by status: nothing was generated, nothing is billed.
            headers = (*shown.headers, *response.headers)
            return replace(shown, headers=headers, on_begin=None, on_end=None)
        if fault.kind in _BEFORE_THE_MODEL:
            return replace(shown, on_begin=None, on_end=None)
        platform.prompt_cache.accept(self._use)
        if fault.kind in STOP_REASONS or fault.kind in _WHOLE_IN_THE_END:
            return shown
        return replace(shown, on_end=None)

    def _limited(self) -> Response | None:
        limiter = self._platform.limiter
        refusal = limiter.admit(self._organisation, self._class, self._use.usage)
        if refusal is None:
            return None
        self._platform.counters.rate_limited += 1
        return error_response(
            429,
            f"This request would exceed your organization's rate limit of {refusal.capacity} "
            f"{refusal.limit.replace('-', ' ')} per minute.",
            request_id=self._request_id,
            headers=(
                *limiter.retry_headers(refusal),
                *limiter.headers(self._organisation, self._class),
            ),
        )

    def _response(self) -> Response:
        platform, scenario = self._platform, self._platform.scenario
        draws = Draws(platform.seed, self._prompt.fingerprint, "latency")
        streamed = self._prompt.body.get("stream", False)
        message_id = platform.next_id("msg")
        usage = self._use.usage
        pieces = event_pieces(
            self._answer,
            self._prompt,
            message_id=message_id,
            usage=usage,
            latency=scenario.latency,
            chunk_tokens=scenario.chunk_tokens,
            seed=platform.seed,
        )
        wait = scenario.latency.first_event_seconds(draws)
        if not streamed:
            wait += sum(piece.delay_seconds for piece in pieces)
            message = message_object(self._answer, self._prompt, message_id=message_id, usage=usage)
            pieces = (Piece(msgspec.json.encode(message)),)
        return Response(
            status=200,
            content_type=EVENT_STREAM_TYPE if streamed else JSON_TYPE,
            pieces=pieces,
            request_id=self._request_id,
            headers=platform.limiter.headers(self._organisation, self._class),
            chunked=streamed,
            head_delay_seconds=wait,
            on_begin=self._begin,
            on_end=self._end,
        )

    def _begin(self) -> None:
        platform = self._platform
        platform.prompt_cache.begin(self._use)
        output_tokens = self._answer.output_tokens
        platform.counters.bill(self._use.usage, output_tokens)
        platform.limiter.charge_output(self._organisation, self._class, output_tokens)

    def _end(self, complete: bool) -> None:  # noqa: FBT001  # the one thing that there is to say
        if complete:
            self._platform.counters.answered_whole(self._prompt.fingerprint)
