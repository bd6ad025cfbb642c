"""Equal calls at the same time are one request: in a process, over loops and threads, over processes."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from claude_force import (
    NO_CACHE,
    REFRESH_CACHE,
    AgentResult,
    CacheUse,
    CallFinished,
    InvalidRequestError,
    TextDelta,
)
from claude_force.simulator import Fault, FaultKind, Scenario, SimulatorThread

if TYPE_CHECKING:
    from pathlib import Path

    from tests.caching.conftest import AnswerFile, Ask, Eventually, StartCaller
    from tests.conftest import MakeAsync, MakeBlocking, Until

    from claude_force import Event

Paid = Callable[[], int]
STALL = Fault(kind=FaultKind.STALL, after_bytes=0)


def test_fifty_equal_calls_at_once_make_one_request(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread, unhurried: Scenario
) -> None:
    simulator.use_scenario(unhurried)

    async def main() -> list[AgentResult]:
        async with make_force(cache_dir=cache_dir) as force:
            return await asyncio.gather(
                *[force.run_agent("alpha", "Look at this") for _ in range(50)]
            )

    results = asyncio.run(main())
    assert simulator.stats.requests == 1
    assert len({result.text for result in results}) == 1
    paying = [result for result in results if result.cached is None]
    assert len(paying) == 1
    for result in results:
        if result.cached is not None:
            assert result.cost_usd == 0
            assert result.cached.saved_usd == paying[0].cost_usd
            assert result.attempts == 0


def test_different_calls_in_the_same_crowd_are_each_made_once(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread
) -> None:
    async def main() -> list[str]:
        async with make_force(cache_dir=cache_dir) as force:
            return await force.execute_multiple(
                [("alpha", f"Look at {number % 7}") for number in range(70)]
            )

    texts = asyncio.run(main())
    assert len(set(texts)) == 7
    assert all(f"> Look at {number % 7}\n" in text for number, text in enumerate(texts))
    assert simulator.stats.requests == 7
    assert set(simulator.stats.answers_by_fingerprint.values()) == {1}


def test_four_processes_with_ten_equal_calls_each_make_one_request(
    start_caller: StartCaller, simulator: SimulatorThread, unhurried: Scenario
) -> None:
    simulator.use_scenario(unhurried)
    callers = [start_caller(10) for _ in range(4)]
    for caller in callers:
        caller.ready()
    for caller in callers:
        caller.go()
    told = [caller.result() for caller in callers]
    assert simulator.stats.requests == 1
    assert sum(each["paid"] for each in told) == 1
    assert all(each["texts"] == told[0]["texts"] for each in told)
    assert len(told[0]["texts"]) == 1


def test_a_leader_that_is_killed_hands_over_within_seconds(
    start_caller: StartCaller, simulator: SimulatorThread, until: Until, answers: AnswerFile
) -> None:
    # Its request is never answered.
    simulator.queue_fault(STALL)
    leader = start_caller(3)
    leader.ready()
    leader.go()
    until(lambda: simulator.stats.requests == 1)
    follower = start_caller(3)
    follower.ready()
    follower.go()
    leader.process.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    leader.process.wait(10)
    told = follower.result()
    assert time.monotonic() - killed_at < 20
    assert told["paid"] == 1
    assert len(told["texts"]) == 1
    assert simulator.stats.requests == 2
    assert answers.count() == 1


def test_a_follower_waits_for_the_leader_of_another_process(
    start_caller: StartCaller, simulator: SimulatorThread, until: Until
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.SLOW_HEADERS, seconds=1.0))
    leader, follower = start_caller(1), start_caller(1)
    leader.ready()
    follower.ready()
    leader.go()
    until(lambda: simulator.stats.requests == 1)
    follower.go()
    assert (leader.result()["paid"], follower.result()["paid"]) == (1, 0)
    assert simulator.stats.requests == 1


def test_a_cancelled_waiter_leaves_and_the_others_stay(
    make_force: MakeAsync,
    cache_dir: Path,
    simulator: SimulatorThread,
    unhurried: Scenario,
    eventually: Eventually,
) -> None:
    simulator.use_scenario(unhurried)

    async def main() -> list[AgentResult | BaseException]:
        async with make_force(cache_dir=cache_dir) as force:
            calls = [
                asyncio.create_task(force.run_agent("alpha", "Look at this")) for _ in range(5)
            ]
            await eventually(lambda: simulator.stats.requests == 1)
            for waiter in calls[1:4]:
                waiter.cancel()
            return await asyncio.gather(*calls, return_exceptions=True)

    first, *cancelled, last = asyncio.run(main())
    assert [type(each) for each in cancelled] == [asyncio.CancelledError] * 3
    assert isinstance(first, AgentResult)
    assert isinstance(last, AgentResult)
    assert first.text == last.text
    assert simulator.stats.requests == 1


def test_a_cancelled_leader_hands_over_to_one_of_those_who_wait(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread, eventually: Eventually
) -> None:
    simulator.queue_fault(STALL)

    async def main() -> list[AgentResult | BaseException]:
        async with make_force(cache_dir=cache_dir) as force:
            calls = [
                asyncio.create_task(force.run_agent("alpha", "Look at this")) for _ in range(5)
            ]
            await eventually(lambda: simulator.stats.requests == 1)
            calls[0].cancel()
            return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)

    leader, *others = asyncio.run(main())
    assert isinstance(leader, asyncio.CancelledError)
    results = [each for each in others if isinstance(each, AgentResult)]
    assert len(results) == 4
    assert sum(result.cached is None for result in results) == 1
    assert simulator.stats.requests == 2


def test_a_leader_that_runs_out_of_its_own_time_hands_over(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(STALL)

    async def main() -> list[AgentResult | BaseException]:
        async with make_force(cache_dir=cache_dir, max_retries=0) as force:
            hurried = force.run_agent("alpha", "Look at this", timeout_seconds=0.3)
            patient = [force.run_agent("alpha", "Look at this") for _ in range(3)]
            return await asyncio.gather(hurried, *patient, return_exceptions=True)

    hurried, *patient = asyncio.run(main())
    assert isinstance(hurried, TimeoutError)
    assert all(isinstance(each, AgentResult) and each.ok for each in patient)
    assert simulator.stats.requests == 2


def test_a_failed_flight_fails_all_that_wait_and_does_not_poison_the_next(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.INVALID_REQUEST))

    async def main() -> tuple[list[AgentResult | BaseException], list[AgentResult]]:
        async with make_force(cache_dir=cache_dir, max_retries=0) as force:
            calls = [force.run_agent("alpha", "Look at this") for _ in range(10)]
            failed = await asyncio.gather(*calls, return_exceptions=True)
            assert simulator.stats.requests == 1
            return failed, [await force.run_agent("alpha", "Look at this") for _ in range(2)]

    failed, (bought, hit) = asyncio.run(main())
    assert [type(error) for error in failed] == [InvalidRequestError] * 10
    assert bought.cached is None
    assert hit.cached is not None
    assert simulator.stats.requests == 2


def test_a_failure_in_one_process_does_not_hold_up_another(
    ask: Ask, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.INVALID_REQUEST))
    with pytest.raises(InvalidRequestError):
        ask(force={"max_retries": 0})
    assert ask().cached is None
    assert ask().cached is not None
    assert simulator.stats.requests == 2


def test_equal_calls_from_threads_with_loops_of_their_own_are_one_request(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread, unhurried: Scenario
) -> None:
    simulator.use_scenario(unhurried)
    shared = make_force(cache_dir=cache_dir)
    results: list[AgentResult] = []

    def work(number: int) -> None:
        async def main() -> None:
            # Half of the threads share an orchestrator, the others have one each.
            force = shared if number % 2 else make_force(cache_dir=cache_dir)
            calls = [force.run_agent("alpha", "Look at this") for _ in range(10)]
            results.extend(await asyncio.gather(*calls))
            if force is not shared:
                await force.aclose()

        asyncio.run(main())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(shared.aclose())
    assert len(results) == 60
    assert len({result.text for result in results}) == 1
    assert sum(result.cached is None for result in results) == 1
    assert simulator.stats.requests == 1


def test_equal_blocking_calls_from_threads_are_one_request(
    make_blocking: MakeBlocking, cache_dir: Path, simulator: SimulatorThread, unhurried: Scenario
) -> None:
    simulator.use_scenario(unhurried)
    results: list[AgentResult] = []
    with make_blocking(cache_dir=cache_dir) as force:
        threads = [
            threading.Thread(target=lambda: results.append(force.run_agent("alpha", "Look")))
            for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(result.cached is None for result in results) == 1
    assert len(results) == 10
    assert simulator.stats.requests == 1


def test_one_orchestrator_serves_one_loop_after_the_other(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread
) -> None:
    force = make_force(cache_dir=cache_dir)
    tiers = []
    for _ in range(3):
        result = asyncio.run(force.run_agent("alpha", "Look at this"))
        tiers.append(result.cached.tier if result.cached else None)
    asyncio.run(force.aclose())
    assert tiers == [None, "memory", "memory"]
    assert simulator.stats.requests == 1


def test_two_orchestrators_on_one_folder_see_each_other_at_once(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread
) -> None:
    async def main() -> None:
        async with make_force(cache_dir=cache_dir) as one, make_force(cache_dir=cache_dir) as other:
            for number in range(20):
                asks_first, asks_second = (one, other) if number % 2 else (other, one)
                bought = await asks_first.run_agent("alpha", f"Look at {number}")
                found = await asks_second.run_agent("alpha", f"Look at {number}")
                assert bought.cached is None
                assert found.cached is not None
                assert found.text == bought.text

    asyncio.run(main())
    assert simulator.stats.requests == 20


def test_a_waiter_streams_the_text_once(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread, unhurried: Scenario
) -> None:
    simulator.use_scenario(unhurried)

    async def main() -> list[list[Event]]:
        async with make_force(cache_dir=cache_dir) as force:

            async def stream() -> list[Event]:
                return [event async for event in force.stream_agent("alpha", "Look at this")]

            return await asyncio.gather(*[stream() for _ in range(4)])

    for events in asyncio.run(main()):
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        finished = events[-1]
        assert isinstance(finished, CallFinished)
        assert text == finished.result.text
    assert simulator.stats.requests == 1


def test_calls_that_want_no_cache_have_no_part_in_a_flight(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread
) -> None:
    async def main() -> None:
        async with make_force(cache_dir=cache_dir) as force:
            await asyncio.gather(
                *[force.run_agent("alpha", "Look at this", cache=NO_CACHE) for _ in range(5)]
            )

    asyncio.run(main())
    assert simulator.stats.requests == 5
    assert not cache_dir.exists()


def test_refreshing_at_once_asks_once(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread, unhurried: Scenario
) -> None:
    simulator.use_scenario(unhurried)

    async def main() -> list[AgentResult]:
        async with make_force(cache_dir=cache_dir) as force:
            await force.run_agent("alpha", "Look at this")
            return await asyncio.gather(
                *[force.run_agent("alpha", "Look at this", cache=REFRESH_CACHE) for _ in range(5)]
            )

    assert sum(result.cached is None for result in asyncio.run(main())) == 1
    assert simulator.stats.requests == 2


@pytest.mark.parametrize("use", [REFRESH_CACHE, CacheUse(max_age_seconds=0)])
def test_who_asks_anew_takes_nothing_old_from_the_flight_of_another(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread, ask: Ask, use: CacheUse
) -> None:
    ask()

    async def main() -> tuple[AgentResult, AgentResult, AgentResult]:
        async with make_force(cache_dir=cache_dir) as force:
            # The first one is looking on disk when the others come.
            return await asyncio.gather(
                force.run_agent("alpha", "Look at this"),
                force.run_agent("alpha", "Look at this", cache=use),
                force.run_agent("alpha", "Look at this", cache=use),
            )

    content, anew, too = asyncio.run(main())
    assert content.cached is not None
    assert content.cached.tier == "disk"
    assert anew.cached is None
    assert too.cached is not None
    assert too.cached.saved_usd == anew.cost_usd
    assert simulator.stats.requests == 2
