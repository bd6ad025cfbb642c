from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import (
    NO_CACHE,
    Attachment,
    TaskError,
    WorkflowDefinitionError,
    WorkflowResult,
)
from claude_force.agents.scaffold import write_starter
from claude_force.workflows.spans import NOTHING, DollarSpan, Span

if TYPE_CHECKING:
    from tests.conftest import Cli, MakeAsync, MakeBlocking, Project

    from claude_force.simulator import SimulatorThread
    from claude_force.workflows.plan_values import StepPlan, WorkflowPlan

READY = ("review", "document", "fix-plan", "docs", "map-reduce")
FILES = tuple(
    Attachment(f"src/{name}.py", f"def {name}(a, b):\n    return a - b\n" * size)
    for name, size in (("add", 3), ("scale", 40), ("größe", 200))
)
CHAIN: dict[str, Any] = {
    "steps": [
        {"id": "one", "agent": "alpha"},
        {"id": "two", "agent": "beta", "needs": ["one"]},
        {"id": "three", "agent": "gamma", "needs": ["two"]},
    ]
}
TASK = "Review this before it is released."


def run(make_force: MakeAsync, workflow: Any, task: str = TASK, **options: Any) -> WorkflowResult:
    async def main() -> WorkflowResult:
        async with make_force() as force:
            return await force.execute_workflow(workflow, task, **options)

    return asyncio.run(main())


def plan(make_force: MakeAsync, workflow: Any, task: str = TASK, **options: Any) -> WorkflowPlan:
    async def main() -> WorkflowPlan:
        async with make_force(api_key=None) as force:
            return await force.plan_workflow(workflow, task, **options)

    return asyncio.run(main())


def step(found: WorkflowPlan, step_id: str) -> StepPlan:
    return next(one for one in found.steps if one.step_id == step_id)


def at_least(amount: Decimal | None) -> Decimal:
    assert amount is not None
    return amount


class TestReadyWorkflows:
    @pytest.mark.parametrize("name", READY)
    def test_run_costs_what_its_plan_allows_and_a_rerun_nothing(
        self, make_force: MakeAsync, project: Project, simulator: SimulatorThread, name: str
    ) -> None:
        write_starter(project.root)
        before = plan(make_force, name, files=FILES)
        assert simulator.stats.requests == 0
        result = run(make_force, name, files=FILES)
        assert result.ok
        paid, calls = at_least(result.cost_usd), simulator.stats.answers
        assert at_least(before.cost_usd.least) <= paid
        assert before.calls.least <= calls
        assert before.input_tokens.least <= result.usage.total_input_tokens
        if name == "docs":
            assert (before.cost_usd.most, before.calls.most) == (None, None)
        else:
            assert paid <= at_least(before.cost_usd.most)
            assert calls <= (before.calls.most or 0)
            assert result.usage.total_input_tokens <= (before.input_tokens.most or 0)
            assert result.usage.output_tokens <= (before.output_tokens.most or 0)
        after = plan(make_force, name, files=FILES)
        assert after.all_cached
        assert after.cached_calls == calls
        assert after.cost_usd == DollarSpan(Decimal(0), Decimal(0), Decimal(0))
        assert (after.critical_path, after.seconds) == ((), 0)
        assert {one.state for one in after.steps} == {"cached"}
        simulator.reset()
        assert run(make_force, name, files=FILES).cost_usd == 0
        assert simulator.stats.requests == 0

    def test_another_task_is_planned_as_unpaid(
        self, make_force: MakeAsync, project: Project
    ) -> None:
        write_starter(project.root)
        run(make_force, "review", files=FILES)
        again = plan(make_force, "review", "Something else", files=FILES)
        assert not again.all_cached
        assert (again.calls, again.cached_calls) == (Span(4, 4, 5), 0)


