"""Writes calls as CSV, as JSON, or as Parquet, one a line."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeAlias

import msgspec

from claude_force.metrics.rows import CallRow

if TYPE_CHECKING:
    from collections.abc import Iterable

ExportFormat: TypeAlias = Literal["csv", "json", "parquet"]

_DOLLARS: Final = tuple(name for name in CallRow._fields if name.endswith("_usd"))
# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def write_rows(rows: Iterable[CallRow], file_format: ExportFormat, file: BinaryIO) -> int:
    """Write calls while they are read, in bounded memory; how many.

    Raises:
        OptionalDependencyError: Parquet is asked for, and the extra ``parquet`` is not installed.
    """
    match file_format:
        case "csv":
            return _write_csv(rows, file)
        case "json":
            return _write_json(rows, file)
        case "parquet":
            # The library takes a quarter of a second to import.
            from claude_force.metrics.parquet import write_parquet  # noqa: PLC0415

            return write_parquet(rows, file)


def row_json(row: CallRow) -> dict[str, Any]:
    """A call as JSON; dollars as text, so that no digit is lost."""
    values = row._asdict()
    values["ended_at"] = datetime.fromtimestamp(row.ended_at, UTC).isoformat(
        timespec="milliseconds"
    )
    for name in _DOLLARS:
        if values[name] is not None:
            values[name] = f"{values[name]:f}"
    return values


def _write_json(rows: Iterable[CallRow], file: BinaryIO) -> int:
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - the number of the last one is the result
        file.write(msgspec.json.encode(row_json(row)) + b"\n")
    return count


def _write_csv(rows: Iterable[CallRow], file: BinaryIO) -> int:
    # In UTF-8 whatever the locale says, and with the line ends that are written here.
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CallRow._fields)
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - as above
        writer.writerow(map(_safe, row_json(row).values()))
    # Flushes, and leaves the file to whoever opened it.
    text.detach()
    return count


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
