"""Writes calls as CSV or as JSON, one a line."""

from __future__ import annotations

import csv
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, TextIO

import msgspec

from claude_force.cli.metrics_tables import call_json
from claude_force.metrics.rows import CallRow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_calls(calls: Iterable[CallRow], file_format: str, output: Path | None) -> int:
    """Write calls to a file, or to stdout; how many."""
    opened = (
        nullcontext(sys.stdout)
        if output is None
        else output.open("w", encoding="utf-8", newline="")
    )
    with opened as file:
        return (_write_json if file_format == "json" else _write_csv)(calls, file)


def _write_json(calls: Iterable[CallRow], file: TextIO) -> int:
    count = 0
    for count, call in enumerate(calls, 1):  # noqa: B007 - the number of the last one is the result
        file.write(msgspec.json.encode(call_json(call)).decode() + "\n")
    return count


def _write_csv(calls: Iterable[CallRow], file: TextIO) -> int:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CallRow._fields)
    count = 0
    for count, call in enumerate(calls, 1):  # noqa: B007 - as above
        writer.writerow(map(_safe, call_json(call).values()))
    return count


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