class TestWhatTheCacheHolds:
    def test_answers_lead_on_to_the_exact_requests_behind_them(
        self, make_force: MakeAsync, simulator: SimulatorThread
    ) -> None:
        run(make_force, CHAIN)
        longer = {"steps": [*CHAIN["steps"], {"id": "four", "agent": "alpha", "needs": ["three"]}]}
        found = plan(make_force, longer)
        assert [one.state for one in found.steps] == ["cached", "cached", "cached", "to ask"]
        assert (found.calls, found.cached_calls) == (Span.exactly(1), 3)
        assert found.critical_path == ("four",)
        four = run(make_force, longer).steps["four"].result
        assert four is not None
        assert step(found, "four").input_tokens.expected == pytest.approx(
            four.usage.input_tokens, rel=0.05, abs=20
        )

    def test_change_at_the_root_leaves_nothing_of_what_is_behind_it(
        self, make_force: MakeAsync
    ) -> None:
        run(make_force, CHAIN)
        changed = {"steps": [{"id": "one", "agent": "alpha", "task": "Anew."}, *CHAIN["steps"][1:]]}
        states = [one.state for one in plan(make_force, changed).steps]
        assert states == ["to ask", "later", "later"]

    def test_answers_that_the_run_would_not_take_do_not_count(
        self, make_force: MakeAsync, project: Project
    ) -> None:
        run(make_force, CHAIN)
        assert plan(make_force, CHAIN).all_cached
        assert plan(make_force, CHAIN, cache=NO_CACHE).cached_calls == 0
        uncached = {"steps": [{**CHAIN["steps"][0], "cache": False}]}
        assert step(plan(make_force, uncached), "one").state == "to ask"
        project.config(cache={"exclude_agents": ["alpha"]})
        assert plan(make_force, CHAIN).cached_calls == 0

    def test_fan_out_is_planned_item_by_item(self, make_force: MakeAsync) -> None:
        def over(*items: str) -> dict[str, Any]:
            return {"steps": [{"id": "each", "agent": "alpha", "for_each": list(items)}]}

        run(make_force, over("a", "b"))
        each = step(plan(make_force, over("a", "b", "c")), "each")
        assert (each.state, each.cached_calls, each.calls) == (
            "partly cached",
            2,
            Span.exactly(1),
        )

    def test_condition_over_a_cached_answer_is_judged(self, make_force: MakeAsync) -> None:
        workflow = {
            "steps": [
                {"id": "one", "agent": "alpha"},
                {
                    "id": "no",
                    "agent": "beta",
                    "needs": ["one"],
                    "when": "steps.one.text == 'never'",
                },
                {"id": "behind", "agent": "gamma", "needs": ["no"]},
            ]
        }
        before = plan(make_force, workflow)
        assert step(before, "no").calls == Span(0, 1, 1)
        assert step(before, "behind").calls == Span(0, 1, 1)
        run(make_force, workflow)
        after = plan(make_force, workflow)
        assert after.all_cached
        assert [one.state for one in after.steps] == ["cached", "skipped", "skipped"]
        assert step(after, "no").reason == "its condition does not hold: steps.one.text == 'never'"


class TestFigures:
    def test_fan_out_over_an_answer_is_bounded_by_nothing_before_it(
        self, make_force: MakeAsync
    ) -> None:
        schema = {
            "type": "object",
            "properties": {"parts": {"type": "array"}},
            "required": ["parts"],
        }
        workflow = {
            "steps": [
                {"id": "list", "agent": "alpha", "output_schema": schema},
                {
                    "id": "each",
                    "agent": "beta",
                    "needs": ["list"],
                    "for_each": {"step": "list", "key": "parts"},
                },
            ]
        }
        found = plan(make_force, workflow)
        assert step(found, "each").calls == Span(0, 5, None)
        assert step(found, "each").cost_usd.most is None
        schema["properties"]["parts"]["maxItems"] = 3  # type: ignore[index] # a dict of dicts
        bounded = plan(make_force, workflow)
        assert step(bounded, "each").calls == Span(0, 3, 3)
        assert bounded.cost_usd.most is not None
        schema["properties"]["parts"].pop("maxItems")  # type: ignore[index] # as above
        workflow["steps"][1]["budget_usd"] = "0.50"
        assert step(plan(make_force, workflow), "each").cost_usd.most == Decimal("0.50")

    def test_loop_is_a_range_of_rounds_and_a_schema_may_need_a_repair(
        self, make_force: MakeAsync
    ) -> None:
        loop = {"agent": "alpha", "repeat_until": "'done' in answer.text", "max_rounds": 6}
        (found,) = plan(make_force, {"steps": [loop]}).steps
        assert found.calls == Span(1, 3, 6)
        (checked,) = plan(
            make_force, {"steps": [{**loop, "output_schema": {"type": "object"}}]}
        ).steps
        assert checked.calls == Span(1, 3, 12)

    def test_retries_of_a_step_count_for_the_most(self, make_force: MakeAsync) -> None:
        (found,) = plan(make_force, {"steps": [{"agent": "alpha", "retries": 2}]}).steps
        assert found.calls == Span(1, 1, 3)

    def test_unknown_price_stays_unknown(self, make_force: MakeAsync) -> None:
        workflow = {
            "steps": [
                {"id": "known", "agent": "alpha"},
                {"id": "new", "agent": "beta", "model": "claude-next-9"},
            ]
        }
        found = plan(make_force, workflow)
        assert found.cost_usd == DollarSpan(None, None, None)
        assert found.unpriced_models == ("claude-next-9",)
        assert step(found, "known").cost_usd.expected is not None

    def test_dearest_of_the_models_that_may_answer_is_the_most(
        self, make_force: MakeAsync, project: Project
    ) -> None:
        cheap = plan(make_force, {"steps": [{"agent": "alpha", "model": "haiku"}]}).cost_usd
        dear = plan(make_force, {"steps": [{"agent": "alpha", "model": "opus"}]}).cost_usd
        project.config(agents={"alpha": {"file": "agents/alpha.md", "fallback": ["opus"]}})
        both = plan(make_force, {"steps": [{"agent": "alpha", "model": "haiku"}]}).cost_usd
        assert (both.least, both.expected, both.most) == (cheap.least, cheap.expected, dear.most)

    def test_critical_path_is_the_longest_chain(self, make_force: MakeAsync) -> None:
        workflow = {
            "steps": [
                {"id": "short", "agent": "alpha", "max_tokens": 10},
                {"id": "long", "agent": "beta", "max_tokens": 4000},
                {"id": "end", "agent": "gamma", "needs": ["short", "long"]},
            ]
        }
        found = plan(make_force, workflow)
        assert found.critical_path == ("long", "end")
        # 800 tokens expected of each at 75 a second, and 1.5 s to the first.
        assert found.seconds == pytest.approx(2 * (1.5 + 800 / 75))

    def test_fan_out_takes_its_turns(self, make_force: MakeAsync) -> None:
        def seconds(**bounds: int) -> float:
            each = {"agent": "alpha", "for_each": ["a", "b", "c", "d"], **bounds}
            return plan(make_force, {"steps": [each]}).seconds

        assert seconds() == pytest.approx(1.5 + 800 / 75)
        assert seconds(max_parallel=3) == pytest.approx(2 * seconds())
        assert seconds(max_parallel=1) == pytest.approx(4 * seconds())

    def test_each_mention_of_an_answer_counts(self, make_force: MakeAsync) -> None:
        def most(task: str) -> int:
            steps = [
                {"id": "one", "agent": "alpha", "max_tokens": 1000},
                {"id": "two", "agent": "beta", "needs": ["one"], "task": task},
            ]
            return step(plan(make_force, {"steps": steps}), "two").input_tokens.most or 0

        once, twice = (
            most("{{ steps.one.text }}"),
            most("{{ steps.one.text }}{{ steps['one'].text }}"),
        )
        assert 1000 <= twice - once < 1500
        assert most("{% for n in range(9) %}{{ steps.one.text }}{% endfor %}") > 50_000


