"""Attempts that break off cost money too: no retry overshoots a budget."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import AgentOutcome, AgentResult
from claude_force.domain.errors import BudgetExceededError, CallError, TransportError
from claude_force.domain.events import AttemptFailed, Event
from claude_force.simulator import Fault, FaultKind, SimulatorThread

if TYPE_CHECKING:
    from tests.conftest import MakeAsync, Project

# The prompt is nearly all that a call costs, and the API charges it for every attempt. Marks would change its price.
LONG = "word " * 15_000
CUT = Fault(kind=FaultKind.CUT, after_bytes=600, times=10_000)
BUDGETS = ["per_call_usd", "per_run_usd", "per_day_usd", "per_agent_usd"]


def ask(make_force: MakeAsync, *, told: list[Event] | None = None, **options: Any) -> Any:
    """The result or the error of one call with a long prompt."""

    async def main() -> Any:
        listeners = [] if told is None else [told.append]
        async with make_force(
            enable_cache=False, prompt_cache=False, listeners=listeners, **options
        ) as force:
            try:
                return await force.run_agent("alpha", LONG, max_tokens=400)
            except (CallError, BudgetExceededError) as error:
                return error

    return asyncio.run(main())


def worst_case_usd(make_force: MakeAsync) -> Decimal:
    """What one attempt can cost at the most, rounded up."""
    error = ask(make_force, budget_usd=0)
    return Decimal(str(error).split("up to $")[1].split(",")[0]) + Decimal("0.000001")


def budget(kind: str, amount: Decimal) -> dict[str, Any]:
    return {kind: {"alpha": str(amount)} if kind == "per_agent_usd" else str(amount)}


@pytest.mark.parametrize("kind", BUDGETS)
def test_retry_that_does_not_fit_is_not_sent_and_says_so(
    make_force: MakeAsync, simulator: SimulatorThread, project: Project, kind: str
) -> None:
    worst = worst_case_usd(make_force)
    project.config(budgets=budget(kind, worst))
    simulator.queue_fault(CUT)
    told: list[Event] = []
    error = ask(make_force, told=told)
    assert isinstance(error, TransportError)
    assert "It is not sent again: This call can cost up to $" in str(error)
    assert "budget" in str(error)
    # What it cost is counted, and told.
    assert error.attempts == len(error.usages) == simulator.stats.requests == 1
    assert error.cost_usd is not None
    assert Decimal(0) < error.cost_usd < worst
    failed = [event for event in told if isinstance(event, AttemptFailed)]
    assert [event.retry_in_seconds for event in failed] == [None]


@pytest.mark.parametrize("kind", BUDGETS)
def test_retry_that_fits_is_sent_and_every_attempt_is_counted_once(
    make_force: MakeAsync, simulator: SimulatorThread, project: Project, kind: str
) -> None:
    worst = worst_case_usd(make_force)
    # What a cut attempt costs is less than the worst case, so two of them leave room for a third.
    project.config(budgets=budget(kind, worst * 3))
    simulator.queue_fault(Fault(kind=FaultKind.CUT, after_bytes=600, times=2))
    result = ask(make_force)
    assert isinstance(result, AgentResult)
    assert (result.attempts, len(result.lost_usages)) == (3, 2)
    assert result.cost_usd is not None
    assert result.cost_usd <= worst * 3


def test_attempt_that_used_nothing_leaves_the_budget_as_it_was(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.OVERLOADED, times=2, retry_after="none"))
    result = ask(make_force, budget_usd=worst_case_usd(make_force))
    assert isinstance(result, AgentResult)
    assert result.attempts == 3


def test_calls_whose_attempts_break_off_never_overshoot_together(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    limit = worst_case_usd(make_force) * Decimal("6.5")
    for number in range(60):
        # Half of the calls lose an attempt or two, the rest none.
        if times := number % 4 % 3:
            simulator.queue_fault(
                Fault(kind=FaultKind.CUT, after_bytes=600, match=f"({number})", times=times)
            )

    async def main() -> list[AgentOutcome]:
        async with make_force(enable_cache=False, budget_usd=limit, max_concurrent=1) as force:
            calls = [("alpha", f"({number}) {LONG}") for number in range(60)]
            return [one async for one in force.run_many(calls)]

    outcomes = asyncio.run(main())
    costs = [one.cost_usd for one in outcomes]
    spent = sum((cost for cost in costs if cost is not None), Decimal(0))
    assert None not in costs
    assert Decimal(0) < spent <= limit
    assert any(one.ok and one.result is not None and one.result.lost_usages for one in outcomes)
    assert any(isinstance(one.error, BudgetExceededError) for one in outcomes)


def test_next_model_of_a_chain_has_what_the_first_one_left_of_the_budget_of_the_call(
    make_force: MakeAsync, simulator: SimulatorThread, project: Project
) -> None:
    worst = worst_case_usd(make_force)
    project.config(budgets={"per_call_usd": str(worst)})
    simulator.queue_fault(
        Fault(kind=FaultKind.CUT, after_bytes=600, match="claude-sonnet", times=9)
    )

    async def main() -> TransportError:
        async with make_force(enable_cache=False, prompt_cache=False, max_retries=0) as force:
            with pytest.raises(TransportError) as caught:
                await force.run_agent(
                    "alpha", LONG, max_tokens=400, fallback=("claude-sonnet-4-6",)
                )
            return caught.value

    error = asyncio.run(main())
    assert "claude-sonnet-4-6 was not asked: This call can cost up to $" in str(error)
    assert "the call's budget" in str(error)
    assert error.cost_usd is not None
    assert error.cost_usd > 0
    assert simulator.stats.requests == 1
