from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import (
    AgentCall,
    AgentOutcome,
    AgentResult,
    InvalidRequestError,
    PartialFailureError,
    SpendLimitError,
)
from claude_force.simulator import Fault, FaultKind, Latency, Scenario, SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import MakeAsync

NEVER_ENDS = Fault(kind=FaultKind.STALL, after_bytes=1_000)
# Long enough that requests overlap, however slow this machine is.
OVERLAPPING = Scenario(
    latency=Latency(
        distribution="fixed", first_event_median_seconds=0.05, output_tokens_per_second=1e9
    )
)
EIGHT = [("alpha", f"good {n}") for n in range(8)]


def test_texts_come_in_the_order_of_the_calls(make_force: MakeAsync) -> None:
    async def main() -> list[str]:
        async with make_force() as force:
            return await force.execute_multiple([*EIGHT, ("beta", "last")])

    texts = asyncio.run(main())
    assert ["You are beta." in text for text in texts] == [False] * 8 + [True]
    assert all(f"> good {n}" in text for n, text in enumerate(texts[:8]))


def test_no_calls_are_no_texts(make_force: MakeAsync) -> None:
    async def main() -> list[str]:
        async with make_force() as force:
            return await force.execute_multiple([])

    assert asyncio.run(main()) == []


@pytest.mark.parametrize(
    "bad", [("nobody", "x"), ("al pha", "x"), ("alpha", ""), ("alpha", "x" * 100_001)]
)
def test_eight_good_and_one_that_cannot_be_sent_send_nothing(
    make_force: MakeAsync, simulator: SimulatorThread, bad: tuple[str, str]
) -> None:
    async def main() -> None:
        async with make_force() as force:
            with pytest.raises(ValueError, match=r"not found|Invalid agent name|empty|too large"):
                await force.execute_multiple([*EIGHT, bad])

    asyncio.run(main())
    assert simulator.stats.requests == 0


def test_eight_good_and_one_that_the_api_refuses_keep_eight_paid_results(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.INVALID_REQUEST, match="bad one"))

    async def main() -> PartialFailureError:
        async with make_force() as force:
            with pytest.raises(PartialFailureError) as caught:
                await force.execute_multiple([*EIGHT[:4], ("beta", "bad one"), *EIGHT[4:]])
            return caught.value

    error = asyncio.run(main())
    assert [outcome.index for outcome in error.outcomes] == list(range(9))
    assert [outcome.ok for outcome in error.outcomes] == [True] * 4 + [False] + [True] * 4
    texts = [outcome.result.text for outcome in error.outcomes if outcome.result is not None]
    assert len(texts) == 8
    assert isinstance(error.outcomes[4].error, InvalidRequestError)
    assert str(error).startswith("1 of 9 calls failed; the other 8 results are in the `outcomes`")
    assert "4 (beta): " in str(error)
    assert simulator.stats.answers == 8


@pytest.mark.parametrize(
    "kind",
    [FaultKind.MAX_TOKENS, FaultKind.REFUSAL, FaultKind.NO_STOP_REASON, FaultKind.EMPTY_TEXT],
)
def test_incomplete_answer_is_never_among_the_results(
    make_force: MakeAsync, simulator: SimulatorThread, kind: FaultKind
) -> None:
    simulator.queue_fault(Fault(kind=kind, match="good 3"))

    async def main() -> list[AgentOutcome]:
        async with make_force() as force:
            return [outcome async for outcome in force.run_many(EIGHT)]

    outcomes = sorted(asyncio.run(main()), key=lambda outcome: outcome.index)
    assert [outcome.ok for outcome in outcomes] == [True] * 3 + [False] + [True] * 4
    assert outcomes[3].result is None
    assert type(outcomes[3].error).__name__ == "IncompleteAnswerError"
    assert outcomes[3].cost_usd is not None
    assert outcomes[3].cost_usd > 0


def test_every_item_of_a_run_ends_with_its_index_and_id(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.NOT_FOUND, match="refused"))
    calls: list[AgentCall | tuple[str, str]] = [
        ("alpha", "plain"),
        AgentCall(agent_name="beta", task="with an id", item_id="mine"),
        ("alpha", "refused"),
        ("nobody", "x"),
        ("alpha", ""),
    ]

    async def main() -> list[AgentOutcome]:
        async with make_force() as force:
            return [outcome async for outcome in force.run_many(calls)]

    outcomes = sorted(asyncio.run(main()), key=lambda outcome: outcome.index)
    assert [(one.index, one.item_id, one.agent_name) for one in outcomes] == [
        (0, "0", "alpha"),
        (1, "mine", "beta"),
        (2, "2", "alpha"),
        (3, "3", "nobody"),
        (4, "4", "alpha"),
    ]
    kinds = [None if one.error is None else one.error.kind for one in outcomes]
    assert kinds == [None, None, "invalid_request", "agent_not_found", "task"]


