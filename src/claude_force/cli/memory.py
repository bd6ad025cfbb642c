"""The group ``memory``: what agents remember."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_force.cli.options import apply, json_option
from claude_force.domain.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_force.memory.records import Explanation
    from claude_force.memory.store import MemoryStore

_place = apply(
    click.option(
        "--project",
        type=click.Path(path_type=Path),
        help="A project's folder, in place of the one that you work in.",
    ),
    click.option(
        "--dir",
        "folder",
        type=click.Path(path_type=Path),
        help="A state folder, in place of the user's own.",
    ),
    click.option("--simulated", is_flag=True, help="The memory of --simulate, which lies apart."),
    json_option,
)
_all_projects = click.option("--all-projects", is_flag=True, help="Of every project.")
_explain = click.option(
    "--explain", is_flag=True, help="Say on stderr what was read, and how long it took."
)
_limit = click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)


@click.group()
def memory() -> None:
    """Look at what agents remember of earlier tasks, search it, and forget."""


@memory.command("list")
@click.option("--agent", metavar="NAME", help="Only what this agent remembers.")
@_limit
@_all_projects
@_explain
@_place
def list_(  # noqa: PLR0917 - click passes options by name
    agent: str | None,
    limit: int,
    all_projects: bool,
    explain: bool,
    project: Path | None,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Show the newest memories of the project, the newest first."""
    from claude_force.cli.memory_tables import print_records, record_json
    from claude_force.cli.render import print_json

    with _opened(project, folder, simulated=simulated) as store:
        answer = store.latest(agent, limit=limit, all_projects=all_projects)
    if as_json:
        print_json([record_json(record) for record in answer.value])
    elif answer.value:
        print_records(answer.value, with_project=all_projects)
    else:
        click.echo(
            _nothing(store, agent, all_projects=all_projects) + _apart(folder, simulated=simulated)
        )
    _tell_how(answer.explanation, explain=explain)


