"""Retries, deadlines, spend caps and the breaker, by the public door."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import KEY

from claude_force import AgentOutcome, RateLimitError, ServiceError, SpendLimitError
from claude_force.domain.errors import (
    AuthenticationError,
    CircuitOpenError,
    InvalidRequestError,
    TransportError,
)
from claude_force.domain.messages import CallContext, Message, MessageRequest, TextBlock
from claude_force.provider.messages_api import MessagesApiClient
from claude_force.provider.resilient import ResilientClient
from claude_force.resilience.circuit_breakers import CircuitBreakers
from claude_force.resilience.governor import Governor
from claude_force.resilience.retries import RetryPolicy
from claude_force.simulator import Fault, FaultKind, SimulatorThread

if TYPE_CHECKING:
    from tests.conftest import MakeAsync


def run_one(make_force: MakeAsync, **options: Any) -> Exception:
    """The error of one call."""

    async def main() -> Exception:
        async with make_force(**options) as force:
            with pytest.raises(Exception) as caught:  # noqa: PT011 - the test looks at it
                await force.run_agent("alpha", "x")
            return caught.value

    return asyncio.run(main())


@pytest.mark.parametrize("max_retries", [0, 1, 2])
def test_max_retries_is_requests_minus_one(
    make_force: MakeAsync, simulator: SimulatorThread, max_retries: int
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.CONFLICT, times=10, retry_after="none"))
    error = run_one(make_force, max_retries=max_retries)
    assert isinstance(error, ServiceError)
    assert simulator.stats.requests == error.attempts == max_retries + 1


def test_should_retry_false_is_obeyed(make_force: MakeAsync, simulator: SimulatorThread) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.OVERLOADED, times=10, should_retry=False))
    assert isinstance(run_one(make_force, max_retries=5), ServiceError)
    assert simulator.stats.requests == 1


@pytest.mark.parametrize("form", ["seconds", "date", "ms"])
def test_retry_after_beyond_the_deadline_is_an_error_at_once(
    make_force: MakeAsync, simulator: SimulatorThread, form: Any
) -> None:
    simulator.queue_fault(
        Fault(kind=FaultKind.RATE_LIMIT, times=10, retry_after=form, retry_after_seconds=300)
    )
    began = time.monotonic()
    error = run_one(make_force, timeout_seconds=60, max_retries=5)
    assert isinstance(error, RateLimitError)
    # A date has whole seconds.
    asked = re.search(
        r"It asks to wait (\d+) s, longer than the 60 s that this call has left", str(error)
    )
    assert asked is not None
    assert 298 <= int(asked[1]) <= 300
    assert simulator.stats.requests == 1
    # Far less than the deadline or the demanded pause.
    assert time.monotonic() - began < 20


def test_pause_of_the_api_turns_away_who_cannot_wait_for_it_unsent(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(
        Fault(kind=FaultKind.RATE_LIMIT, retry_after="seconds", retry_after_seconds=300)
    )

    async def main() -> list[AgentOutcome]:
        async with make_force(timeout_seconds=60, max_concurrent=1) as force:
            return [one async for one in force.run_many([("alpha", f"x {n}") for n in range(20)])]

    outcomes = asyncio.run(main())
    assert {type(one.error) for one in outcomes} == {RateLimitError}
    assert [str(one.error).count("longer than the") for one in outcomes] == [1] * 20
    assert simulator.stats.requests == 1


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.BILLING,
        FaultKind.USAGE_LIMIT,
        FaultKind.ENFORCED_SPEND_LIMIT,
        FaultKind.CONTRACT_SPEND_LIMIT,
    ],
)
def test_spend_cap_stops_the_run_and_keeps_what_was_finished(
    make_force: MakeAsync, simulator: SimulatorThread, kind: FaultKind
) -> None:
    simulator.queue_fault(Fault(kind=kind, match="question 20", times=99))

    async def main() -> list[AgentOutcome]:
        async with make_force(max_concurrent=2) as force:
            calls = [("alpha", f"question {n}") for n in range(200)]
            return [one async for one in force.run_many(calls)]

    outcomes = sorted(asyncio.run(main()), key=lambda one: one.index)
    assert len(outcomes) == 200
    finished = [one for one in outcomes if one.ok]
    # What was asked before, and at most what was on the wire beside it.
    assert {one.index for one in finished} >= set(range(18))
    assert simulator.stats.requests == len(finished) + 1
    assert simulator.stats.requests <= 26
    assert {type(one.error) for one in outcomes if not one.ok} == {SpendLimitError}


@pytest.mark.parametrize("kind", [FaultKind.AUTHENTICATION, FaultKind.PERMISSION])
def test_refused_key_stops_the_run_at_once_and_keeps_what_was_finished(
    make_force: MakeAsync, simulator: SimulatorThread, kind: FaultKind
) -> None:
    simulator.queue_fault(Fault(kind=kind, match="question 20", times=99))

    async def main() -> list[AgentOutcome]:
        async with make_force(max_concurrent=2) as force:
            calls = [("alpha", f"question {n}") for n in range(500)]
            return [one async for one in force.run_many(calls)]

    outcomes = sorted(asyncio.run(main()), key=lambda one: one.index)
    finished = [one for one in outcomes if one.ok]
    assert {one.index for one in finished} >= set(range(18))
    assert simulator.stats.requests == len(finished) + 1 <= 26
    errors = [one.error for one in outcomes if one.error is not None]
    assert {type(error) for error in errors} == {AuthenticationError}
    refused = [error for error in errors if not str(error).startswith("Not sent")]
    assert [error.status for error in refused if isinstance(error, AuthenticationError)] == [
        401 if kind is FaultKind.AUTHENTICATION else 403
    ]


def test_page_in_place_of_an_answer_is_asked_again(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.WRONG_CONTENT_TYPE))

    async def main() -> int:
        async with make_force() as force:
            return (await force.run_agent("alpha", "x")).attempts

    assert asyncio.run(main()) == 2


def test_page_that_stays_is_an_error_that_asks_for_the_base_url(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.WRONG_CONTENT_TYPE, times=99))
    error = run_one(make_force, max_retries=1)
    assert type(error) is TransportError
    assert "content type 'text/html" in str(error)
    assert "Is the base URL right?" in str(error)
    assert simulator.stats.requests == 2


def test_breaker_opens_after_five_failures_and_then_sends_nothing(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.use_scenario("outage")

    async def main() -> list[AgentOutcome]:
        async with make_force(max_retries=0, max_concurrent=1) as force:
            return [one async for one in force.run_many([("alpha", f"x {n}") for n in range(50)])]

    outcomes = asyncio.run(main())
    assert simulator.stats.requests == 5
    refused = [one.error for one in outcomes if isinstance(one.error, CircuitOpenError)]
    assert len(refused) == 45
    assert refused[0].attempts == 0
    assert "has failed 5 times in a row" in str(refused[0])


def test_breaker_that_is_open_is_open_for_the_next_orchestrator_too(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.use_scenario("outage")

    async def main() -> None:
        async with make_force(max_retries=0, max_concurrent=1) as force:
            async for _ in force.run_many([("alpha", f"x {n}") for n in range(6)]):
                pass
        async with make_force(max_retries=0) as second:
            with pytest.raises(CircuitOpenError):
                await second.run_agent("beta", "y")

    asyncio.run(main())
    assert simulator.stats.requests == 5


def test_error_of_the_request_never_opens_the_breaker(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.INVALID_REQUEST, times=20))

    async def main() -> list[AgentOutcome]:
        async with make_force(max_retries=0) as force:
            return [one async for one in force.run_many([("alpha", f"x {n}") for n in range(20)])]

    assert {type(one.error) for one in asyncio.run(main())} == {InvalidRequestError}
    assert simulator.stats.requests == 20


def test_one_probe_an_interval_through_half_an_hour_of_outage_and_recovery_at_the_next(
    simulator: SimulatorThread,
) -> None:
    simulator.use_scenario("outage")
    now = 1_800_000_000.0

    async def main() -> list[int]:
        nonlocal now
        client = ResilientClient(
            MessagesApiClient(api_key=KEY, base_url=simulator.base_url),
            governor=Governor(max_concurrent=10),
            breakers=CircuitBreakers(wall_clock=lambda: now),
            origin=simulator.base_url,
            policy=RetryPolicy(max_retries=0),
            timeout_seconds=30,
        )
        sent = []
        for _ in range(5):
            with pytest.raises(ServiceError):
                await client.send(request())
        for _ in range(30):
            before = simulator.stats.requests
            now += 60
            found = await asyncio.gather(
                *(client.send(request()) for _ in range(10)), return_exceptions=True
            )
            assert sum(isinstance(one, CircuitOpenError) for one in found) == 9
            sent.append(simulator.stats.requests - before)
        simulator.use_scenario("instant")
        now += 60
        await client.send(request())
        found = await asyncio.gather(*(client.send(request()) for _ in range(10)))
        assert len(found) == 10
        await client.aclose()
        return sent

    assert asyncio.run(main()) == [1] * 30


def request() -> MessageRequest:
    return MessageRequest(
        model="claude-sonnet-5-5",
        system=(TextBlock("You are a test."),),
        messages=(Message("user", (TextBlock("Say something."),)),),
        max_tokens=100,
        context=CallContext(agent_name="alpha"),
    )