class TestSpans:
    def test_nothing_known_of_no_calls_is_nothing(self) -> None:
        assert Span(0, 5, None) * NOTHING == NOTHING
        assert Span(0, 5, None) + Span.exactly(1) == Span(1, 6, None)
        assert Span(1, 2, 3) * Span(2, 2, 2) == Span(2, 4, 6)


class TestMistakes:
    def test_what_a_run_refuses_its_plan_refuses(self, make_force: MakeAsync) -> None:
        with pytest.raises(WorkflowDefinitionError, match="a -> b -> a"):
            plan(
                make_force,
                {
                    "steps": [
                        {"id": "a", "agent": "alpha", "needs": ["b"]},
                        {"id": "b", "agent": "beta", "needs": ["a"]},
                    ]
                },
            )
        with pytest.raises(TaskError):
            plan(make_force, ["alpha"], "")

    def test_blocking_twin_plans_the_same(self, make_blocking: MakeBlocking) -> None:
        with make_blocking(api_key=None) as force:
            found = force.plan_workflow(["alpha", "beta"], TASK)
        assert (found.workflow_name, found.calls) == ("workflow", Span.exactly(2))


class TestCommand:
    def test_it_needs_no_key_and_sends_nothing(
        self, cli: Cli, project: Project, simulator: SimulatorThread
    ) -> None:
        write_starter(project.root)
        project.write("src/app.py", "APP = 1\n")
        ended = cli("plan", "review", "-t", TASK, "-f", "src", key=None)
        assert ended.code == 0
        assert "verdict" in ended.out
        assert "about 24 s (estimate); critical path: code -> verdict" in ended.out
        assert simulator.stats.requests == 0

    def test_json_has_every_figure_and_dollars_as_text(
        self, cli: Cli, project: Project, simulator: SimulatorThread
    ) -> None:
        write_starter(project.root)
        before = cli("plan", "review", "-t", TASK, "--json").json
        assert before["calls"] == {"least": 4, "expected": 4, "most": 5}
        assert Decimal(before["cost_usd"]["least"]) < Decimal(before["cost_usd"]["expected"])
        assert before["critical_path"] == ["code", "verdict"]
        assert [one["state"] for one in before["steps"]] == ["to ask"] * 3 + ["later"]
        assert cli("run", "workflow", "review", "-t", TASK).code == 0
        after = cli("plan", "review", "-t", TASK, "--json").json
        assert (after["all_cached"], after["cached_calls"]) == (True, 4)
        assert after["cost_usd"] == {"least": "0", "expected": "0", "most": "0"}
        assert "Nothing to pay" in cli("plan", "review", "-t", TASK).out

    def test_budget_is_held_against_the_most(self, cli: Cli) -> None:
        Path("one.yaml").write_text("steps: [{agent: alpha, max_tokens: 100}]\n")
        assert "covers the most" in cli("plan", "one.yaml", "-t", "x", "--budget", "5").out
        assert "may stop it" in cli("plan", "one.yaml", "-t", "x", "--budget", "0.0001").out

    def test_mistake_ends_as_in_a_run(self, cli: Cli) -> None:
        ended = cli("plan", "nothing", "-t", "x", "--json")
        assert (ended.code, ended.json["error"]["kind"]) == (3, "workflow_definition")
        assert cli("plan", "./missing.yaml", "-t", "x").code == 3
