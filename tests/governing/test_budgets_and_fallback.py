"""Budgets and fallback chains, by the public door."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import AgentOutcome, AgentResult
from claude_force.domain.errors import (
    BudgetExceededError,
    ServiceError,
)
from claude_force.domain.events import Event, FellBack
from claude_force.simulator import Fault, FaultKind, Latency, Scenario, SimulatorThread

if TYPE_CHECKING:
    from tests.conftest import Cli, MakeAsync, Project

SONNET, HAIKU, OPUS = "claude-sonnet-5-5", "claude-haiku-4-5", "claude-opus-4-8"
# No call ends before all have asked for their share of the budget.
HELD = Scenario(
    latency=Latency(
        distribution="fixed", first_event_median_seconds=1.0, output_tokens_per_second=1e9
    )
)
HUNDRED = [("alpha", f"question {n:02}") for n in range(100)]


def outcomes_of(
    force_options: dict[str, Any], make_force: MakeAsync, calls: Any
) -> list[AgentOutcome]:
    async def main() -> list[AgentOutcome]:
        async with make_force(**force_options) as force:
            return [one async for one in force.run_many(calls)]

    return asyncio.run(main())


def run_one(make_force: MakeAsync, *, options: dict[str, Any] | None = None, **call: Any) -> Any:
    """The result or the error of one call."""

    async def main() -> Any:
        async with make_force(**(options or {})) as force:
            try:
                return await force.run_agent("alpha", "x", **call)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                return error

    return asyncio.run(main())


def worst_case_usd(make_force: MakeAsync) -> Decimal:
    """What one of the hundred calls can cost at the most: the smallest budget that lets it pass."""
    low, high = Decimal(0), Decimal(1)
    error = run_one(make_force, options={"budget_usd": low})
    assert isinstance(error, BudgetExceededError)
    words = str(error).split("up to $")[1].split(",")[0]
    return min(high, Decimal(words))


def test_hundred_concurrent_first_calls_against_a_budget_for_three_make_three(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    worst = worst_case_usd(make_force)
    simulator.use_scenario(HELD)

    async def main() -> list[Any]:
        async with make_force(budget_usd=worst * Decimal("3.5"), max_concurrent=100) as force:
            calls = (force.run_agent(name, task) for name, task in HUNDRED)
            return await asyncio.gather(*calls, return_exceptions=True)

    found = asyncio.run(main())
    assert sum(isinstance(one, AgentResult) for one in found) == 3
    assert sum(isinstance(one, BudgetExceededError) for one in found) == 97
    assert simulator.stats.requests == 3


def test_what_a_cheap_call_did_not_use_is_there_for_the_next(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    worst = worst_case_usd(make_force)

    async def main() -> list[AgentResult]:
        async with make_force(budget_usd=worst * Decimal("1.5")) as force:
            return [await force.run_agent("alpha", f"question {n}") for n in range(3)]

    results = asyncio.run(main())
    assert len(results) == simulator.stats.requests == 3
    # Together far below the budget, although two worst cases would not have fitted into it.
    assert sum(result.cost_usd or 0 for result in results) < worst


def test_answers_that_cost_are_spent_until_nothing_fits(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    worst = worst_case_usd(make_force)
    found = outcomes_of({"budget_usd": worst * 2, "max_concurrent": 1}, make_force, HUNDRED)
    spent = sum((one.result.cost_usd or Decimal(0) for one in found if one.result), Decimal(0))
    assert 1 < sum(one.ok for one in found) < 100
    assert spent <= worst * 2
    assert {type(one.error) for one in found if not one.ok} == {BudgetExceededError}


@pytest.mark.parametrize(
    ("budgets", "named"),
    [
        ({"per_call_usd": 0.0001}, "the call's budget"),
        ({"per_run_usd": "0.0001"}, "the run's budget"),
        ({"per_day_usd": 0.0001}, "the day's budget"),
        ({"per_agent_usd": {"alpha": 0.0001}}, "the agent's budget ('alpha')"),
    ],
)
def test_budget_of_claude_json_refuses_what_does_not_fit_unsent(
    project: Project,
    make_force: MakeAsync,
    simulator: SimulatorThread,
    budgets: dict[str, Any],
    named: str,
) -> None:
    project.config(budgets=budgets)
    error = run_one(make_force)
    assert isinstance(error, BudgetExceededError)
    assert named in str(error)
    assert simulator.stats.requests == 0


def test_budget_of_one_agent_leaves_the_others_alone(
    project: Project, make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    project.config(budgets={"per_agent_usd": {"alpha": 0}})
    found = outcomes_of({}, make_force, [("alpha", "x"), ("beta", "x")])
    assert {one.agent_name: one.ok for one in found} == {"alpha": False, "beta": True}


def test_budget_of_the_day_is_that_of_all_orchestrators(
    project: Project, make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    worst = worst_case_usd(make_force)
    project.config(budgets={"per_day_usd": str(worst * Decimal("1.2"))})

    async def until_refused() -> Decimal:
        spent = Decimal(0)
        async with make_force() as force:
            with pytest.raises(BudgetExceededError):  # noqa: PT012 - one of the calls, not the first
                for name, task in HUNDRED:
                    spent += (await force.run_agent(name, task)).cost_usd or 0
        return spent

    spent = asyncio.run(until_refused())
    # The last call was refused because what is left would not hold its worst case.
    assert worst * Decimal("0.19") < spent < worst * Decimal("1.2")
    error = run_one(make_force, max_tokens=4200)
    assert isinstance(error, BudgetExceededError)
    assert "the day's budget" in str(error)


def test_unknown_price_with_a_budget_is_an_error_that_says_so(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    error = run_one(make_force, options={"budget_usd": 100}, model="claude-unheard-of-9")
    assert isinstance(error, BudgetExceededError)
    assert "No price of the model 'claude-unheard-of-9' is known" in str(error)
    assert simulator.stats.requests == 0


def test_cached_answer_needs_no_budget(make_force: MakeAsync, simulator: SimulatorThread) -> None:
    assert isinstance(run_one(make_force), AgentResult)
    again = run_one(make_force, options={"budget_usd": 0})
    assert isinstance(again, AgentResult)
    assert again.cached is not None
    assert again.cost_usd == 0


def test_budget_option_of_the_command_exits_with_8_and_sends_nothing(
    cli: Cli, simulator: SimulatorThread
) -> None:
    run = cli("run", "agent", "alpha", "--task", "x", "--budget", "0.001")
    assert run.code == 8
    assert run.out == ""
    assert "It was not sent" in run.err
    assert simulator.stats.requests == 0


def down(model: str, kind: FaultKind = FaultKind.OVERLOADED, times: int = 50) -> Fault:
    return Fault(kind=kind, match=f'"model":"{model}"', times=times, retry_after="none")


def test_chain_of_the_call_is_followed_and_the_result_says_who_answered(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(down(SONNET))
    result = run_one(make_force, options={"max_retries": 1}, fallback=("haiku",))
    assert isinstance(result, AgentResult)
    assert result.model.startswith("claude-haiku")
    assert result.fallback_from == result.requested_model == SONNET
    assert result.attempts == 3
    assert "[simulated answer" in result.text


def test_chain_of_claude_json_is_followed_in_its_order(
    project: Project, make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    project.write(
        ".claude/agents/alpha.md", "---\nname: alpha\ndescription: d\n---\nYou are alpha.\n"
    )
    project.config(agents={"alpha": {"file": "agents/alpha.md", "fallback": ["opus", "haiku"]}})
    simulator.queue_fault(down(SONNET))
    result = run_one(make_force, options={"max_retries": 0})
    assert isinstance(result, AgentResult), result
    assert result.model.startswith("claude-opus")
    assert list(simulator.stats.requests_by_model) == [SONNET, result.model]


def test_model_that_is_gone_falls_back_at_once(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(down(SONNET, FaultKind.NOT_FOUND))
    result = run_one(make_force, fallback=("haiku",))
    assert isinstance(result, AgentResult)
    assert (result.fallback_from, result.attempts) == (SONNET, 2)


@pytest.mark.parametrize("kind", [FaultKind.INVALID_REQUEST, FaultKind.PERMISSION])
def test_fault_of_the_request_or_the_key_does_not_fall_back(
    make_force: MakeAsync, simulator: SimulatorThread, kind: FaultKind
) -> None:
    simulator.queue_fault(down(SONNET, kind))
    assert isinstance(run_one(make_force, fallback=("haiku",)), Exception)
    assert simulator.stats.requests == 1


def test_chain_that_fails_to_its_end_raises_the_last_error_with_all_attempts(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.use_scenario("outage")
    error = run_one(make_force, options={"max_retries": 1}, fallback=("haiku", "opus"))
    assert isinstance(error, ServiceError)
    assert error.attempts == simulator.stats.requests == 6


def test_cost_of_a_fallback_holds_what_the_first_model_broke_off(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(down(SONNET, FaultKind.CUT, times=2))
    fell = run_one(make_force, options={"max_retries": 1}, fallback=("haiku",))
    plain = run_one(make_force, options={"enable_cache": False}, model="haiku")
    assert isinstance(fell, AgentResult)
    assert isinstance(plain, AgentResult)
    assert len(fell.lost_usages) == 2
    assert fell.usage == plain.usage
    assert fell.cost_usd is not None
    assert plain.cost_usd is not None
    assert fell.cost_usd > plain.cost_usd


def test_answer_of_another_model_is_not_cached(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(down(SONNET, times=1))
    fell = run_one(make_force, options={"max_retries": 0}, fallback=("haiku",))
    again = run_one(make_force, options={"max_retries": 0}, fallback=("haiku",))
    assert fell.fallback_from == SONNET
    assert (again.model, again.fallback_from, again.cached) == (SONNET, None, None)


def test_fallback_is_told_as_an_event(make_force: MakeAsync, simulator: SimulatorThread) -> None:
    simulator.queue_fault(down(SONNET))
    events: list[Event] = []
    run_one(
        make_force,
        options={"max_retries": 0, "listeners": [events.append]},
        fallback=("haiku",),
    )
    (fell,) = [event for event in events if isinstance(event, FellBack)]
    assert SONNET in repr(fell)
    assert "haiku" in repr(fell)


def test_command_says_who_answered(cli: Cli, simulator: SimulatorThread) -> None:
    simulator.queue_fault(down(SONNET))
    run = cli(
        *("run", "agent", "alpha", "--task", "x", "--fallback", "haiku", "--max-retries", "0"),
        "--json",
    )
    assert run.code == 0
    assert run.json["fallback_from"] == SONNET
    assert run.json["model"].startswith("claude-haiku")


def test_rate_limit_beyond_the_deadline_falls_back(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(
        Fault(
            kind=FaultKind.RATE_LIMIT,
            match=f'"model":"{SONNET}"',
            retry_after="seconds",
            retry_after_seconds=500,
        )
    )
    result = run_one(make_force, fallback=("haiku",))
    assert isinstance(result, AgentResult), result
    assert result.fallback_from == SONNET
