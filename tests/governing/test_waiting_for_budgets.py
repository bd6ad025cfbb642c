"""Worst cases that calls under way hold: a run waits for them, and nothing of them stays behind."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.domain.errors import BudgetExceededError, CallTimeoutError, RunStoppedError
from claude_force.simulator import Fault, FaultKind, Latency, Scenario, SimulatorThread

if TYPE_CHECKING:
    from tests.conftest import MakeAsync, Project

    from claude_force import AgentOutcome, AgentResult, AsyncAgentOrchestrator

CALLS = [("alpha", f"question {n:02}") for n in range(60)]


def taking(seconds: float) -> Scenario:
    """Every answer takes that long."""
    return Scenario(
        latency=Latency(
            distribution="fixed",
            first_event_median_seconds=seconds,
            output_tokens_per_second=1e9,
        )
    )


@pytest.fixture
def worst_usd(make_force: MakeAsync) -> Decimal:
    """What one of the calls can cost at the most."""

    async def main() -> BudgetExceededError:
        async with make_force(budget_usd=0) as force:
            with pytest.raises(BudgetExceededError) as caught:
                await force.run_agent(*CALLS[0])
            return caught.value

    error = asyncio.run(main())
    assert error.budget == ("run", "")
    assert error.missing_usd is not None
    return error.missing_usd


async def outcomes_of(force: AsyncAgentOrchestrator, **options: Any) -> list[AgentOutcome]:
    return [one async for one in force.run_many(CALLS, **options)]


async def sent(simulator: SimulatorThread, requests: int) -> None:
    """Until so many requests have arrived."""
    for _ in range(2_000):
        if simulator.stats.requests >= requests:
            return
        await asyncio.sleep(0.01)
    raise AssertionError


def spent(outcomes: list[AgentOutcome]) -> Decimal:
    return sum((one.cost_usd or Decimal(0) for one in outcomes), Decimal(0))


@pytest.mark.parametrize("kind", ["per_run_usd", "per_day_usd", "per_agent_usd"])
def test_run_spends_its_budget_until_not_one_more_worst_case_fits(
    make_force: MakeAsync,
    project: Project,
    simulator: SimulatorThread,
    worst_usd: Decimal,
    kind: str,
) -> None:
    # Two worst cases at a time, and real costs of which dozens fit, but not sixty with one worst case on top.
    limit = worst_usd * Decimal("2.1")
    of_agent: Any = {"alpha": str(limit)}
    project.config(budgets={kind: of_agent if kind == "per_agent_usd" else str(limit)})

    async def main() -> list[AgentOutcome]:
        async with make_force(max_concurrent=20, enable_cache=False) as force:
            return await outcomes_of(force)

    outcomes = asyncio.run(main())
    assert len(outcomes) == len(CALLS)
    assert limit - worst_usd < spent(outcomes) <= limit
    assert {type(one.error) for one in outcomes if not one.ok} == {BudgetExceededError}


def test_run_whose_calls_are_cheap_is_done_although_their_worst_cases_never_fit_together(
    make_force: MakeAsync, simulator: SimulatorThread, worst_usd: Decimal
) -> None:
    # Some attempts break off: what waits is let go by the retries of others too.
    simulator.queue_fault(Fault(kind=FaultKind.CUT, after_bytes=600, times=3))

    async def main() -> list[AgentOutcome]:
        async with make_force(budget_usd=worst_usd * 6, max_concurrent=20) as force:
            return await outcomes_of(force)

    outcomes = asyncio.run(main())
    assert [one.error for one in outcomes if not one.ok] == []
    assert simulator.stats.answers == len(CALLS)


def test_stopped_run_does_not_wait_for_a_budget(
    make_force: MakeAsync, simulator: SimulatorThread, worst_usd: Decimal
) -> None:
    simulator.use_scenario(taking(0.6))

    async def main() -> list[AgentOutcome]:
        async with make_force(budget_usd=worst_usd * Decimal("2.5"), max_concurrent=20) as force:
            running = asyncio.create_task(outcomes_of(force))
            await sent(simulator, 2)
            force.stop()
            return await running

    outcomes = asyncio.run(main())
    assert sum(one.ok for one in outcomes) == simulator.stats.requests == 2
    assert {type(one.error) for one in outcomes if not one.ok} == {RunStoppedError}


def test_deadline_of_a_run_ends_the_wait_for_a_budget(
    make_force: MakeAsync, simulator: SimulatorThread, worst_usd: Decimal
) -> None:
    simulator.use_scenario(taking(20))

    async def main() -> list[AgentOutcome]:
        async with make_force(budget_usd=worst_usd * Decimal("2.5"), max_concurrent=20) as force:
            return await outcomes_of(force, timeout_seconds=0.5)

    outcomes = asyncio.run(main())
    assert {type(one.error) for one in outcomes} == {CallTimeoutError}


def test_cancelled_call_that_was_not_sent_leaves_the_budget_as_it_was(
    make_force: MakeAsync, simulator: SimulatorThread, worst_usd: Decimal
) -> None:
    simulator.use_scenario(taking(0.5))

    async def main() -> list[AgentResult]:
        async with make_force(
            budget_usd=worst_usd * Decimal("2.2"), max_concurrent=1, enable_cache=False
        ) as force:
            first = asyncio.create_task(force.run_agent(*CALLS[0]))
            await sent(simulator, 1)
            # It has reserved, and waits for a place.
            second = asyncio.create_task(force.run_agent(*CALLS[1]))
            await asyncio.sleep(0.1)
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            third = asyncio.create_task(force.run_agent(*CALLS[2]))
            return [await first, await third]

    results = asyncio.run(main())
    assert [bool(result.text) for result in results] == [True, True]
    assert simulator.stats.requests == 2


def test_cancelled_call_that_was_sent_counts_with_its_worst_case(
    make_force: MakeAsync, simulator: SimulatorThread, worst_usd: Decimal
) -> None:
    simulator.use_scenario(taking(20))

    async def main() -> BudgetExceededError:
        async with make_force(budget_usd=worst_usd * Decimal("1.5")) as force:
            first = asyncio.create_task(force.run_agent(*CALLS[0]))
            await sent(simulator, 1)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            with pytest.raises(BudgetExceededError) as caught:
                await force.run_agent(*CALLS[1])
            return caught.value

    assert "held by calls under way" not in str(asyncio.run(main()))
