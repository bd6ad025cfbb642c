"""Memories as a person reads them, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from claude_force.agents.cleaning import clean_text
from claude_force.cli.render import columns, terminal_width
from claude_force.workflows.json_lines import json_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from claude_force.memory.records import MemoryRecord, Recollection

_DAY_AND_TIME = "%Y-%m-%d %H:%M"


def print_records(records: Sequence[MemoryRecord], *, with_project: bool) -> None:
    """One line a memory: its number, when, whose, and the task."""
    head = ["id", "when (UTC)", "agent", *(["project"] if with_project else []), "task"]
    rows = [
        [
            str(record.id),
            f"{record.recorded_at:{_DAY_AND_TIME}}",
            record.agent_name,
            *([record.project] if with_project else []),
            record.task,
        ]
        for record in records
    ]
    _print([head, *rows])


def print_found(found: Sequence[Recollection]) -> None:
    """One line a memory: how well it fits, its number, when, and the task."""
    rows = [
        [
            f"{one.score:.2f}",
            str(one.record.id),
            f"{one.record.recorded_at:{_DAY_AND_TIME}}",
            one.record.task,
        ]
        for one in found
    ]
    _print([["score", "id", "when (UTC)", "task"], *rows])


def print_record(record: MemoryRecord) -> None:
    """All of one memory."""
    for name, value in (
        ("agent", record.agent_name),
        ("project", record.project),
        ("when", f"{record.recorded_at:{_DAY_AND_TIME}} UTC"),
        ("model", record.model),
    ):
        click.echo(clean_text(f"{name}: {value}"))
    for name, text in (
        ("task", record.task),
        ("digest", record.digest),
        ("outcome", record.outcome),
    ):
        click.echo(clean_text(f"\n{name}\n{text}"))


def record_json(record: MemoryRecord) -> dict[str, Any]:
    """A memory as JSON."""
    return {
        "id": record.id,
        "project": record.project,
        "agent": record.agent_name,
        "recorded_at": record.recorded_at.isoformat(timespec="milliseconds"),
        "model": record.model,
        "task": record.task,
        "digest": record.digest,
        "outcome": record.outcome,
    }


def write_records(records: Iterable[MemoryRecord], output: Path | None) -> int:
    """Write one JSON object a line; how many. A file is there whole or not at all, and only its owner can read it."""
    count = 0
    if output is None:
        for count, record in enumerate(records, start=1):  # noqa: B007 - counts
            click.echo(json_line(record_json(record)))
        return count
    from claude_force.storage.private_files import private_output

    with private_output(output) as file:
        for count, record in enumerate(records, start=1):  # noqa: B007 - as above
            file.write(json_line(record_json(record)).encode() + b"\n")
    return count


def _print(rows: list[list[str]]) -> None:
    for line in columns(rows, width=terminal_width()):
        click.echo(line)
