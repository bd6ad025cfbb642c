"""What the commands of ``metrics`` share: where the store is, from when on, and how a result came about."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_force.agents.cleaning import clean_text
from claude_force.assembly.lookup import state_folder
from claude_force.assembly.metering import METRICS_FILE, open_metrics
from claude_force.cli.durations import Duration, age
from claude_force.cli.options import apply, json_option
from claude_force.config.environment import read_environment
from claude_force.domain.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_force.metrics.queries import Answer
    from claude_force.metrics.reader import MetricsReader

WEEK_SECONDS = 7 * 86_400.0

place_options = apply(
    click.option(
        "--dir",
        "folder",
        type=click.Path(path_type=Path),
        help="A state folder, in place of the user's own.",
    ),
    click.option("--simulated", is_flag=True, help="The calls of --simulate, which lie apart."),
    json_option,
)
since_option = click.option(
    "--since",
    type=Duration(),
    metavar="AGE",
    default=WEEK_SECONDS,
    show_default="7d",
    help="Calls of the last so long, such as 1h or 30d.",
)
agent_option = click.option("--agent", metavar="NAME", help="Only the calls of this agent.")
explain_option = click.option(
    "--explain", is_flag=True, help="Say on stderr what was read, and how long it took."
)
query_options = apply(since_option, agent_option, explain_option, place_options)


def metrics_folder(folder: Path | None, *, simulated: bool) -> Path:
    """Where the store is.

    Raises:
        InputError: the user names a folder that is not there. Their own is only empty so far.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"There is no folder {str(folder)!r}.")
    return folder or state_folder(read_environment(), simulated=simulated)


def metrics_path(folder: Path | None, *, simulated: bool) -> Path:
    """The store itself, whether it is there or not."""
    return metrics_folder(folder, simulated=simulated) / METRICS_FILE


@contextmanager
def opened(folder: Path | None, *, simulated: bool) -> Iterator[MetricsReader]:
    """The reader of the store."""
    reader = open_metrics(metrics_folder(folder, simulated=simulated))
    try:
        yield reader
    finally:
        reader.close()


def nothing_recorded(
    since: float, agent: str | None, folder: Path | None, *, simulated: bool
) -> str:
    """What is said in place of an empty table, with what to try next."""
    whose = "" if agent is None else f" of {clean_text(agent)}"
    said = f"No calls{whose} were recorded in the last {age(since)}."
    apart = folder is None and not simulated and metrics_path(None, simulated=True).exists()
    return f"{said} Those of --simulate lie apart: add --simulated." if apart else said


def tell_how(answer: Answer[Any], *, explain: bool) -> None:
    """How a result came about, on stderr."""
    if explain:
        how = answer.explanation
        # The cache is one of a process, and this one began with the command.
        found = "hit" if how.hit else "miss, a command begins with an empty one"
        click.echo(
            f"query cache: {found}; read {how.read}; {how.seconds * 1000:.1f} ms; "
            f"version {how.version}",
            err=True,
        )
