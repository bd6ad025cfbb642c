"""What is in a batch: its requests as they must be, and the result of each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from claude_force.domain.messages import API_VERSION
from claude_force.domain.usage import Usage
from claude_force.simulator.answers import make_answer
from claude_force.simulator.distortions import http_error
from claude_force.simulator.draws import Draws
from claude_force.simulator.errors import TYPE_BY_STATUS, ApiError, JsonObject, error_object
from claude_force.simulator.faults import Fault, FaultKind
from claude_force.simulator.messages import check_context
from claude_force.simulator.prompts import Prompt, read_prompt
from claude_force.simulator.streaming import message_object
from claude_force.simulator.validation import check_message_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from claude_force.simulator.platform import Platform

MAX_BATCH_REQUESTS: Final = 100_000
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")


def check_requests(body: JsonObject) -> list[JsonObject]:
    """The requests of a batch; refuses what the API refuses when it accepts one."""
    if not body.keys() <= {"requests", "user_profile_id", "workspace_id"}:
        unknown = next(name for name in body if name != "requests")
        raise ApiError(400, f"{unknown}: Extra inputs are not permitted")
    requests = body.get("requests")
    if not isinstance(requests, list) or not requests:
        raise ApiError(400, "requests: at least one request is required")
    if len(requests) > MAX_BATCH_REQUESTS:
        raise ApiError(400, f"requests: {len(requests)} requests > {MAX_BATCH_REQUESTS} maximum")
    seen: set[str] = set()
    for index, item in enumerate(requests):
        path = f"requests.{index}"
        custom_id = item.get("custom_id") if isinstance(item, dict) else None
        if not isinstance(custom_id, str) or not _CUSTOM_ID.match(custom_id):
            raise ApiError(
                400, f"{path}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"
            )
        if not isinstance(item.get("params"), dict):
            raise ApiError(400, f"{path}.params: Input should be a valid dictionary")
        if custom_id in seen:
            raise ApiError(400, f"{path}.custom_id: {custom_id!r} is not unique")
        seen.add(custom_id)
    return requests


def result_lines(
    platform: Platform,
    requests: Sequence[JsonObject],
    order: Sequence[int],
    outcomes: Sequence[str],
) -> Iterator[bytes]:
    """One line of JSON for each request, in the order of ``order``."""
    for place in order:
        item = requests[place]
        if outcomes[place] == "processed":
            result = _result(platform, item["params"])
        else:
            result = {"type": outcomes[place]}
        yield msgspec.json.encode({"custom_id": item["custom_id"], "result": result}) + b"\n"


def _result(platform: Platform, params: JsonObject) -> JsonObject:
    request_id = platform.next_id("req")
    try:
        check_message_request(params, version=API_VERSION, today=platform.today())
        prompt = read_prompt(params)
        check_context(prompt)
    except ApiError as exc:
        error = error_object(TYPE_BY_STATUS[exc.status], exc.message, request_id=request_id)
        return {"type": "errored", "error": error}
    platform.counters.requests_by_model[prompt.model] += 1
    attempt = platform.counters.next_attempt(prompt.fingerprint)
    draws = Draws(platform.seed, prompt.fingerprint, "attempt", attempt)
    kind = platform.scenario.draw_fault(draws)
    if kind is not None:
        platform.counters.faults[kind.value] += 1
        refusal = http_error(
            Fault(kind=kind), request_id=request_id, epoch_seconds=platform.wall_clock()
        )
        if refusal is not None:
            return {"type": "errored", "error": msgspec.json.decode(refusal.pieces[0].data)}
    return {"type": "succeeded", "message": _message(platform, prompt, kind)}


def _message(platform: Platform, prompt: Prompt, kind: FaultKind | None) -> JsonObject:
    # The prompt cache is left out: in a batch it is best effort, and none is a possible effort.
    answer = make_answer(
        prompt,
        seed=platform.seed,
        scenario=platform.scenario,
        fault=kind,
        unfinished=platform.unfinished,
    )
    usage = Usage(input_tokens=prompt.total_tokens)
    platform.counters.bill(usage, answer.output_tokens)
    platform.counters.answered_whole(prompt.fingerprint)
    return message_object(
        answer, prompt, message_id=platform.next_id("msg"), usage=usage, service_tier="batch"
    )