@memory.command(short_help="Show what AGENT remembers that fits QUERY.")
@click.argument("agent")
@click.argument("query")
@_limit
@_explain
@_place
def search(  # noqa: PLR0917 - as above
    agent: str,
    query: str,
    limit: int,
    explain: bool,
    project: Path | None,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Show what AGENT remembers that fits QUERY, the best first, as a call with that task would find it."""
    from claude_force.cli.memory_tables import print_found, record_json
    from claude_force.cli.render import print_json

    with _opened(project, folder, simulated=simulated) as store:
        answer = store.search(agent, query, limit=limit)
    if as_json:
        print_json(
            [{"score": round(one.score, 4), **record_json(one.record)} for one in answer.value]
        )
    elif answer.value:
        print_found(answer.value)
    else:
        click.echo(
            f"{agent} remembers nothing of {store.project} that fits."
            + _apart(folder, simulated=simulated)
        )
    _tell_how(answer.explanation, explain=explain)


@memory.command()
@click.argument("record_id", metavar="ID", type=int)
@_place
def show(
    record_id: int, project: Path | None, folder: Path | None, simulated: bool, as_json: bool
) -> None:
    """Show one memory, all of it."""
    from claude_force.cli.memory_tables import print_record, record_json
    from claude_force.cli.render import print_json

    with _opened(project, folder, simulated=simulated) as store:
        record = store.get(record_id)
    if record is None:
        raise _no_such(record_id)
    if as_json:
        print_json(record_json(record))
    else:
        print_record(record)


@memory.command(short_help="Remove one, those of an agent, or all, for good.")
@click.argument("record_id", metavar="[ID]", type=int, required=False)
@click.option("--agent", metavar="NAME", help="All that this agent remembers of the project.")
@click.option("--all", "everything", is_flag=True, help="All that is remembered of the project.")
@_all_projects
@click.option("--yes", is_flag=True, help="Do not ask.")
@_place
def forget(  # noqa: PLR0917 - as above
    record_id: int | None,
    agent: str | None,
    everything: bool,
    all_projects: bool,
    yes: bool,
    project: Path | None,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Remove one memory, those of an agent, or all, for good: their text is overwritten on disk."""
    from claude_force.cli.render import print_json

    if sum((record_id is not None, agent is not None, everything)) != 1:
        raise click.UsageError("Name one memory by its ID, or an agent with --agent, or --all.")
    if record_id is not None and all_projects:
        raise click.UsageError("--all-projects goes with --agent or --all; an ID is that of one.")
    with _opened(project, folder, simulated=simulated) as store:
        if record_id is not None and store.get(record_id) is None:
            raise _no_such(record_id)
        count = 1 if record_id is not None else _count(store, agent, all_projects=all_projects)
        what = _what(store, count, record_id, agent, all_projects=all_projects)
        if count and not (yes or click.confirm(f"Forget {what}?", err=True)):
            click.echo("Nothing was forgotten.", err=True)
            raise click.exceptions.Exit(130)
        if record_id is not None:
            removed = int(store.forget(record_id))
        elif agent is not None:
            removed = store.forget_agent(agent, all_projects=all_projects)
        else:
            removed = store.forget_all(all_projects=all_projects)
    if as_json:
        print_json({"removed": removed})
    else:
        click.echo(f"{_memories(removed)} removed.")


@memory.command()
@click.option("--agent", metavar="NAME", help="Only what this agent remembers.")
@click.option("--output", type=click.Path(path_type=Path), help="A file, in place of stdout.")
@_all_projects
@_place
def export(  # noqa: PLR0917 - as above
    agent: str | None,
    output: Path | None,
    all_projects: bool,
    project: Path | None,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Write every memory as a line of JSON, the oldest first."""
    del as_json
    from claude_force.cli.memory_tables import write_records

    with _opened(project, folder, simulated=simulated) as store:
        count = write_records(store.records(agent, all_projects=all_projects), output)
    if output is not None:
        click.echo(f"{output}: {_memories(count)}.", err=True)


@contextmanager
def _opened(project: Path | None, folder: Path | None, *, simulated: bool) -> Iterator[MemoryStore]:
    from claude_force.assembly.lookup import state_folder
    from claude_force.assembly.remembering import open_memory
    from claude_force.config.environment import read_environment

    for named in (project, folder):
        if named is not None and not named.is_dir():
            raise InputError(f"There is no folder {str(named)!r}.")
    place = folder or state_folder(read_environment(), simulated=simulated)
    with open_memory(place, project=project) as store:
        yield store


def _count(store: MemoryStore, agent: str | None, *, all_projects: bool) -> int:
    return sum(
        size.records
        for size in store.scopes().value
        if agent in {None, size.agent_name} and (all_projects or size.project == store.project)
    )


def _what(
    store: MemoryStore,
    count: int,
    record_id: int | None,
    agent: str | None,
    *,
    all_projects: bool,
) -> str:
    if record_id is not None:
        return f"memory {record_id}"
    place = "every project" if all_projects else store.project
    return f"{_memories(count)} of {agent or 'all agents'} in {place}"


def _memories(count: int) -> str:
    return "1 memory" if count == 1 else f"{count:,} memories"


def _nothing(store: MemoryStore, agent: str | None, *, all_projects: bool) -> str:
    whose = agent or "No agent"
    remembers = "remembers nothing" if agent else "remembers anything"
    place = "" if all_projects else f" of {store.project}"
    return f"{whose} {remembers}{place}. Run one with --memory."


def _apart(folder: Path | None, *, simulated: bool) -> str:
    from claude_force.assembly.lookup import state_folder
    from claude_force.assembly.remembering import MEMORY_FILE
    from claude_force.config.environment import read_environment

    if folder is not None or simulated:
        return ""
    other = state_folder(read_environment(), simulated=True) / MEMORY_FILE
    return " That of --simulate lies apart: add --simulated." if other.exists() else ""


def _no_such(record_id: int) -> InputError:
    return InputError(
        f"There is no memory {record_id}. `claude-force memory list --all-projects` shows those that there are."
    )


def _tell_how(explanation: Explanation, *, explain: bool) -> None:
    if explain:
        # The cache is one of a process, and this one began with the command.
        found = "hit" if explanation.hit else "miss, a command begins with an empty one"
        click.echo(
            f"query cache: {found}; read {explanation.read}; "
            f"{explanation.seconds * 1000:.1f} ms; version {explanation.version}",
            err=True,
        )