def test_generator_of_5000_items_is_read_as_places_become_free(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    alive: weakref.WeakSet[AgentCall] = weakref.WeakSet()
    most = read = 0

    class Weighed(AgentCall):
        __slots__ = ("__weakref__",)

    def calls() -> Iterator[AgentCall]:
        nonlocal most, read
        for number in range(5_000):
            read += 1
            call = Weighed(agent_name="alpha", task=f"item {number}", max_tokens=50)
            alive.add(call)
            most = max(most, len(alive))
            yield call
            del call

    async def main() -> tuple[int, set[int]]:
        ahead, seen = 0, set[int]()
        async with make_force(enable_cache=False) as force:
            async for outcome in force.run_many(calls()):
                seen.add(outcome.index)
                ahead = max(ahead, read - len(seen))
        return ahead, seen

    simulator.use_scenario(Scenario(min_output_tokens=1, max_output_tokens=1))
    gc.collect()
    ahead, seen = asyncio.run(main())
    assert seen == set(range(5_000))
    # Two for each of the 10 places, as many finished ones that wait to be taken, and one in hand.
    assert ahead <= 45
    assert most <= 45


def test_leaving_early_cancels_what_is_under_way_and_leaves_nothing_running(
    make_force: MakeAsync, simulator: SimulatorThread, until: Callable[[Any], None]
) -> None:
    # The first item ends, everything after it would take for ever.
    simulator.queue_fault(
        Fault(kind=FaultKind.STALL, after_bytes=1_000, match="slow", times=10_000)
    )

    def calls() -> Iterator[tuple[str, str]]:
        yield "alpha", "quick"
        while True:
            yield "alpha", "slow"

    async def main() -> None:
        async with make_force(enable_cache=False) as force:
            async with aclosing(force.run_many(calls())) as outcomes:
                async for outcome in outcomes:
                    assert outcome.index == 0
                    break
            assert asyncio.all_tasks() == {asyncio.current_task()}
            until(lambda: simulator.stats.open_connections <= 1)

    asyncio.run(main())
    assert simulator.stats.answers == 1


def test_fault_of_the_items_reaches_the_reader(make_force: MakeAsync) -> None:
    def calls() -> Iterator[tuple[str, str]]:
        yield "alpha", "x"
        raise OSError("the list ends in the middle")

    async def main() -> None:
        async with make_force() as force:
            with pytest.raises(OSError, match="the list ends in the middle"):
                _ = [outcome async for outcome in force.run_many(calls())]
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@pytest.mark.parametrize("kind", [FaultKind.BILLING, FaultKind.ENFORCED_SPEND_LIMIT])
@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrent": 1, "enable_cache": False},
        {"max_concurrent": 4, "enable_cache": False},
        {"max_concurrent": 4, "enable_cache": True},
    ],
)
def test_spend_cap_sends_nothing_more_and_keeps_what_was_done(
    make_force: MakeAsync,
    simulator: SimulatorThread,
    kind: FaultKind,
    tasks_sent: Callable[[], list[str]],
    options: dict[str, Any],
) -> None:
    simulator.queue_fault(Fault(kind=kind, match="item 5", times=100))

    async def main() -> list[AgentOutcome]:
        async with make_force(**options) as force:
            calls = [("alpha", f"item {n}.") for n in range(50)]
            return [outcome async for outcome in force.run_many(calls)]

    outcomes = asyncio.run(main())
    assert sorted(outcome.index for outcome in outcomes) == list(range(50))
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    assert all(isinstance(outcome.error, SpendLimitError) for outcome in failed)
    assert simulator.stats.answers == 50 - len(failed)
    # What was on the wire beside the refused one may end, and nothing is sent after it.
    position = tasks_sent().index("item 5.")
    assert simulator.stats.requests - position <= options["max_concurrent"]
    unsent = [one.error for one in failed if one.index > 20]
    assert len(unsent) == 29
    assert all("Not sent, because the run was stopped" in str(error) for error in unsent)
    assert all(isinstance(error, SpendLimitError) and error.attempts == 0 for error in unsent)


def test_refused_key_stops_the_run_too(make_force: MakeAsync, simulator: SimulatorThread) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.AUTHENTICATION, times=1_000))

    async def main() -> list[AgentOutcome]:
        async with make_force(max_concurrent=2, enable_cache=False) as force:
            return [one async for one in force.run_many([("alpha", f"{n}") for n in range(100)])]

    outcomes = asyncio.run(main())
    assert len(outcomes) == 100
    assert simulator.stats.requests <= 2


