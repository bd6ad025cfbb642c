"""The group ``runs``: what became of runs of workflows, and how to go on with them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import click

from claude_force.cli.durations import Duration
from claude_force.cli.journal import open_store
from claude_force.cli.lazy import Entry, LazyGroup
from claude_force.cli.options import (
    apply,
    file_option,
    json_option,
    memory_option,
    run_options,
    split_options,
)
from claude_force.cli.render import dollars, print_json, print_text, tokens, usage_json
from claude_force.cli.ways import way_options, ways_of
from claude_force.domain.errors import ConfigError, InputError
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from claude_force.agents.attachments import Attachment
    from claude_force.domain.runs import CallRecord, RunRecord, StepRecord
    from claude_force.orchestrator import AsyncAgentOrchestrator
    from claude_force.workflows.definition import Workflow

_where = apply(
    click.option("--simulated", is_flag=True, help="Runs with --simulate, which lie apart."),
    json_option,
)
_run_argument = click.argument("run", default="last")

runs = LazyGroup(
    "runs",
    {
        "list": Entry(
            "claude_force.cli.runs:list_runs", "List the runs on record, the last first."
        ),
        "show": Entry("claude_force.cli.runs:show", "Show how each step of a run ended."),
        "resume": Entry(
            "claude_force.cli.runs:resume", "Do what is missing, failed or changed of a run."
        ),
        "cancel": Entry(
            "claude_force.cli.runs:cancel", "Stop a run that another process works on."
        ),
        "report": Entry(
            "claude_force.cli.run_report:report", "Show a run, or write it as one HTML file."
        ),
        "prune": Entry("claude_force.cli.runs:prune", "Remove old runs."),
    },
    summary="Look at runs of workflows, and go on with them.\n\nRUN is an id, the beginning of one, or `last`.",
)


@click.command("list")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many."
)
@_where
def list_runs(limit: int, simulated: bool, as_json: bool) -> None:
    """List the runs on record, the last first."""
    found = open_store(simulated).recent(limit=limit)
    if as_json:
        print_json([_run_json(run) for run in found])
        return
    if not found:
        click.echo("No run is on record yet; `claude-force run workflow NAME` makes one.", err=True)
    for run in found:
        click.echo(_run_line(run))


@click.command()
@_run_argument
@_where
def show(run: str, simulated: bool, as_json: bool) -> None:
    """Show how each step of a run ended."""
    store = open_store(simulated)
    found = store.load(store.find(run))
    if as_json:
        print_json(_run_json(found) | {"steps": [_step_json(step) for step in found.steps]})
        return
    click.echo(_run_line(found))
    if found.task:
        print_text(f"task: {_short(found.task, 200)}")
    width = max((len(step.step_id) for step in found.steps), default=0)
    for step in found.steps:
        # Nobody works any more on what was running in a run that was interrupted.
        state = "cut off" if (found.state, step.state) == ("interrupted", "running") else step.state
        print_text(f"  {state:9} {step.step_id:{width}}  {_step_facts(step)}".rstrip())


@click.command()
@_run_argument
@click.option("--sequential/--parallel", default=False, help="One step at a time.")
@file_option
@memory_option
@run_options
@way_options
def resume(run: str, sequential: bool, **values: Any) -> None:  # noqa: ANN401 - click's
    """Do what is missing, failed or changed of a run, and nothing else.

    The workflow is the one that its name means now, and the files are read again.
    """
    from claude_force.cli.run_workflow import collect_patterns, execute, report

    patterns = values.pop("files")
    ways = ways_of(values)
    options, answer = split_options(values)
    store = open_store(options.simulated)
    run_id = store.find(run)
    header = store.header(run_id)
    files = collect_patterns(patterns) if patterns else _files_now(header.patterns)

    def load(force: AsyncAgentOrchestrator) -> Workflow:
        known = header.by_name and header.workflow.name in force.workflow_library().places()
        return force.load_workflow(header.workflow.name if known else header.workflow)

    result = asyncio.run(
        execute(
            options,
            load,
            lambda force, on_event: force.resume_workflow(
                run_id,
                files=files,
                sequential=sequential,
                cache=options.cache,
                use_memory=answer.use_memory,
                on_event=on_event,
                **ways,
            ),
        )
    )
    click.echo(f"All parts of the run: {_money(store.load(run_id))}", err=True)
    report(result, options, resumable=True)


@click.command()
@_run_argument
@_where
def cancel(run: str, simulated: bool, as_json: bool) -> None:
    """Stop a run that another process works on: what is on its way ends, and nothing more is sent."""
    store = open_store(simulated)
    run_id = store.find(run)
    told = store.cancel(run_id)
    if as_json:
        print_json({"run_id": run_id, "told": told})
    elif told:
        click.echo(f"{run_id}: its process was told to stop.")
    if not told:
        raise InputError(f"No process works on run {run_id}; there is nothing to stop.")


@click.command()
@click.option(
    "--older-than", type=Duration(), metavar="AGE", help="Runs that began before, such as 30d."
)
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="All but the last N runs.")
@_where
def prune(older_than: float | None, keep: int | None, simulated: bool, as_json: bool) -> None:
    """Remove old runs, with their prompts and answers. Those that go on stay."""
    if older_than is None and keep is None:
        raise ConfigError("Say which runs: --older-than 30d, --keep 100, or both.")
    before = None if older_than is None else time.time() - older_than
    removed = open_store(simulated).prune(started_before=before, keep=keep)
    if as_json:
        print_json({"removed": removed})
    else:
        click.echo(f"{counted(removed, 'run')} removed.")


def _files_now(patterns: tuple[tuple[str, ...], str] | None) -> tuple[Attachment, ...] | None:
    """The files of a run as they are now; None where only their texts are known."""
    if patterns is None:
        return None
    if not patterns[0]:
        return ()
    from pathlib import Path

    from claude_force.agents.attachments import collect_files

    return collect_files(list(patterns[0]), root=Path(patterns[1])).files


def _run_line(run: RunRecord) -> str:
    began = run.started_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    seconds = "" if run.seconds is None else f", {run.seconds:.1f} s"
    resumed = f", resumed {counted(run.resumed, 'time')}" if run.resumed else ""
    return f"{run.run_id}  {began}  {run.state:11}  {run.workflow_name}: {_money(run)}{seconds}{resumed}"


def _money(run: RunRecord) -> str:
    return f"{tokens(run.usage)}, {dollars(run.cost_usd)}"


def _step_facts(step: StepRecord) -> str:
    facts = [f"({step.agent_name})"]
    if step.calls:
        hits = sum(call.cached_tier is not None for call in step.calls)
        many = f"{len(step.calls)} calls" if len(step.calls) > 1 else ""
        facts += [fact for fact in (many, f"{hits} from the cache" if hits else "") if fact]
    if step.started_seconds is not None and step.ended_seconds is not None:
        facts.append(f"{step.ended_seconds - step.started_seconds:.1f} s")
    why = step.error_message or step.reason
    return ", ".join(facts) + (f": {_short(why, 300)}" if why else "")


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _run_json(run: RunRecord) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "workflow": run.workflow_name,
        "state": run.state,
        "started_at": run.started_at.isoformat(),
        "ended_at": None if run.ended_at is None else run.ended_at.isoformat(),
        "seconds": run.seconds,
        "resumed": run.resumed,
        "usage": usage_json(run.usage),
        "cost_usd": None if run.cost_usd is None else str(run.cost_usd),
    }


def _step_json(step: StepRecord) -> dict[str, Any]:
    error = {"kind": step.error_kind, "message": step.error_message}
    return {
        "id": step.step_id,
        "agent": step.agent_name,
        "state": step.state,
        "started_seconds": step.started_seconds,
        "ended_seconds": step.ended_seconds,
        "text": step.text,
        "reason": step.reason,
        "error": error if step.error_kind else None,
        "calls": [_call_json(call) for call in step.calls],
    }


def _call_json(call: CallRecord) -> dict[str, Any]:
    place = call.place
    return {
        "key": call.key,
        "item_index": place.item_index,
        "round": place.round,
        "repair": place.repair,
        "model": call.model,
        "ok": call.error_kind is None,
        "cached": call.cached_tier,
        "attempts": call.attempts,
        "usage": usage_json(call.usage),
        "cost_usd": None if call.cost_usd is None else str(call.cost_usd),
        "error": call.error_kind,
    }
