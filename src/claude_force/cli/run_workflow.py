"""``run workflow``: a graph of agents."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_force.agents.cleaning import clean_text
from claude_force.cli.durations import Duration
from claude_force.cli.interrupt import interruptible
from claude_force.cli.options import (
    file_option,
    memory_option,
    open_orchestrator,
    run_options,
    split_options,
)
from claude_force.cli.render import (
    dollars,
    final_text,
    print_json,
    print_text,
    step_json,
    tell_saving,
    tokens,
    usage_json,
)
from claude_force.cli.ways import way_options, ways_of
from claude_force.domain.errors import ConfigError, RunStoppedError, SpendLimitError
from claude_force.domain.partial_failure import PartialFailureError, RunCappedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from claude_force.agents.attachments import Attachment
    from claude_force.cli.options import RunOptions
    from claude_force.domain.events import EventListener
    from claude_force.domain.results import WorkflowResult
    from claude_force.orchestrator import AsyncAgentOrchestrator
    from claude_force.workflows.definition import Workflow


@click.command("workflow")
@click.argument("name")
@click.option("--task", "-t", default="", help="What all steps work on.")
@click.option(
    "--sequential/--parallel",
    default=False,
    help="One step at a time, or each as soon as it can start (default).",
)
@click.option(
    "--deadline",
    type=Duration(),
    metavar="TIME",
    help="End the whole run after this time, such as 10m; what is finished is kept.",
)
@click.option(
    "--journal/--no-journal",
    default=True,
    help="Keep every answer on disk, so that the run can be resumed (default).",
)
@click.option(
    "--report",
    "report_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the run as one HTML file when it ends, with prompts and answers in full.",
)
@click.option(
    "--engine",
    default="local",
    metavar="[local]",
    callback=lambda _ctx, _option, value: _engine(value),
    help="Where steps run: in this process.",
)
@file_option
@memory_option
@run_options
@way_options
@click.option(
    "--async",
    "_async",
    is_flag=True,
    help="Accepted for older scripts; every call is asynchronous.",
)
def workflow(name: str, **values: Any) -> None:  # noqa: ANN401 - click's
    """Run the workflow NAME, or the one in a file, and print what its last steps answer."""
    for accepted in ("_async", "engine"):
        values.pop(accepted)
    patterns = values.pop("files")
    report_path = values.pop("report_path")
    ways = ways_of(values)
    options, answer = split_options(values)
    _check_report(report_path, journal=values["journal"])
    files = collect_patterns(patterns)
    result = asyncio.run(
        execute(
            options,
            lambda force: force.load_workflow(name),
            lambda force, on_event: force.execute_workflow(
                name,
                values["task"],
                files=files,
                sequential=values["sequential"],
                cache=options.cache,
                use_memory=answer.use_memory,
                timeout_seconds=values["deadline"],
                journal=values["journal"],
                file_patterns=(patterns, Path.cwd()),
                on_event=on_event,
                **ways,
            ),
        )
    )
    if report_path is not None:
        _write_report(result.run_id, report_path, simulated=options.simulated)
    report(result, options, resumable=values["journal"])


def _engine(name: str) -> str:
    if name != "local":
        raise click.BadParameter(
            f"There is no engine {name!r}. There is 'local', which runs the steps in this process."
        )
    return name


def _check_report(path: Path | None, *, journal: bool) -> None:
    if path is None:
        return
    from claude_force.cli.run_report import check_report_path

    if not journal:
        raise ConfigError("--report needs the journal of the run: leave --no-journal out.")
    check_report_path(path)


def _write_report(run_id: str, path: Path, *, simulated: bool) -> None:
    from claude_force.cli.journal import open_store
    from claude_force.cli.run_report import write_report

    write_report(open_store(simulated).load(run_id), path, replace=False)
    click.echo(f"Report: {path}", err=True)


def collect_patterns(patterns: tuple[str, ...]) -> tuple[Attachment, ...]:
    """The files that ``--file`` names; none cost nothing."""
    if not patterns:
        return ()
    from claude_force.cli.files import collect

    return collect(patterns)


def report(result: WorkflowResult, options: RunOptions, *, resumable: bool) -> None:
    """Print a whole run, and how to go on with one that is not finished.

    Raises:
        PartialFailureError: a step failed; everything that was finished is printed before.
        click.Abort: the user has stopped the run.
    """
    if options.as_json:
        print_json(_workflow_json(result))
    elif text := final_text(result):
        print_text(text)
    click.echo(_summary(result), err=True)
    tell_saving(answer for step in result.steps.values() for answer in step.answers)
    every_failed = [step for step in result.steps.values() if step.state == "failed"]
    for step in every_failed:
        if step.tolerated:
            # The answer does not show it, and the line that did may be far above.
            click.echo(
                clean_text(f"The run went on although {step.step_id} failed: {step.error}"),
                err=True,
            )
    failed = [step for step in every_failed if not step.tolerated]
    if every_failed and resumable:
        click.echo(
            f"What is finished is kept. To do the rest: claude-force runs resume {result.run_id}{_simulated(options)}",
            err=True,
        )
    if any(isinstance(step.error, RunStoppedError) for step in failed):
        raise click.Abort
    if failed:
        lines = "\n".join(f"  {step.step_id} ({step.agent_name}): {step.error}" for step in failed)
        capped = any(isinstance(step.error, SpendLimitError) for step in failed)
        raise (RunCappedError if capped else PartialFailureError)(
            f"{len(failed)} of {len(result.steps)} steps failed:\n{lines}"
        )


def _simulated(options: RunOptions) -> str:
    """The option for the same simulator: what another scenario answered counts as answered by somebody else."""
    if not options.scenario:
        return " --simulate" if options.simulate else ""
    from shlex import quote

    return f" --scenario {quote(options.scenario)}"


async def execute(
    options: RunOptions,
    load: Callable[[AsyncAgentOrchestrator], Workflow],
    run: Callable[[AsyncAgentOrchestrator, EventListener], Awaitable[WorkflowResult]],
) -> WorkflowResult:
    """Run a workflow and show on stderr how it goes on.

    Args:
        options: of the orchestrator.
        load: finds the workflow, to show its steps.
        run: runs it.
    """
    from claude_force.reporting.live import progress_view

    async with open_orchestrator(options) as force, interruptible(force):
        found = load(force)
        steps = [(step.step_id, step.agent_name, step.dependencies) for step in found.steps]
        with progress_view(found.name, steps, sys.stderr) as view:
            return await run(force, view)


def _summary(result: WorkflowResult) -> str:
    done = sum(step.state == "succeeded" for step in result.steps.values())
    answers = [answer for step in result.steps.values() for answer in step.answers]
    alone = sum(answer.seconds for answer in answers if answer.cached is None)
    return (
        f"{result.workflow_name}: {done} of {len(result.steps)} steps, {tokens(result.usage)}, "
        f"{dollars(result.cost_usd)}, {result.total_time_seconds:.1f} s (one after the other: {alone:.1f} s)"
    )


def _workflow_json(result: WorkflowResult) -> dict[str, Any]:
    return {
        "ok": result.ok,
        "workflow": result.workflow_name,
        "run_id": result.run_id,
        "text": result.text,
        "execution_order": list(result.execution_order),
        "total_time_seconds": round(result.total_time_seconds, 3),
        "usage": usage_json(result.usage),
        "cost_usd": None if result.cost_usd is None else str(result.cost_usd),
        "steps": [step_json(step) for step in result.steps.values()],
    }
