"""The group ``cache``: what the response cache holds, and why it did not answer."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_force.assembly.lookup import find_settings
from claude_force.cli.cache_options import open_cache, shared_option, where_options
from claude_force.cli.cache_pins import pin, pins, unpin
from claude_force.cli.cache_warm import warm
from claude_force.cli.durations import Duration
from claude_force.cli.render import print_json
from claude_force.config.environment import read_environment
from claude_force.domain.errors import InputError
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_force.cache.entries import CacheEntry
    from claude_force.cache.semantic.task_tier import TaskTier
    from claude_force.cache.store import CacheStore
    from claude_force.cache.tier import TierStats


@click.group()
def cache() -> None:
    """Look into the response cache, fill it, clear it, check it, carry it elsewhere."""


for _command in (warm, pin, unpin, pins):
    cache.add_command(_command)


@cache.command()
@shared_option
@where_options
def stats(
    shared: bool, config: Path | None, folder: Path | None, simulated: bool, as_json: bool
) -> None:
    """Show how much is stored, and where."""
    from claude_force.cli.cache_semantic import stats_json, stats_line

    with (
        open_cache(config, folder, simulated, shared=shared) as (store, place),
        _tasks(config, place) as tasks,
    ):
        _, disk, *rest = store.stats()
        saved = _worth(store)
        similar = None if tasks is None else (stats_json(tasks), stats_line(tasks))
    if as_json:
        shown: dict[str, Any] = {"folder": str(place), "worth_usd": saved} | _numbers(disk)
        shown |= {tier.name: _numbers(tier) for tier in rest}
        print_json(shown if similar is None else shown | {"semantic": similar[0]})
        return
    click.echo(f"{place}")
    click.echo(f"entries: {disk.entries:,}")
    click.echo(f"size: {disk.size_bytes / 1_048_576:.1f} of {disk.max_bytes / 1_048_576:g} MB")
    click.echo(f"worth: ${saved} were paid for the answers in it")
    for tier in rest:
        trouble = "; it did not answer" if tier.failures else ""
        click.echo(
            f"redis: {tier.entries:,} entries, {tier.size_bytes / 1_048_576:.1f} MB{trouble}"
        )
    if similar is not None:
        click.echo(similar[1])


@cache.command()
@click.option("--agent", help="Only the answers of this agent.")
@click.option(
    "--older-than", type=Duration(), metavar="AGE", help="Only answers older than this, such as 7d."
)
@shared_option
@where_options
def clear(  # noqa: PLR0917 - click passes options by name
    agent: str | None,
    older_than: float | None,
    shared: bool,
    config: Path | None,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Remove answers: all of them, of one agent, or older than an age."""
    from time import time

    with (
        open_cache(config, folder, simulated, shared=shared) as (store, place),
        _tasks(config, place) as tasks,
    ):
        removed = store.clear(agent_name=agent, older_than_seconds=older_than)
        if tasks is not None:
            before = None if older_than is None else time() - older_than
            tasks.clear(agent_name=agent, created_before=before)
    if as_json:
        print_json({"folder": str(place), "removed": removed})
    else:
        click.echo(f"{place}: {counted(removed, 'answer')} removed.")


