"""One contract, two clients: our own transport and the SDK's, both over a socket to the simulator."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.domain.errors import (
    AuthenticationError,
    CallError,
    ClosedError,
    InvalidRequestError,
    RateLimitError,
    ServiceError,
    SpendLimitError,
    TransportError,
)
from claude_force.domain.events import AnswerStarted, Event, TextDelta
from claude_force.domain.messages import SAMPLING_API_VERSION, TextBlock
from claude_force.provider.sdk import AnthropicSdkClient
from claude_force.resilience.classification import Action, action_for
from claude_force.simulator import Fault, FaultKind, Latency, Scenario, Simulator
from claude_force.simulator.faults import STOP_REASONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = 1_795_300_000.0
KINDS = ("direct", "sdk")


@pytest.fixture(scope="module", autouse=True)
def _sdk_is_imported() -> None:
    # Three seconds, once; and its 100,000 objects are not to be looked through after every test.
    import anthropic  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.asynccontextmanager
async def client_of(
    kind: str, lab: Any, base_url: str, *, idle_timeout_seconds: float = 10.0
) -> AsyncIterator[Any]:
    """A client of the kind, closed in the end."""
    if kind == "direct":
        direct = lab.client(
            base_url, idle_timeout_seconds=idle_timeout_seconds, wall_clock=lambda: NOW
        )
        yield direct
        await direct.aclose()
        return
    import anthropic
    import httpx2

    async with anthropic.AsyncAnthropic(
        api_key=lab.key,
        base_url=base_url,
        http_client=httpx2.AsyncClient(
            base_url=base_url,
            timeout=httpx2.Timeout(10.0, read=idle_timeout_seconds),
            # Nothing here is encrypted, and reading the authorities costs more than the call.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        ),
    ) as theirs:
        ours = AnthropicSdkClient(theirs, wall_clock=lambda: NOW)
        yield ours
        await ours.aclose()


def answered(lab: Any, kind: str, request: Any = None, **scenario: Any) -> tuple[Any, list[Event]]:
    """The response of one call, and the events it told."""
    fault = scenario.pop("fault", None)
    events: list[Event] = []

    async def main() -> Any:
        behaviour = Scenario(**scenario)
        async with (
            Simulator(scenario=behaviour, keep_requests=5) as sim,
            client_of(kind, lab, sim.base_url) as client,
        ):
            if fault is not None:
                sim.queue_fault(Fault(kind=fault))
            response = await client.send(request or lab.request(), events.append)
            return response, sim.requests[-1]

    response, record = lab.run(main())
    return (response, record), events


def failed(lab: Any, kind: str, fault: Fault, **options: Any) -> CallError:
    """The error of a call that meets the fault."""

    async def main() -> CallError:
        async with (
            Simulator(wall_clock=lambda: NOW) as sim,
            client_of(kind, lab, sim.base_url, **options) as client,
        ):
            sim.queue_fault(fault)
            with pytest.raises(CallError) as caught:
                await client.send(lab.request())
            # Sent once: neither of them retries by itself.
            assert sim.stats.requests == 1
            return caught.value

    error = lab.run(main())
    assert isinstance(error, CallError)
    assert lab.key not in str(error)
    assert str(error).isprintable()
    return error


def test_answer_comes_back_whole_with_its_facts(lab: Any, kind: str) -> None:
    (response, _), _ = answered(lab, kind)
    assert "no model" in response.text
    assert response.complete
    assert (response.model, response.stop_reason, response.attempts) == (
        "claude-sonnet-5-5",
        "end_turn",
        1,
    )
    assert response.usage.input_tokens > 0
    assert response.usage.output_tokens > 0
    assert response.request_id.startswith("req_")
    assert response.message_id.startswith("msg_")
    assert response.cost_usd is None


def test_both_clients_read_the_same_answer(lab: Any) -> None:
    texts = {answered(lab, kind, text_blocks=3, thinking=True)[0][0].text for kind in KINDS}
    assert len(texts) == 1


def test_text_is_every_text_block_in_order(lab: Any, kind: str) -> None:
    (one, _), _ = answered(lab, kind)
    (several, _), events = answered(lab, kind, text_blocks=4, chunk_tokens=5)
    assert several.text == one.text
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == one.text


def test_thinking_is_no_part_of_the_text(lab: Any, kind: str) -> None:
    (plain, _), _ = answered(lab, kind)
    (response, _), events = answered(lab, kind, thinking=True)
    assert response.text == plain.text
    assert "thinking" not in response.text
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == plain.text


def test_start_is_told_before_the_first_text(lab: Any, kind: str) -> None:
    (response, _), events = answered(lab, kind, chunk_tokens=3)
    assert isinstance(events[0], AnswerStarted)
    assert events[0].call_id == "call-1"
    assert events[0].request_id == response.request_id
    assert events[0].usage.input_tokens == response.usage.input_tokens
    assert [type(event) for event in events[1:]] == [TextDelta] * (len(events) - 1)
    assert len(events) > 1


@pytest.mark.parametrize("fault", STOP_REASONS, ids=str)
def test_every_stop_reason_arrives(lab: Any, kind: str, fault: FaultKind) -> None:
    (response, _), _ = answered(lab, kind, fault=fault)
    assert response.stop_reason == STOP_REASONS[fault]
    assert response.complete == (fault in {FaultKind.STOP_SEQUENCE, FaultKind.TOOL_USE})
    if fault is FaultKind.REFUSAL:
        assert response.stop_details["category"] == "general_harms"
    if fault is FaultKind.EMPTY_TEXT:
        assert response.text == ""


def test_usage_tells_the_prompt_cache_by_lifetime(lab: Any, kind: str) -> None:
    system = (
        TextBlock("Stays for an hour. " * 2000, cache_ttl="1h"),
        TextBlock("Stays for five minutes. " * 2000, cache_ttl="5m"),
    )

    async def main() -> None:
        async with Simulator() as sim, client_of(kind, lab, sim.base_url) as client:
            request = lab.request(system=system)
            first = (await client.send(request)).usage
            second = (await client.send(request)).usage
        assert first.cache_write_1h_tokens > 1000
        assert first.cache_write_5m_tokens > 1000
        assert first.cache_read_tokens == 0
        assert second.cache_read_tokens == first.cache_write_tokens
        assert second.cache_write_tokens == 0
        assert first.total_input_tokens == second.total_input_tokens

    lab.run(main())


def test_temperature_pins_the_version_that_still_takes_it(lab: Any, kind: str) -> None:
    request = lab.request(
        model="claude-haiku-4-5", temperature=0.5, api_version=SAMPLING_API_VERSION
    )
    (_, record), _ = answered(lab, kind, request)
    assert record.headers["anthropic-version"] == "2023-06-01"
    assert record.body["temperature"] == 0.5


def test_plain_request_names_the_current_version_and_no_sampling(lab: Any, kind: str) -> None:
    (_, record), _ = answered(lab, kind)
    assert record.headers["anthropic-version"] == "2026-10-21"
    assert record.body == {
        "model": "claude-sonnet-5-5",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Review this."}]}],
        "stream": True,
    }


def test_schema_and_effort_are_on_the_wire(lab: Any, kind: str) -> None:
    schema = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'
    (response, record), _ = answered(lab, kind, lab.request(effort="low", output_schema=schema))
    assert record.body["output_config"] == {
        "effort": "low",
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"n": {"type": "integer"}},
                "required": ["n"],
                "additionalProperties": False,
            },
        },
    }
    assert response.text.startswith('{"n":')


# Kind of fault, then class, status, type, code and what follows.
ERRORS: tuple[tuple[str, type[CallError], int, str, str | None, Action], ...] = (
    ("invalid_request", InvalidRequestError, 400, "invalid_request_error", None, Action.FAIL),
    ("usage_limit", SpendLimitError, 400, "invalid_request_error", None, Action.STOP_RUN),
    ("authentication", AuthenticationError, 401, "authentication_error", None, Action.STOP_RUN),
    ("billing", SpendLimitError, 402, "billing_error", None, Action.STOP_RUN),
    ("permission", AuthenticationError, 403, "permission_error", None, Action.STOP_RUN),
    ("not_found", InvalidRequestError, 404, "not_found_error", None, Action.FAIL),
    ("timeout", ServiceError, 408, "timeout_error", None, Action.RETRY),
    ("conflict", ServiceError, 409, "conflict_error", None, Action.RETRY),
    ("too_large", InvalidRequestError, 413, "request_too_large", None, Action.FAIL),
    ("unprocessable", InvalidRequestError, 422, "invalid_request_error", None, Action.FAIL),
    ("rate_limit", RateLimitError, 429, "rate_limit_error", None, Action.RETRY_SHRINK),
    (
        *("enforced_spend_limit", SpendLimitError, 429, "rate_limit_error"),
        *("enforced_spend_limit_reached", Action.STOP_RUN),
    ),
    (
        *("contract_spend_limit", SpendLimitError, 429, "rate_limit_error"),
        *("contract_spend_limit_reached", Action.STOP_RUN),
    ),
    (
        *("ramp_limit", RateLimitError, 429, "rate_limit_error"),
        *("ramp_limit_exceeded", Action.RETRY_SLOWER),
    ),
    ("api_error", ServiceError, 500, "api_error", None, Action.RETRY),
    ("unavailable", ServiceError, 503, "api_error", None, Action.RETRY),
    ("gateway_timeout", ServiceError, 504, "timeout_error", None, Action.RETRY),
    ("overloaded", ServiceError, 529, "overloaded_error", None, Action.RETRY),
)


@pytest.mark.parametrize("row", ERRORS, ids=[row[0] for row in ERRORS])
def test_every_row_of_the_error_table_has_its_class_and_action(
    lab: Any, kind: str, row: Any
) -> None:
    fault, error_class, status, error_type, code, action = row
    error = failed(lab, kind, Fault(kind=fault))
    assert type(error) is error_class
    assert (error.status, error.error_type, error.error_code) == (status, error_type, code)
    assert action_for(error) is action
    assert error.request_id is not None
    assert error.request_id.startswith("req_")
    assert error.usages == ()
    assert error.attempts == 1


@pytest.mark.parametrize(
    ("form", "seconds"), [("seconds", 7.0), ("date", 7.0), ("ms", 7.0), ("none", None)]
)
def test_every_form_of_retry_after_is_read(
    lab: Any, kind: str, form: Any, seconds: float | None
) -> None:
    fault = Fault(kind=FaultKind.RATE_LIMIT, retry_after=form, retry_after_seconds=7)
    assert failed(lab, kind, fault).retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("fault", "should_retry", "action"),
    [
        ("overloaded", False, Action.FAIL),
        ("overloaded", True, Action.RETRY),
        ("invalid_request", True, Action.RETRY),
        ("enforced_spend_limit", True, Action.STOP_RUN),
    ],
)
def test_x_should_retry_is_obeyed_except_for_a_spend_cap(
    lab: Any, kind: str, fault: Any, should_retry: bool, action: Action
) -> None:
    error = failed(lab, kind, Fault(kind=fault, should_retry=should_retry))
    assert error.should_retry is should_retry
    assert action_for(error) is action


@pytest.mark.parametrize(
    "fault", ["cut", "reset_stream", "stall", "bad_json", "bad_utf8", "early_end"]
)
def test_fault_inside_a_stream_is_a_transport_error_that_keeps_what_was_billed(
    lab: Any, kind: str, fault: Any
) -> None:
    error = failed(lab, kind, Fault(kind=fault), idle_timeout_seconds=0.4)
    assert type(error) is TransportError
    assert action_for(error) is Action.RETRY
    assert len(error.usages) == 1
    assert error.usage.input_tokens > 0
    assert error.request_id is not None


@pytest.mark.parametrize(
    ("fault", "error_class", "error_type"),
    [
        ("error_overloaded", ServiceError, "overloaded_error"),
        ("error_api", ServiceError, "api_error"),
        ("error_rate_limit", RateLimitError, "rate_limit_error"),
    ],
)
def test_error_event_is_the_error_it_names_and_keeps_what_was_billed(
    lab: Any, kind: str, fault: Any, error_class: type[CallError], error_type: str
) -> None:
    error = failed(lab, kind, Fault(kind=fault))
    assert type(error) is error_class
    assert error.error_type == error_type
    assert action_for(error) in {Action.RETRY, Action.RETRY_SHRINK}
    assert error.usage.input_tokens > 0


@pytest.mark.parametrize("fault", ["close", "reset", "garbage"])
def test_connection_that_ends_without_an_answer_is_a_transport_error(
    lab: Any, kind: str, fault: Any
) -> None:
    error = failed(lab, kind, Fault(kind=fault))
    assert type(error) is TransportError
    assert error.usages == ()


def test_slow_headers_end_at_the_idle_timeout(lab: Any, kind: str) -> None:
    error = failed(lab, kind, Fault(kind=FaultKind.SLOW_HEADERS), idle_timeout_seconds=0.3)
    assert type(error) is TransportError


@pytest.mark.parametrize("fault", ["slow_headers", "stall"])
@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_cancellation_passes_through_and_frees_the_socket(
    lab: Any, kind: str, fault: Any, how: str
) -> None:
    async def main() -> None:
        async with Simulator() as sim, client_of(kind, lab, sim.base_url) as client:
            sim.queue_fault(Fault(kind=fault))
            call = asyncio.ensure_future(client.send(lab.request()))
            while sim.stats.requests < 1:  # noqa: ASYNC110 - the simulator counts, and tells nobody
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            if how == "cancel":
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
            else:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await call
            await asyncio.sleep(0.1)
            assert sim.stats.open_connections == 0
            # The client goes on working.
            assert (await client.send(lab.request())).complete

    lab.run(main())


def test_no_cancellation_is_swallowed(lab: Any, kind: str) -> None:
    chance = random.Random(11)  # noqa: S311 - a seed, so that a failure comes again

    async def one(client: Any) -> str:
        call = asyncio.ensure_future(client.send(lab.request()))
        await asyncio.sleep(chance.random() * 0.05)
        was_done = call.done()
        call.cancel()
        try:
            await call
        except asyncio.CancelledError:
            return "cancelled"
        return "answered" if was_done else "swallowed"

    async def main() -> None:
        latency = Latency(distribution="fixed", first_event_median_seconds=0.02)
        slow = Scenario(latency=latency, chunk_tokens=10)
        async with Simulator(scenario=slow) as sim, client_of(kind, lab, sim.base_url) as client:
            outcomes: list[str] = []
            for _ in range(20):
                outcomes += await asyncio.gather(*(one(client) for _ in range(10)))
            assert outcomes.count("swallowed") == 0
            assert outcomes.count("cancelled") > 50

    lab.run(main())


@pytest.mark.parametrize("error", [KeyError, ValueError, RuntimeError, TimeoutError])
def test_what_a_listener_raises_ends_the_call(lab: Any, kind: str, error: type[Exception]) -> None:
    def listen(event: Event) -> None:
        raise error("of the listener")

    async def main() -> None:
        async with Simulator() as sim, client_of(kind, lab, sim.base_url) as client:
            with pytest.raises(error, match="of the listener"):
                await client.send(lab.request(), listen)
            await asyncio.sleep(0.05)
            assert sim.stats.open_connections == 0

    lab.run(main())


def test_closed_client_says_so(lab: Any, kind: str) -> None:
    async def main() -> None:
        async with Simulator() as sim, client_of(kind, lab, sim.base_url) as client:
            await client.aclose()
            await client.aclose()
            with pytest.raises(ClosedError, match="make a new one"):
                await client.send(lab.request())
            assert sim.stats.requests == 0

    lab.run(main())
