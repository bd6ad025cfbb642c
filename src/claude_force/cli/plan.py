"""``plan``: what a run of a workflow would ask and cost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from claude_force.cli.options import (
    file_option,
    memory_option,
    offline_orchestrator,
    run_options,
    split_options,
)
from claude_force.cli.render import dollars, print_json, terminal_width
from claude_force.cli.ways import way_options, ways_of

if TYPE_CHECKING:
    from decimal import Decimal

    from claude_force.agents.attachments import Attachment
    from claude_force.cli.options import RunOptions
    from claude_force.cli.ways import Ways
    from claude_force.workflows.plan import StepPlan, WorkflowPlan
    from claude_force.workflows.spans import DollarSpan, Span


@click.command()
@click.argument("name")
@click.option("--task", "-t", default="", help="What all steps work on.")
@file_option
@memory_option
@run_options
@way_options
def plan(name: str, task: str, **values: Any) -> None:  # noqa: ANN401 - click's
    """Forecast a run of the workflow NAME: calls, tokens, dollars, time, and what the cache already holds.

    NAME and the options are those of `run workflow`. Nothing is sent and nothing is spent; no key is needed.
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
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True, padding=(0, 1))
    footers = (
        "total",
        "",
        _count(found.calls),
        f"{found.input_tokens.expected:,}",
        f"{found.output_tokens.expected:,}",
        *_dollars(found.cost_usd),
    )
    headers = ("step", "state", "calls", "tokens in", "tokens out", "expected", "at most")
    for number, (header, footer) in enumerate(zip(headers, footers, strict=True)):
        table.add_column(
            header,
            footer,
            justify="left" if number < 2 else "right",
            no_wrap=number > 1,
            overflow="fold",
        )
    for step in found.steps:
        table.add_row(*(Text(_plain(cell)) for cell in _row(step)))
    Console(width=terminal_width(), highlight=False).print(table)
    for line in _remarks(found, budget):
        click.echo(line)


def _row(step: StepPlan) -> tuple[str, ...]:
    return (
        step.step_id,
        _state(step),
        _count(step.calls),
        f"{step.input_tokens.expected:,}",
        f"{step.output_tokens.expected:,}",
        *_dollars(step.cost_usd),
    )


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


def _count(span: Span) -> str:
    """The range of a count of calls."""
    if span.most is None:
        return f"{span.least:,} or more"
    return f"{span.most:,}" if span.least == span.most else f"{span.least:,}-{span.most:,}"


def _dollars(span: DollarSpan) -> tuple[str, str]:
    return _amount(span.expected), _amount(span.most)


def _amount(cost_usd: Decimal | None) -> str:
    return "unknown" if cost_usd is None else dollars(cost_usd)


def _remarks(found: WorkflowPlan, budget: Decimal | None) -> list[str]:
    cost, lines = found.cost_usd, []
    if found.all_cached:
        lines.append("Nothing to pay: the cache holds every answer.")
    else:
        lines.append(
            f"about {_seconds(found.seconds)} (estimate); critical path: {' -> '.join(map(_plain, found.critical_path))}"
        )
    if any(step.batch and step.seconds for step in found.steps):
        lines.append(
            "Steps by batch cost half; each batch counts as an hour and may take up to a day."
        )
    if found.cached_calls and not found.all_cached:
        lines.append(f"{found.cached_calls} answers are in the cache and cost nothing.")
    saving = found.prompt_cache_saving_usd
    if saving and cost.expected is not None:
        without = dollars(cost.expected + saving)
        lines.append(
            f"The prompt cache is expected to save {dollars(saving)}; without it, {without} are expected."
        )
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


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _plain(text: str) -> str:
    from claude_force.agents.cleaning import clean_text

    return clean_text(text)


def _plan_json(found: WorkflowPlan) -> dict[str, Any]:
    return {
        "workflow": found.workflow_name,
        "all_cached": found.all_cached,
        "calls": _span_json(found.calls),
        "cached_calls": found.cached_calls,
        "input_tokens": _span_json(found.input_tokens),
        "output_tokens": _span_json(found.output_tokens),
        "cost_usd": _dollars_json(found.cost_usd),
        "prompt_cache_saving_usd": _amount_json(found.prompt_cache_saving_usd),
        "unpriced_models": list(found.unpriced_models),
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
        "calls": _span_json(step.calls),
        "cached_calls": step.cached_calls,
        "input_tokens": _span_json(step.input_tokens),
        "output_tokens": _span_json(step.output_tokens),
        "cost_usd": _dollars_json(step.cost_usd),
        "prompt_cache_saving_usd": _amount_json(step.prompt_cache_saving_usd),
        "estimated_seconds": round(step.seconds, 1),
    }


def _span_json(span: Span) -> dict[str, int | None]:
    return {"least": span.least, "expected": span.expected, "most": span.most}


def _dollars_json(span: DollarSpan) -> dict[str, str | None]:
    return {
        name: _amount_json(value)
        for name, value in (
            ("least", span.least),
            ("expected", span.expected),
            ("most", span.most),
        )
    }


def _amount_json(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)
