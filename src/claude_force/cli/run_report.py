"""The command ``runs report``: what became of a run, as text or as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_force.cli.options import apply, json_option
from claude_force.cli.render import print_json, print_text
from claude_force.domain.errors import ConfigError
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from claude_force.domain.runs import RunRecord
    from claude_force.reporting.run_facts import RunFacts


@click.command()
@click.argument("run", default="last")
@click.option(
    "--html",
    "html_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write one HTML file that needs nothing else; it holds prompts and answers in full.",
)
@click.option("--force", is_flag=True, help="Replace FILE even if it is not such a report.")
@apply(
    click.option("--simulated", is_flag=True, help="Runs with --simulate, which lie apart."),
    json_option,
)
def report(run: str, html_path: Path | None, force: bool, simulated: bool, as_json: bool) -> None:
    """Show what a run came to, or write it as one HTML file: graph, times, prompts, answers, costs."""
    from claude_force.cli.journal import open_store
    from claude_force.reporting.run_facts import facts_of

    store = open_store(simulated)
    found = store.load(store.find(run))
    if html_path is not None:
        write_report(found, html_path, replace=force)
    facts = facts_of(found)
    if as_json:
        print_json(_facts_json(found, facts, html_path))
    elif html_path is not None:
        click.echo(f"{html_path}: run {found.run_id}, {counted(len(found.steps), 'step')}.")
    else:
        _print_facts(found, facts)


def write_report(run: RunRecord, path: Path, *, replace: bool) -> None:
    """Write the report of a run, readable by its owner only; a report that is there is replaced.

    Raises:
        ConfigError: the file is something else, or cannot be written.
    """
    from claude_force.reporting.html import render_html
    from claude_force.storage.private_files import replace_private_file

    check_report_path(path, replace=replace)
    page = render_html(run)
    try:
        replace_private_file(path, page.encode())
    except OSError as error:
        raise ConfigError(f"{path}: the report cannot be written: {error.strerror}.") from error


def check_report_path(path: Path, *, replace: bool = False) -> None:
    """Pass if a report may be written there.

    Raises:
        ConfigError: something else is there, or there is no such folder.
    """
    from claude_force.reporting.html import REPORT_MARK

    if not path.parent.is_dir():
        raise ConfigError(
            f"{path}: there is no folder {path.parent}. Make it, or name another file."
        )
    if replace or not path.exists():
        return
    try:
        with path.open("rb") as file:
            is_report = REPORT_MARK.encode() in file.read(4096)
    except OSError as error:
        raise ConfigError(f"{path}: the report cannot be written: {error.strerror}.") from error
    if not is_report:
        raise ConfigError(
            f"{path} is there already, and is no report. Name another file, or replace it with --force."
        )


def _print_facts(run: RunRecord, facts: RunFacts) -> None:
    from claude_force.reporting.numbers import dollars, duration, tokens

    print_text(f"{run.run_id}  {run.workflow_name}: {run.state}")
    states = ", ".join(f"{number} {state}" for state, number in facts.counts.items() if number)
    print_text(f"steps     {len(run.steps)} ({states})")
    print_text(
        f"calls     {facts.calls}: {facts.cached_calls} from the cache, "
        f"{facts.retries} repeated, {facts.failed_calls} failed"
    )
    print_text(
        f"spent     {tokens(run.usage)}, {dollars(run.cost_usd)}; saved {dollars(facts.saved_usd)}"
    )
    path = " > ".join(facts.critical_steps)
    print_text(
        f"time      {duration(facts.wall_seconds)}; its critical path {duration(facts.critical_seconds)}, "
        f"one step after the other {duration(facts.step_seconds)}"
    )
    if path:
        print_text(f"critical  {path}")


def _facts_json(run: RunRecord, facts: RunFacts, html_path: Path | None) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "workflow": run.workflow_name,
        "state": run.state,
        "steps": {state: number for state, number in facts.counts.items() if number},
        "calls": facts.calls,
        "cached_calls": facts.cached_calls,
        "failed_calls": facts.failed_calls,
        "retries": facts.retries,
        "cost_usd": None if run.cost_usd is None else str(run.cost_usd),
        "saved_usd": str(facts.saved_usd),
        "wall_seconds": round(facts.wall_seconds, 3),
        "critical_seconds": round(facts.critical_seconds, 3),
        "step_seconds": round(facts.step_seconds, 3),
        "critical_steps": list(facts.critical_steps),
        "html": None if html_path is None else str(html_path),
    }
