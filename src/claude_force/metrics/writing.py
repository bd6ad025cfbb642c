"""Writes rows and keeps the roll-ups true, in one transaction."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from itertools import chain
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Final

from claude_force.metrics.cells import Cell, by_agent, by_day, cell_of
from claude_force.metrics.schema import HOUR_SECONDS, SUMS, picodollars
from claude_force.metrics.sketch import Sketch

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from claude_force.metrics.cells import CellKey, Measured
    from claude_force.metrics.rows import CallRow

_INSERT: Final = f"INSERT INTO calls VALUES (NULL{', ?' * 19})"  # noqa: S608 - nothing but question marks
# Of a stored row what a cell is made of; see `MEASURED_COLUMNS`.
_measured: Final = itemgetter(9, 11, 8, 17, 12, 13, 14, 15, 16, 18)
_names: Final = attrgetter(
    "agent_name", "model", "requested_model", "workflow_name", "error_kind", "cached_tier"
)
_NO_NAME: Final[dict[str | None, int]] = {"": 0, None: 0}
_HOUR_MILLISECONDS: Final = HOUR_SECONDS * 1000
_MOST_NAMES: Final = 10_000


class RowWriter:
    """Writes through one connection, used by one thread at a time. Raises what SQLite raises."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._number_by_name: dict[str | None, int] = dict(_NO_NAME)

    def write(self, rows: Sequence[CallRow]) -> None:
        """Write rows, and add them to the hours and days in which they ended."""
        try:
            with transaction(self._connection):
                self._number_all(rows)
                stored = [self._stored(row) for row in rows]
                self._connection.executemany(_INSERT, stored)
                hours = _by_hour(stored)
                self._merge("hours", hours)
                self._merge("agent_hours", by_agent(hours.items()))
                self._merge("days", by_day(hours.items()))
        except BaseException:
            # Names that were rolled back have no number.
            self._number_by_name = dict(_NO_NAME)
            raise

    def _merge(self, table: str, cells: Mapping[CellKey, Cell]) -> None:
        execute = self._connection.execute
        columns = ", ".join(SUMS)
        for key, cell in cells.items():
            found = execute(
                f"SELECT {columns}, latency FROM {table} "  # noqa: S608 - names of this module
                "WHERE start = ? AND agent = ? AND model = ? AND workflow = ?",
                key,
            ).fetchone()
            merged = cell
            if found is not None:
                merged = Cell(found[:-1], Sketch.from_bytes(found[-1]))
                merged.merge(cell)
            marks = ", ".join("?" * (len(key) + len(SUMS) + 1))
            execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (*key, *merged.stored()))  # noqa: S608 - as above

    def _number_all(self, rows: Iterable[CallRow]) -> None:
        """Learn the numbers of the names in ``rows``, giving one to those that have none."""
        known = self._number_by_name
        if len(known) > _MOST_NAMES:
            # A program that makes up names must not fill the memory with them.
            known.clear()
            known |= _NO_NAME
        wanted = set(chain.from_iterable(map(_names, rows))) - known.keys()
        for name in sorted(wanted):
            self._connection.execute("INSERT OR IGNORE INTO names (name) VALUES (?)", (name,))
            (known[name],) = self._connection.execute(
                "SELECT id FROM names WHERE name = ?", (name,)
            ).fetchone()

    def _stored(self, row: CallRow) -> tuple[object, ...]:
        # Unpacked at once: each field by its name would take half as long again as all the rest.
        (ended_at, call_id, agent, model, requested, seconds, attempts, workflow, run_id, step_id, error_kind,
         first_text, in_tokens, out_tokens, read_tokens, written_tokens, cost, tier, saved) = row  # fmt: skip
        number = self._number_by_name
        return (
            int(ended_at * 1000), call_id, number[agent], number[model], number[requested], number[workflow],
            run_id, step_id, number[error_kind], seconds, first_text, attempts,
            in_tokens, out_tokens, read_tokens, written_tokens, picodollars(cost), number[tier], picodollars(saved),
        )  # fmt: skip


def _by_hour(stored: Iterable[tuple[Any, ...]]) -> dict[CellKey, Cell]:
    calls: defaultdict[CellKey, list[Measured]] = defaultdict(list)
    for row in stored:
        hour = row[0] // _HOUR_MILLISECONDS * HOUR_SECONDS
        calls[hour, row[2], row[3], row[5]].append(_measured(row))
    return {key: cell_of(measured) for key, measured in calls.items()}


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction; an exception rolls it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled it back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