def test_retry_after_a_spend_cap_is_not_sent(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    # Far longer than the test: the run does not wait for it either.
    simulator.queue_fault(
        Fault(
            kind=FaultKind.OVERLOADED, match="busy", retry_after="seconds", retry_after_seconds=60
        )
    )
    simulator.queue_fault(Fault(kind=FaultKind.BILLING, match="capped"))

    async def main() -> list[AgentOutcome]:
        # With one place the second call goes out once the first waits for its next attempt, never before.
        async with make_force(max_concurrent=1, enable_cache=False) as force:
            calls = [("alpha", "busy"), ("alpha", "capped")]
            return sorted([one async for one in force.run_many(calls)], key=lambda one: one.index)

    first, second = asyncio.run(asyncio.wait_for(main(), 45))
    assert isinstance(second.error, SpendLimitError)
    assert isinstance(first.error, SpendLimitError)
    assert (first.error.attempts, second.error.attempts) == (1, 1)
    assert simulator.stats.requests == 2


class TestConcurrencyBound:
    """`max_concurrent` holds on every path: the simulator counts what it answers at the same time."""

    @pytest.fixture
    def overlapping(self, simulator: SimulatorThread) -> SimulatorThread:
        simulator.use_scenario(OVERLAPPING)
        return simulator

    def test_in_run_many(self, make_force: MakeAsync, overlapping: SimulatorThread) -> None:
        async def main() -> None:
            async with make_force(max_concurrent=3) as force:
                await force.execute_multiple([("alpha", f"{n}") for n in range(12)])

        asyncio.run(main())
        assert overlapping.stats.max_concurrent_requests == 3

    def test_in_a_workflow(self, make_force: MakeAsync, overlapping: SimulatorThread) -> None:
        steps = [{"id": f"s{n}", "agent": "alpha", "task": f"{n}"} for n in range(12)]

        async def main() -> None:
            async with make_force(max_concurrent=3) as force:
                assert (await force.execute_workflow({"steps": steps}, "x")).ok

        asyncio.run(main())
        assert overlapping.stats.max_concurrent_requests == 3

    def test_over_all_kinds_of_calls_together(
        self, make_force: MakeAsync, overlapping: SimulatorThread
    ) -> None:
        steps = [{"id": f"s{n}", "agent": "alpha", "task": f"{n}"} for n in range(6)]

        async def main() -> None:
            async with make_force(max_concurrent=4) as force:

                async def stream(task: str) -> None:
                    async for _ in force.stream_agent("beta", task):
                        pass

                await asyncio.gather(
                    force.execute_multiple([("alpha", f"{n}") for n in range(6)]),
                    force.execute_workflow({"steps": steps}, "x"),
                    *(force.execute_agent("gamma", f"{n}") for n in range(6)),
                    *(force.execute_with_semaphore("beta", f"s{n}") for n in range(6)),
                    *(stream(f"t{n}") for n in range(6)),
                )

        asyncio.run(main())
        assert overlapping.stats.max_concurrent_requests == 4
        assert overlapping.stats.answers == 30

    def test_from_the_configuration(
        self, make_force: MakeAsync, overlapping: SimulatorThread, project: Any
    ) -> None:
        project.config(performance={"max_concurrent_agents": 2})

        async def main() -> None:
            async with make_force() as force:
                await force.execute_multiple([("alpha", f"{n}") for n in range(8)])

        asyncio.run(main())
        assert overlapping.stats.max_concurrent_requests == 2

    def test_over_threads_with_loops_of_their_own(
        self, make_force: MakeAsync, overlapping: SimulatorThread
    ) -> None:
        force = make_force(max_concurrent=3)
        together = threading.Barrier(6)
        results: list[AgentResult] = []

        async def ask(number: int) -> None:
            results.extend(
                await asyncio.gather(*(force.run_agent("alpha", f"{number}.{n}") for n in range(3)))
            )

        def work(number: int) -> None:
            together.wait()
            asyncio.run(ask(number))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asyncio.run(force.aclose())
        assert len(results) == 18
        assert overlapping.stats.max_concurrent_requests == 3


def test_chain_is_built_once_however_many_threads_make_the_first_call(
    make_force: MakeAsync,
) -> None:
    for _ in range(20):
        force = make_force()
        together = threading.Barrier(8)
        made: list[object] = []

        def work(force: Any = force, together: Any = together, made: Any = made) -> None:
            together.wait()
            made.append(force._runtime.client())

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(client) for client in made}) == 1
        asyncio.run(force.aclose())


def test_equal_calls_at_the_same_time_are_paid_once(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.use_scenario(OVERLAPPING)

    async def main() -> list[str]:
        async with make_force() as force:
            return await force.execute_multiple([("alpha", "the same")] * 8)

    assert len(set(asyncio.run(main()))) == 1
    assert simulator.stats.requests == 1
