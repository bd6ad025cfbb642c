"""What is said of many calls before they are made is what they then cost, on the simulator's books."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import (
    NO_CACHE,
    AgentCall,
    Attachment,
    BudgetFit,
    CallsPlan,
    InputError,
    open_metrics,
)
from claude_force.workflows.spans import Span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.conftest import Cli, MakeAsync, MakeBlocking, Project

    from claude_force.simulator import SimulatorThread

MAP = ("run", "map", "alpha", "--items", "items.jsonl", "--out", "out.jsonl")
# 6,000 tokens by the simulator's count.
GUIDE = "word " * 4560


def calls(count: int, **options: Any) -> list[AgentCall]:
    return [
        AgentCall(agent_name="alpha", task=f"Look at part {number}.", **options)
        for number in range(count)
    ]


def known(amount: Decimal | None) -> Decimal:
    assert amount is not None
    return amount


def paid(lines: Iterable[dict[str, Any]]) -> Decimal:
    return sum((Decimal(line["cost_usd"]) for line in lines), Decimal(0))


def test_many_calls_cost_what_their_plan_allows_and_nothing_a_second_time(
    make_force: MakeAsync, project: Project, simulator: SimulatorThread
) -> None:
    project.agent("alpha", GUIDE)

    async def main() -> tuple[CallsPlan, CallsPlan, Decimal]:
        async with make_force(api_key=None) as offline:
            before = await offline.plan_many(calls(30))
        assert simulator.stats.requests == 0
        async with make_force() as force:
            outcomes = [outcome async for outcome in force.run_many(calls(30))]
        async with make_force(api_key=None) as offline:
            after = await offline.plan_many(calls(30))
        cost = sum((known(outcome.cost_usd) for outcome in outcomes), Decimal(0))
        return before, after, cost

    before, after, cost = asyncio.run(main())
    assert before.calls == Span(30, 30, 30)
    assert simulator.stats.answers == 30
    assert known(before.cost_usd.least) <= cost <= known(before.cost_usd.most)
    with closing(open_metrics()) as metrics:
        saved = metrics.savings().value.prompt_cache_usd
    assert saved > Decimal("0.2")
    assert float(known(before.prompt_cache_saving_usd)) == pytest.approx(float(saved), rel=0.02)
    assert (after.all_cached, after.cached_calls, after.cost_usd.most) == (True, 30, Decimal(0))


def test_batch_costs_half_and_stays_within_its_plan(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    with make_blocking(prompt_cache=False) as force:
        live, batched = force.plan_many(calls(3)), force.plan_many(calls(3), batch=True)
        assert simulator.stats.requests == 0
        cost = sum((known(outcome.cost_usd) for outcome in force.run_batch(calls(3))), Decimal(0))
    for part in ("least", "expected", "most"):
        assert getattr(batched.cost_usd, part) * 2 == getattr(live.cost_usd, part)
    assert known(batched.cost_usd.least) <= cost <= known(batched.cost_usd.most)
    assert batched.seconds == 3600 > live.seconds


def test_what_is_in_a_batch_already_is_told(make_blocking: MakeBlocking) -> None:
    with make_blocking() as force:
        list(force.run_batch(calls(2), wait=False))
        plan = force.plan_many(calls(3), batch=True)
        assert (plan.calls.expected, plan.calls_in_batches) == (3, 2)
        list(force.run_batch(calls(2)))
        plan = force.plan_many(calls(3), batch=True)
    assert (plan.calls.expected, plan.cached_calls, plan.calls_in_batches) == (1, 2, 0)


def test_equal_calls_are_paid_once_where_the_run_pays_once(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    with make_blocking() as force:
        plan = force.plan_many([*calls(2), *calls(2)])
        assert (plan.calls.expected, plan.repeated_calls) == (2, 2)
        list(force.run_many([*calls(2), *calls(2)]))
        assert simulator.stats.answers == 2
        uncached = [*calls(2, cache=NO_CACHE)] * 2
        plan = force.plan_many(uncached)
        assert (plan.calls.expected, plan.repeated_calls) == (4, 0)
        list(force.run_many(uncached))
    assert simulator.stats.answers == 6


def test_each_agent_and_each_model_has_its_part(make_blocking: MakeBlocking) -> None:
    with make_blocking() as force:
        plan = force.plan_many([*calls(2), ("beta", "Look."), *calls(1, model="haiku")])
        parts = [(one.agent_name, one.model, one.calls.expected) for one in plan.agents]
        assert [(name, count) for name, _, count in parts] == [
            ("alpha", 2),
            ("beta", 1),
            ("alpha", 1),
        ]
        assert "haiku" in str(parts[2][1])
        assert plan.cost_usd.expected == sum(known(one.cost_usd.expected) for one in plan.agents)
        longer = force.plan_many(calls(2, continue_truncated=3))
        assert longer.calls == Span(2, 2, 8)
        with pytest.raises(InputError, match="continue_truncated"):
            force.plan_many(calls(2, continue_truncated=3), batch=True)
        with pytest.raises(InputError, match="nobody"):
            force.plan_many([("nobody", "Look.")])


def test_no_text_of_a_call_is_kept(make_blocking: MakeBlocking) -> None:
    long = (
        AgentCall(
            agent_name="alpha",
            task="Look.",
            files=(Attachment(f"part_{number}.txt", f"{number} word " * 20_000),),
        )
        for number in range(100)
    )
    with make_blocking() as force:
        force.plan_many(calls(1))
        tracemalloc.start()
        try:
            plan = force.plan_many(long)
            most_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    # All texts together are 14 MB.
    assert plan.calls.expected == 100
    assert most_bytes < 4_000_000


class TestBudgets:
    def fits(self, make_blocking: MakeBlocking, **options: Any) -> dict[str, BudgetFit]:
        with make_blocking(**options) as force:
            found = force.plan_many([*calls(2), ("beta", "Look.")])
        return {fit.scope: fit for fit in found.budgets}

    def test_none_has_nothing_to_say(self, make_blocking: MakeBlocking) -> None:
        assert self.fits(make_blocking) == {}

    def test_every_budget_is_held_against_what_counts_there(
        self, make_blocking: MakeBlocking, project: Project
    ) -> None:
        budgets = {"per_call_usd": 0.001, "per_agent_usd": {"beta": 1}, "per_day_usd": 0.08}
        project.write(".claude/claude.json", json.dumps({"budgets": budgets}))
        # Three calls of 800 tokens at $10 a million are expected, and 4,096 each at most.
        fits = self.fits(make_blocking, budget_usd="0.05")
        assert list(fits) == ["call", "run", "agent", "day"]
        verdicts = {scope: (fit.covers_expected, fit.covers_most) for scope, fit in fits.items()}
        assert verdicts == {
            "call": (False, False),
            # What is expected would fit, but not the worst case of the last call as well.
            "run": (False, False),
            "agent": (True, True),
            "day": (True, False),
        }
        refused = {scope: fit.refused_calls for scope, fit in fits.items()}
        assert refused == {"call": 3, "run": 0, "agent": 0, "day": 0}
        assert known(fits["run"].expected_usd) < fits["run"].limit_usd
        assert known(fits["agent"].most_usd) < known(fits["run"].most_usd) / 2
        assert fits["day"].left_usd == Decimal("0.08")

    def test_of_a_day_only_the_rest_is_left(
        self, make_blocking: MakeBlocking, project: Project
    ) -> None:
        project.write(".claude/claude.json", json.dumps({"budgets": {"per_day_usd": 1}}))
        with make_blocking(enable_cache=False) as force:
            cost = known(force.run_agent("alpha", "Look.").cost_usd)
        assert self.fits(make_blocking)["day"].left_usd == 1 - cost

    def test_unknown_price_fits_nowhere(self, make_blocking: MakeBlocking) -> None:
        with make_blocking(budget_usd=100) as force:
            plan = force.plan_many(calls(1, model="claude-unheard-of"))
        assert plan.unpriced_models == ("claude-unheard-of",)
        assert plan.cost_usd.expected is None
        assert [(fit.covers_expected, fit.covers_most) for fit in plan.budgets] == [(False, False)]


class TestCommand:
    def test_forecast_of_a_map_sends_nothing_and_needs_no_key(
        self, cli: Cli, project: Project, simulator: SimulatorThread
    ) -> None:
        project.items(*({"task": f"Look at part {number}."} for number in range(12)))
        forecast = cli(*MAP, "--plan", key=None)
        assert (forecast.code, forecast.err) == (0, "")
        assert "alpha" in forecast.out
        assert "about " in forecast.out
        before = cli(*MAP, "--plan", "--json", key=None).json
        assert simulator.stats.requests == 0
        assert not (project.root / "out.jsonl").exists()
        assert cli(*MAP).code == 0
        cost = before["cost_usd"]
        assert before["calls"]["expected"] == simulator.stats.answers == 12
        lines = project.lines("out.jsonl")
        assert Decimal(cost["least"]) <= paid(lines) <= Decimal(cost["most"])

    def test_finished_items_cost_nothing_and_the_results_are_left_as_they_are(
        self, cli: Cli, project: Project
    ) -> None:
        project.items({"id": "a", "task": "Look."}, {"id": "b", "task": "Listen."})
        assert cli(*MAP, "--no-cache").code == 0
        project.items({"id": "a", "task": "Look."}, {"id": "b", "task": "Listen closely."})
        with (project.root / "out.jsonl").open("ab") as file:
            file.write(b'{"id": "c", "ok": tr')
        before = (project.root / "out.jsonl").read_bytes()
        forecast = cli(*MAP, "--no-cache", "--plan", "--json")
        assert (forecast.json["items"], forecast.json["kept"]) == (2, 1)
        assert forecast.json["calls"]["most"] == 1
        assert "1 answers to earlier questions will be moved to out.jsonl.old" in forecast.err
        assert "1 results are kept, 1 failed ones are done again" in forecast.err
        assert (project.root / "out.jsonl").read_bytes() == before
        assert not (project.root / "out.jsonl.old").exists()
        assert cli(*MAP, "--no-cache").code == 0
        done = cli(*MAP, "--no-cache", "--plan")
        assert done.out == "Nothing to pay: every answer is in the results.\n"

    def test_options_of_the_run_count(self, cli: Cli, project: Project) -> None:
        project.items({"task": "Look."}, {"task": "Listen."})

        def most(*options: str) -> Decimal:
            return Decimal(cli(*MAP, "--plan", "--json", *options).json["cost_usd"]["most"])

        assert most("--batch") * 2 == most("--no-prompt-cache")
        assert most("--max-tokens", "100") < most() < most("--model", "opus")
        assert cli(*MAP).code == 0
        other = ("--out", "other.jsonl")
        assert most(*other) == 0
        assert most(*other, "--no-cache") > 0
        assert most(*other, "--refresh") > 0

    @pytest.mark.parametrize(
        "items",
        [
            [{"tsk": "Look."}],
            [{"task": "Look.", "agent": "nobody"}],
            [{"task": "Look.", "files": ["gone"]}],
            [],
        ],
    )
    def test_bad_items_give_the_error_of_the_run(
        self, cli: Cli, project: Project, items: list[dict[str, Any]]
    ) -> None:
        project.items(*items)
        forecast, run = cli(*MAP, "--plan"), cli(*MAP)
        assert forecast.code == 3
        assert (forecast.code, forecast.out, forecast.err) == (run.code, run.out, run.err)

    def test_foreign_results_give_the_error_of_the_run(self, cli: Cli, project: Project) -> None:
        project.items({"task": "Look."})
        project.write("out.jsonl", "a diary\n")
        forecast, run = cli(*MAP, "--plan"), cli(*MAP)
        assert forecast.code == run.code == 3
        assert forecast.err == run.err

    def test_budget_is_said_to_fit_or_not(self, cli: Cli, project: Project) -> None:
        project.items(*({"task": f"Look at {number}."} for number in range(4)))

        def verdict(*options: str) -> str:
            return cli(*MAP, "--plan", *options).out.splitlines()[-1]

        assert verdict("--budget", "5") == (
            "The budget of $5.00 for the run covers the most that it can cost."
        )
        assert "covers what is expected, and may stop it" in verdict("--budget", "0.1")
        assert "does not cover what is expected" in verdict("--budget", "0.05")
        assert "refuses 4 calls for the worst case of each" in verdict("--budget", "0.04")
        assert "no batch would be sent" in verdict("--budget", "0.01", "--batch")
        assert "refuses calls of which no price is known" in verdict(
            "--budget", "5", "--model", "claude-unheard-of"
        )

    def test_budget_that_is_said_to_cover_what_is_expected_lets_it_end(
        self, cli: Cli, project: Project, simulator: SimulatorThread
    ) -> None:
        project.items(*({"task": f"Look at {number}."} for number in range(8)))
        too_little = cli(*MAP, "--plan", "--json", "--budget", "0.04").json["budgets"][0]
        assert (too_little["covers_expected"], too_little["refused_calls"]) == (False, 8)
        assert cli(*MAP, "--budget", "0.04").code != 0
        assert simulator.stats.requests == 0
        plan = cli(*MAP, "--plan", "--json").json
        expected = Decimal(plan["cost_usd"]["expected"])
        one = {name: Decimal(plan["cost_usd"][name]) / 8 for name in ("expected", "most")}
        enough = str(expected + one["most"] - one["expected"] + Decimal("0.0001"))
        fit = cli(*MAP, "--plan", "--json", "--budget", enough).json["budgets"][0]
        assert (fit["covers_expected"], fit["covers_most"]) == (True, False)
        assert cli(*MAP, "--budget", enough).code == 0

    def test_batch_that_is_said_not_to_be_sent_is_not(
        self, cli: Cli, project: Project, simulator: SimulatorThread
    ) -> None:
        project.items(*({"task": f"Look at {number}."} for number in range(4)))
        most = Decimal(cli(*MAP, "--plan", "--batch", "--json").json["cost_usd"]["most"])
        too_little, enough = str(most - Decimal("0.000001")), str(most)
        assert (
            "no batch would be sent" in cli(*MAP, "--plan", "--batch", "--budget", too_little).out
        )
        assert cli(*MAP, "--batch", "--budget", too_little).code != 0
        assert simulator.stats.requests == 0
        assert "covers the most" in cli(*MAP, "--plan", "--batch", "--budget", enough).out
        assert cli(*MAP, "--batch", "--budget", enough).code == 0
