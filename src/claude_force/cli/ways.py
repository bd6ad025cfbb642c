"""Options on how calls go out: at once or in batches, and whether answers that were cut off are continued."""

from __future__ import annotations

from typing import Any, TypedDict

import click

from claude_force.cli.options import apply, continue_option

way_options = apply(
    click.option(
        "--batch/--no-batch",
        default=None,
        help="Send the calls of every step that allows it in message batches, at half the price within a day; or of "
        "none. Without either as the workflow says.",
    ),
    continue_option,
)


class Ways(TypedDict):
    """How the calls of a workflow go out, where the command line says so."""

    batch: bool | None
    continue_truncated: int | None


def ways_of(values: dict[str, Any]) -> Ways:
    """The options out of a command's arguments."""
    return {"batch": values.pop("batch"), "continue_truncated": values.pop("continue_truncated")}
