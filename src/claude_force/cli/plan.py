"""``plan``: what a run of a workflow would ask and cost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from claude_force.cli.forecasts import (
    figures,
    figures_json,
    how_long,
    print_forecast,
    saving_remarks,
    totals_json,
)
from claude_force.cli.options import (
    file_option,
    memory_option,
    offline_orchestrator,
    run_options,
    split_options,
)
from claude_force.cli.render import dollars, print_json
from claude_force.cli.ways import way_options, ways_of

if TYPE_CHECKING:
    from decimal import Decimal

    from claude_force.agents.attachments import Attachment
    from claude_force.cli.options import RunOptions
    from claude_force.cli.ways import Ways
    from claude_force.workflows.plan_values import StepPlan, WorkflowPlan


@click.command()
@click.argument("name")
@click.option("--task", "-t", default="", help="What all steps work on.")
@file_option
@memory_option
@run_options
@way_options
def plan(name: str, task: str, **values: Any) -> None:  # noqa: ANN401 - click's
    """Forecast a run of the workflow NAME: calls, tokens, dollars, time, and what the cache already holds.

    NAME and the options are those of `run workflow`. Nothing is sent and nothing is spent; no key is needed. For a map there is
    `run map --plan`.
    """
    from claude_force.cli.run_workflow import collect_patterns

    files = collect_patterns(values.pop("files"))
    ways = ways_of(values)
    options, answer = split_options(values)
    found = asyncio.run(_plan(name, task, files, options, ways, use_memory=answer.use_memory))
    if options.as_json:
        print_json(_plan_json(found))
    else:
        _print(found, budget=options.budget)


async def _plan(
    name: str,
    task: str,
    files: tuple[Attachment, ...],
    options: RunOptions,
    ways: Ways,
    *,
    use_memory: bool | None,
) -> WorkflowPlan:
    async with offline_orchestrator(options) as force:
        return await force.plan_workflow(
            name, task, files=files, cache=options.cache, use_memory=use_memory, **ways
        )


def _print(found: WorkflowPlan, *, budget: Decimal | None) -> None:
    rows = ((step.step_id, _state(step), *figures(step)) for step in found.steps)
    print_forecast(("step", "state"), rows, found, left=2)
    for line in _remarks(found, budget):
        click.echo(line)


def _state(step: StepPlan) -> str:
    if step.reason is not None:
        return f"{step.state}: {step.reason}"
    if step.batch and step.calls.most != 0:
        held = f"{step.cached_calls} cached, rest " if step.cached_calls else ""
        return f"{held}{'later, ' if step.state == 'later' else ''}by batch"
    if step.state == "partly cached":
        return f"{step.cached_calls} cached, rest to ask"
    if step.state == "cached" and step.cached_calls > 1:
        return f"cached ({step.cached_calls} answers)"
    return step.state


def _remarks(found: WorkflowPlan, budget: Decimal | None) -> list[str]:
    cost, lines = found.cost_usd, []
    if found.all_cached:
        lines.append("Nothing to pay: the cache holds every answer.")
    else:
        lines.append(
            f"about {how_long(found.seconds)} (estimate); critical path: {' -> '.join(map(_plain, found.critical_path))}"
        )
    if any(step.batch and step.seconds for step in found.steps):
        lines.append(
            "Steps by batch cost half; each batch counts as an hour and may take up to a day."
        )
    lines += saving_remarks(found)
    if found.unpriced_models:
        lines.append(f"No price is known of: {', '.join(found.unpriced_models)}.")
    elif cost.most is None:
        open_steps = [step.step_id for step in found.steps if step.calls.most is None]
        lines.append(
            f"Nothing bounds {', '.join(map(_plain, open_steps))} until the answer that it fans out over is there; "
            "5 items are expected. --budget bounds the run."
        )
    if budget is not None and cost.most is not None and cost.most <= budget:
        lines.append(f"The budget of {dollars(budget)} covers the most that it can cost.")
    elif budget is not None:
        lines.append(f"The budget of {dollars(budget)} may stop it before the end.")
    return lines


def _plain(text: str) -> str:
    from claude_force.agents.cleaning import clean_text

    return clean_text(text)


def _plan_json(found: WorkflowPlan) -> dict[str, Any]:
    return {
        "workflow": found.workflow_name,
        **totals_json(found),
        "critical_path": list(found.critical_path),
        "estimated_seconds": round(found.seconds, 1),
        "steps": [_step_json(step) for step in found.steps],
    }


def _step_json(step: StepPlan) -> dict[str, Any]:
    return {
        "step": step.step_id,
        "agent": step.agent_name,
        "dependencies": list(step.dependencies),
        "state": step.state,
        "batch": step.batch,
        "reason": step.reason,
        "model": step.model,
        **figures_json(step),
        "estimated_seconds": round(step.seconds, 1),
    }