@cache.command()
@shared_option
@where_options
@click.pass_context
def verify(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    shared: bool,
    config: Path | None,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Check the signature of every stored answer; exit code 1 if one does not hold."""
    from claude_force.cli.cache_semantic import verified

    with open_cache(config, folder, simulated, shared=shared) as (store, place):
        result = store.verify()
        with _tasks(config, place) as tasks:
            similar = None if tasks is None else verified(tasks)
    if as_json:
        shown = {"folder": str(place), "valid": result.valid, "invalid": result.invalid}
        print_json(shown if similar is None else shown | {"semantic": similar})
    else:
        click.echo(f"{place}: {counted(result.valid, 'answer')} intact, {result.invalid:,} not.")
        if result.invalid:
            click.echo(
                "Those are never served: they were edited, cut off, or signed with another secret."
            )
        if similar is not None:
            click.echo(
                f"semantic: {counted(similar['valid'], 'task')} intact, {similar['invalid']:,} not."
            )
    if result.invalid or (similar and similar["invalid"]):
        ctx.exit(1)


@cache.command()
@click.argument("request", default="last")
@where_options
def why(
    request: str, config: Path | None, folder: Path | None, simulated: bool, as_json: bool
) -> None:
    """Tell why REQUEST was not answered from the cache: what differs from the nearest earlier one.

    REQUEST is 'last' (the default), a request id (req_…) or the beginning of a key.
    """
    from claude_force.cli.cache_semantic import nearest_json, nearest_line, nearest_of

    with open_cache(config, folder, simulated) as (store, place), _tasks(config, place) as tasks:
        entry = _entry(store, request)
        nearest = store.why(entry.fields, except_key=entry.key)
        similar = nearest_of(tasks, entry)
    changed = [] if nearest is None else [change.name for change in nearest.changes]
    if as_json:
        print_json(
            {
                "key": entry.key,
                "agent": entry.agent_name,
                "nearest": nearest.entry.key if nearest else None,
                "changed": changed,
            }
            | ({} if similar is None else {"similar": nearest_json(similar)})
        )
        return
    click.echo(f"{entry.key} · {entry.agent_name} · {entry.model}")
    if nearest is None:
        click.echo("There is no other answer to compare it with.")
    else:
        click.echo(
            f"nearest: {nearest.entry.key} · {nearest.entry.agent_name} · {nearest.entry.model}"
        )
        click.echo(
            f"differs in: {', '.join(map(_readable, changed)) or 'nothing: it was asked anew'}"
        )
    if similar is not None:
        click.echo(nearest_line(similar, entry, find_settings(config, read_environment()).cache))


@cache.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@where_options
def export_answers(
    file: Path, config: Path | None, folder: Path | None, simulated: bool, as_json: bool
) -> None:
    """Write every answer to FILE, for a machine with the same CLAUDE_CACHE_SECRET."""
    with open_cache(config, folder, simulated) as (store, _):
        count = store.export_to(file)
    if as_json:
        print_json({"file": str(file), "exported": count})
    else:
        click.echo(f"{file}: {counted(count, 'answer')}.")


@cache.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@where_options
@click.pass_context
def import_answers(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    file: Path,
    config: Path | None,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Take the answers of FILE; those that another secret signed are refused (exit code 1)."""
    with open_cache(config, folder, simulated, may_be_new=True) as (store, _):
        taken, refused = store.import_from(file)
    if as_json:
        print_json({"file": str(file), "imported": taken, "refused": refused})
    else:
        click.echo(f"{file}: {counted(taken, 'answer')} taken, {refused:,} refused.")
        if refused:
            click.echo(
                "Refused are answers that are damaged, or signed with another CLAUDE_CACHE_SECRET."
            )
    if refused:
        ctx.exit(1)


@contextmanager
def _tasks(config: Path | None, place: Path) -> Iterator[TaskTier | None]:
    """The tasks of the semantic cache beside the answers; None where there are none."""
    from claude_force.cli.cache_semantic import stored_tasks

    environment = read_environment()
    settings = find_settings(config, environment).cache
    with stored_tasks(settings, place, environment.cache_secret) as tier:
        yield tier


def _entry(store: CacheStore, request: str) -> CacheEntry:
    """The entry that the user means.

    Raises:
        InputError: there is none.
    """
    from claude_force.cache.answers import request_id_of

    newest: CacheEntry | None = None
    for entry in store.entries():
        if request == "last":
            if newest is None or entry.created_at > newest.created_at:
                newest = entry
        elif entry.key.startswith(request) or request_id_of(entry) == request:
            return entry
    if newest is None:
        raise InputError(
            f"The cache holds no answer to {request!r}. It is 'last', a request id (req_…) or the beginning of a key; "
            "unfinished answers are never stored."
        )
    return newest


def _readable(field: str) -> str:
    """A field of the request as its user knows it."""
    if field.startswith("system"):
        return f"the agent's prompt ({field})"
    if field.startswith("messages"):
        return f"the task or what is attached to it ({field})"
    return field


def _worth(store: CacheStore) -> str:
    from decimal import Decimal

    return str(
        sum((Decimal(entry.cost_usd) for entry in store.entries() if entry.cost_usd), Decimal(0))
    )


def _numbers(disk: TierStats) -> dict[str, int]:
    return {"entries": disk.entries, "size_bytes": disk.size_bytes, "max_bytes": disk.max_bytes}
