"""The group ``workflow``: list, show and check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from claude_force.cli.options import agents_option, config_option, json_option
from claude_force.cli.render import columns, print_json, print_text, terminal_width
from claude_force.domain.errors import WorkflowDefinitionError
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.orchestrator import AsyncAgentOrchestrator
    from claude_force.workflows.definition import Workflow


@click.group()
def workflow() -> None:
    """List, show and check workflows."""


@workflow.command("list")
@config_option
@agents_option
@json_option
def list_workflows(config: Path | None, agents: Path | None, as_json: bool) -> None:
    """List every workflow that can be run by name."""
    force = _open(config, agents)
    library = force.workflow_library()
    rows: list[tuple[str, str, str]] = []
    entries: list[dict[str, Any]] = []
    for name, places in library.places().items():
        where = [library.shown(place) for place in places]
        found, problems = _load(force, name)
        entries.append(
            {
                "name": name,
                "places": where,
                "steps": None if found is None else len(found.steps),
                "description": None if found is None else found.description,
                "problems": problems,
            }
        )
        rows.append((name, _size(found), _about(found, problems)))
    if as_json:
        print_json(entries)
        return
    for line in columns(rows, width=terminal_width()):
        click.echo(line)
    click.echo(_count_line(entries), err=True)


@workflow.command()
@click.argument("name")
@click.option("--mermaid", "form", flag_value="mermaid", help="Print a Mermaid flowchart.")
@click.option("--dot", "form", flag_value="dot", help="Print a graph in the DOT language.")
@config_option
@agents_option
@json_option
def show(
    name: str, form: str | None, config: Path | None, agents: Path | None, as_json: bool
) -> None:
    """Show the workflow NAME (or that of a file): its steps, what they wait for, and their settings."""
    from claude_force.workflows.drawing import draw_dot, draw_mermaid, draw_tree

    force = _open(config, agents)
    found = force.load_workflow(name)
    if as_json:
        print_json(found.to_dict())
    elif form is not None:
        click.echo(draw_mermaid(found) if form == "mermaid" else draw_dot(found))
    else:
        print_text(f"{found.name}: {found.description}" if found.description else found.name)
        for line in draw_tree(found):
            click.echo(line)
        click.echo(f"answer of the workflow: {', '.join(map(_plain, found.final_steps))}")


@workflow.command()
@click.argument("file", required=False, metavar="[FILE]")
@config_option
@agents_option
@json_option
@click.pass_context
def check(
    ctx: click.Context, file: str | None, config: Path | None, agents: Path | None, as_json: bool
) -> None:
    """Check every workflow, or the one of FILE (or of that name); exit code 1 if something is wrong."""
    force = _open(config, agents)
    library = force.workflow_library()
    places = library.places()
    names = list(places) if file is None else [file]
    verdicts = {name: _load(force, name)[1] for name in names}
    if as_json:
        print_json(
            {
                "ok": not any(verdicts.values()),
                "workflows": [
                    {
                        "name": name,
                        "places": [library.shown(place) for place in places.get(name, ())],
                        "problems": problems,
                    }
                    for name, problems in verdicts.items()
                ],
            }
        )
    else:
        for name, problems in verdicts.items():
            where = ", ".join(library.shown(place) for place in places.get(name, ())) or name
            for problem in problems:
                print_text(
                    f"error: {where}: {name}: {problem}"
                    if where != name
                    else f"error: {name}: {problem}"
                )
        click.echo(_verdict_line(list(verdicts.values())))
    if any(verdicts.values()):
        ctx.exit(1)


def _open(config: Path | None, agents: Path | None) -> AsyncAgentOrchestrator:
    """Nothing is connected before a call is made, so there is nothing to close."""
    from claude_force.orchestrator import AsyncAgentOrchestrator

    return AsyncAgentOrchestrator(config, agents_dir=agents)


def _load(force: AsyncAgentOrchestrator, name: str) -> tuple[Workflow | None, list[str]]:
    """The workflow, or all that is wrong with it."""
    try:
        return force.load_workflow(name), []
    except WorkflowDefinitionError as error:
        return None, list(error.problems) or [str(error)]


def _size(found: Workflow | None) -> str:
    if found is None:
        return "broken"
    return counted(len(found.steps), "step")


def _about(found: Workflow | None, problems: list[str]) -> str:
    if found is None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return f"{problems[0]}{more}"
    return found.description or " -> ".join(step.agent_name for step in found.steps)


def _count_line(entries: list[dict[str, Any]]) -> str:
    if not entries:
        return "0 workflows. `claude-force init` writes some."
    broken = sum(bool(entry["problems"]) for entry in entries)
    wrong = f", {broken} of them broken (claude-force workflow check says why)" if broken else ""
    return f"{len(entries)} {'workflow' if len(entries) == 1 else 'workflows'}{wrong}"


def _verdict_line(verdicts: list[list[str]]) -> str:

    errors, wrong = sum(map(len, verdicts)), sum(map(bool, verdicts))
    where = f" in {wrong} of them" if errors and len(verdicts) > 1 else ""
    return f"{counted(len(verdicts), 'workflow')}: {counted(errors, 'error') if errors else 'no errors'}{where}."


def _plain(text: str) -> str:
    from claude_force.agents.cleaning import clean_text

    return clean_text(text)
