"""``cache pin``, ``unpin`` and ``pins``: answers of runs that stay."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from claude_force.cli.cache_options import open_cache, where_options
from claude_force.cli.render import print_json
from claude_force.domain.errors import ConfigError
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from claude_force.cache.pins import Pins

_MEGABYTE = 1_048_576


@click.command()
@click.argument("run")
@where_options
def pin(run: str, config: Path | None, folder: Path | None, simulated: bool, as_json: bool) -> None:
    """Keep the answers of RUN past their lifetime, and when others make room.

    RUN is the id of a run of a workflow, the beginning of one, or `last`.
    """
    from claude_force.assembly.cache_methods import pin_answers
    from claude_force.assembly.lookup import state_folder
    from claude_force.config.environment import read_environment
    from claude_force.workflows.run_store import RunStore

    runs = RunStore(state_folder(read_environment(), simulated=simulated))
    run_id = runs.find(run)
    with _open(config, folder, simulated) as pins:
        report = pin_answers(pins, runs.answer_keys(run_id), run_id)
    if as_json:
        print_json({"run": run_id, "pinned": report.pinned, "missing": report.missing})
        return
    missing = f"; {report.missing:,} are not in the cache" if report.missing else ""
    click.echo(f"{run_id}: {counted(report.pinned, 'answer')} kept{missing}.")


@click.command()
@click.argument("run")
@where_options
def unpin(
    run: str, config: Path | None, folder: Path | None, simulated: bool, as_json: bool
) -> None:
    """Let go of the answers of RUN: they live as long as others again."""
    from claude_force.assembly.cache_methods import pinned_run_id

    with _open(config, folder, simulated) as pins:
        run_id = pinned_run_id(pins, run)
        count = pins.unpin(run_id)
    if as_json:
        print_json({"run": run_id, "unpinned": count})
    else:
        click.echo(f"{run_id}: {counted(count, 'answer')} let go.")


@click.command()
@where_options
def pins(config: Path | None, folder: Path | None, simulated: bool, as_json: bool) -> None:
    """List the runs whose answers stay, the one pinned last first."""
    with _open(config, folder, simulated) as found:
        runs = found.runs()
    if as_json:
        print_json(
            [
                {
                    "run": run.run_id,
                    "answers": run.entries,
                    "size_bytes": run.size_bytes,
                    "pinned_at": _moment(run.pinned_at),
                }
                for run in runs
            ]
        )
        return
    if not runs:
        click.echo("No run is pinned; `claude-force cache pin RUN` does it.", err=True)
    for run in runs:
        click.echo(
            f"{run.run_id}  {counted(run.entries, 'answer')}, {run.size_bytes / _MEGABYTE:.2f} MB, "
            f"since {_moment(run.pinned_at)}"
        )


def _moment(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="seconds")


@contextmanager
def _open(config: Path | None, folder: Path | None, simulated: bool) -> Iterator[Pins]:
    with open_cache(config, folder, simulated) as (store, _):
        if store.pins is None:
            raise ConfigError("This cache keeps nothing on disk, so nothing can be pinned.")
        yield store.pins
