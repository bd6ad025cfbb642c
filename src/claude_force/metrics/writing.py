"""Writes rows and keeps the roll-ups true, in one transaction."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import contextmanager
from itertools import chain
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Final

from claude_force.metrics.cells import Cell, by_agent, by_day, cell_of
from claude_force.metrics.schema import (
    DAY_SECONDS,
    HOUR_SECONDS,
    SEQUENCE_BITS,
    SEQUENCE_MASK,
    SUMS,
    picodollars,
)
from claude_force.metrics.sketch import Sketch

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from claude_force.metrics.cells import CellKey, Measured
    from claude_force.metrics.rows import CallRow

_COLUMNS: Final = 24
# The first columns of a row are its own; those behind them are mostly the same, and then left to the database.
_OWN_COLUMNS: Final = (
    "id, ended_ms, call_id, agent, model, requested_model, workflow, run_id, step_id, seconds, first_text_seconds, "
    "attempts, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost"
)
_OWN: Final = 17
# Where the kind of error stands in a stored row.
_ERROR_KIND: Final = 17
_ORDINARY: Final = (0, 0, None, 0, 0, 0, 0)
# Several rows in a statement: each statement has a price of its own, about half that of a row.
_ROWS_AT_ONCE: Final = 40
# Of a stored row what a cell is made of; see `MEASURED_COLUMNS`.
_measured: Final = itemgetter(9, 11, 17, 18, 12, 13, 14, 15, 16, 19, 20, 21, 22, 23)
_names: Final = attrgetter(
    "agent_name", "model", "requested_model", "workflow_name", "error_kind", "cached_tier"
)
_NO_NAME: Final[dict[str | None, int]] = {"": 0, None: 0}
_HOUR_MILLISECONDS: Final = HOUR_SECONDS * 1000
_DAY_MILLISECONDS: Final = DAY_SECONDS * 1000
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
                stored = self._all_stored(rows, self._take_places(len(rows)))
                self._insert(stored)
                hours = _by_hour(stored)
                self._merge("hours", hours)
                self._merge("agent_hours", by_agent(hours.items()))
                self._merge("days", by_day(hours.items()))
                self._count_failures(stored)
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
            execute(
                f"INSERT OR REPLACE INTO {table} (start, agent, model, workflow, {columns}, latency) VALUES ({marks})",  # noqa: S608 - as above
                (*key, *merged.stored()),
            )

    def _count_failures(self, stored: Iterable[Sequence[Any]]) -> None:
        """Add the calls that failed to the counts of their days."""
        counts = Counter(
            (row[1] // _DAY_MILLISECONDS * DAY_SECONDS, row[3], row[_ERROR_KIND])
            for row in stored
            if row[_ERROR_KIND]
        )
        self._connection.executemany(
            "INSERT INTO failure_days VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET calls = calls + excluded.calls",
            [(*key, count) for key, count in counts.items()],
        )

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

    def _take_places(self, count: int) -> int:
        """The first of so many places that no other row has in its millisecond."""
        (first,) = self._connection.execute("SELECT next FROM sequence").fetchone()
        self._connection.execute("UPDATE sequence SET next = ?", (first + count,))
        return int(first)

    def _insert(self, stored: Sequence[tuple[object, ...]]) -> None:
        ordinary = [row[:_OWN] for row in stored if row[_OWN:] == _ORDINARY]
        several = len(ordinary) - len(ordinary) % _ROWS_AT_ONCE
        self._connection.executemany(
            _insert(_OWN, _ROWS_AT_ONCE),
            (
                tuple(chain.from_iterable(ordinary[start : start + _ROWS_AT_ONCE]))
                for start in range(0, several, _ROWS_AT_ONCE)
            ),
        )
        self._connection.executemany(_insert(_OWN, 1), ordinary[several:])
        self._connection.executemany(
            _insert(_COLUMNS, 1), [row for row in stored if row[_OWN:] != _ORDINARY]
        )

    def _all_stored(self, rows: Sequence[CallRow], first: int) -> list[tuple[object, ...]]:
        try:
            return [self._stored(row, place) for place, row in enumerate(rows, first)]
        except KeyError:
            # A name that was not met before; looking at every name first would cost more than this once.
            self._number_all(rows)
            return [self._stored(row, place) for place, row in enumerate(rows, first)]

    def _stored(self, row: CallRow, place: int) -> tuple[object, ...]:
        # Unpacked at once: each field by its name would take half as long again as all the rest.
        (ended_at, call_id, agent, model, requested, seconds, attempts, workflow, run_id, step_id, error_kind,
         first_text, in_tokens, out_tokens, read_tokens, written_tokens, cost, tier, saved,
         plain, by_prefix, by_batch, by_model) = row  # fmt: skip
        number = self._number_by_name
        ended_ms = int(ended_at * 1000)
        return (
            ended_ms << SEQUENCE_BITS | place & SEQUENCE_MASK, ended_ms, call_id, number[agent], number[model], number[requested], number[workflow],
            run_id, step_id, seconds, first_text, attempts,
            in_tokens, out_tokens, read_tokens, written_tokens, picodollars(cost),
            number[error_kind], number[tier], picodollars(saved),
            picodollars(plain) if plain else 0,
            picodollars(by_prefix) if by_prefix or by_prefix is None else 0,
            picodollars(by_batch) if by_batch else 0,
            picodollars(by_model) if by_model else 0,
        )  # fmt: skip


def _insert(columns: int, rows: int) -> str:
    """The statement for so many rows, with all columns or only the first ones."""
    names = f" ({_OWN_COLUMNS})" if columns == _OWN else ""
    marks = f"({', '.join('?' * columns)})"
    return f"INSERT INTO calls{names} VALUES {', '.join([marks] * rows)}"  # noqa: S608 - nothing but question marks


def _by_hour(stored: Iterable[tuple[Any, ...]]) -> dict[CellKey, Cell]:
    calls: defaultdict[CellKey, list[Measured]] = defaultdict(list)
    for row in stored:
        hour = row[1] // _HOUR_MILLISECONDS * HOUR_SECONDS
        calls[hour, row[3], row[4], row[6]].append(_measured(row))
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
