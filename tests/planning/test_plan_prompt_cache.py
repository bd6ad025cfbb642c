"""What a plan says the prompt cache will save is what the run then saves, on the simulator's books."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import Attachment, open_metrics

if TYPE_CHECKING:
    from tests.conftest import Cli, MakeAsync, Project

    from claude_force.workflows.plan_values import WorkflowPlan

# 6,000 tokens by the simulator's count.
SHARED = (Attachment("conventions.md", "word " * 4560),)
OVER_50: dict[str, Any] = {
    "steps": [
        {
            "id": "each",
            "agent": "alpha",
            "task": "Check {{ item }}.",
            "for_each": [f"part {number}" for number in range(50)],
        }
    ]
}
# Three begin alike, one after the other; the fourth is another agent, whose prompt nobody shares.
ONE_AFTER_ANOTHER: dict[str, Any] = {
    "steps": [
        {"id": "one", "agent": "alpha", "task": "Look."},
        {"id": "two", "agent": "alpha", "task": "Look closer.", "needs": ["one"]},
        {"id": "three", "agent": "alpha", "task": "And closer.", "needs": ["two"]},
        {"id": "four", "agent": "beta", "task": "Sum up.", "needs": ["three"]},
    ]
}


def planned_and_run(
    make_force: MakeAsync,
    workflow: dict[str, Any],
    *,
    files: tuple[Attachment, ...] = SHARED,
    **options: Any,
) -> tuple[WorkflowPlan, Decimal]:
    """The plan, and what metrics say the prompt cache has saved once it was run."""

    async def main() -> WorkflowPlan:
        async with make_force(enable_cache=False, **options) as force:
            plan = await force.plan_workflow(workflow, "Go.", files=files)
            assert (await force.execute_workflow(workflow, "Go.", files=files)).ok
            return plan

    plan = asyncio.run(main())
    with closing(open_metrics()) as metrics:
        return plan, metrics.savings().value.prompt_cache_usd


@pytest.mark.parametrize("workflow", [OVER_50, ONE_AFTER_ANOTHER], ids=["fan-out", "chain"])
def test_what_is_forecast_is_what_is_saved(make_force: MakeAsync, workflow: dict[str, Any]) -> None:
    plan, measured = planned_and_run(make_force, workflow)
    assert measured > 0
    assert float(plan.prompt_cache_saving_usd or 0) == pytest.approx(float(measured), rel=0.02)


def test_map_over_fifty_files_is_forecast_to_pay_for_the_definition_once(
    make_force: MakeAsync, project: Project
) -> None:
    project.agent("guide", SHARED[0].text)
    files = tuple(Attachment(f"src/part_{n}.py", f"x = {n}\n" * 20) for n in range(50))
    over = {"steps": [{"id": "each", "agent": "guide", "task": "Check.", "for_each": "files"}]}
    plan, measured = planned_and_run(make_force, over, files=files)
    assert measured > Decimal("0.5")
    assert float(plan.prompt_cache_saving_usd or 0) == pytest.approx(float(measured), rel=0.02)


def test_fan_out_is_forecast_to_pay_for_what_is_shared_once(make_force: MakeAsync) -> None:
    plan, _ = planned_and_run(make_force, OVER_50)
    without, _ = planned_and_run(make_force, OVER_50, prompt_cache=False)
    assert without.prompt_cache_saving_usd == 0
    assert plan.cost_usd.expected is not None
    assert without.cost_usd.expected == plan.cost_usd.expected + (plan.prompt_cache_saving_usd or 0)
    # One write of 6,000 tokens at $2.50 and 49 reads at $0.10, in place of 50 times the plain price of $2.
    shared = Decimal(6000) / 1_000_000
    assert float(plan.prompt_cache_saving_usd or 0) == pytest.approx(
        float(shared * (50 * 2 - Decimal("2.5") - 49 * Decimal("0.1"))), rel=0.02
    )


def test_nothing_is_forecast_where_nobody_reads_or_nothing_is_marked(make_force: MakeAsync) -> None:
    alone = {"steps": [{"id": "one", "agent": "alpha", "task": "Look."}]}
    plan, measured = planned_and_run(make_force, alone)
    assert (plan.prompt_cache_saving_usd, measured) == (0, 0)
    by_batch = {"steps": [{**OVER_50["steps"][0], "batch": True}]}
    assert planned_and_run(make_force, by_batch)[0].prompt_cache_saving_usd == 0


def test_rounds_of_a_loop_are_forecast_to_read_what_the_first_item_wrote(
    make_force: MakeAsync,
) -> None:
    loop = {"steps": [{**OVER_50["steps"][0], "repeat_until": "round >= 2", "max_rounds": 4}]}
    plan, measured = planned_and_run(make_force, loop)
    assert float(plan.prompt_cache_saving_usd or 0) == pytest.approx(float(measured), rel=0.02)


def test_command_says_what_it_saves_and_unknown_stays_unknown(project: Project, cli: Cli) -> None:
    project.agent("alpha")
    project.write("conventions.md", SHARED[0].text)
    project.write("each.json", json.dumps(OVER_50))
    arguments = ("plan", "each.json", "--task", "Go.", "-f", "conventions.md")
    said = cli(*arguments)
    assert "The prompt cache is expected to save $0.5" in said.out
    assert Decimal(cli(*arguments, "--json").json["prompt_cache_saving_usd"]) > Decimal("0.5")
    assert "prompt cache" not in cli(*arguments, "--no-prompt-cache").out
