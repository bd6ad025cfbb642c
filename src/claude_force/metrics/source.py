"""The database of metrics as rows and cells, with names in place of their numbers."""
# ruff: noqa: S608 - names and conditions in statements are written in this package, values are bound

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

from claude_force.metrics.cells import MEASURED_COLUMNS, Cell, cell_of, hour_of
from claude_force.metrics.rows import CallRow
from claude_force.metrics.schema import SCHEMA, SUMS, dollars, first_id
from claude_force.metrics.sketch import Sketch
from claude_force.storage.database import open_database
from claude_force.storage.errors import StorageError
from claude_force.storage.query_cache import data_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from claude_force.metrics.cover import Part

CALL_COLUMNS: Final = (
    "ended_ms, call_id, agent, model, requested_model, seconds, attempts, workflow, run_id, step_id, error_kind, "
    "first_text_seconds, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost, cached_tier, saved, "
    "plain, prompt_cache_saved, batch_saved, fallback_saved"
)

_ROWS_AT_ONCE: Final = 1000
# Later than any call, and its id is still a number of 64 bits.
_LAST_SECOND: Final = 2**32


class CallSource:
    """Reads through one connection, used by one thread at a time; it makes nothing by looking.

    Raises:
        StorageError: by every method, when the database cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._names: dict[int, str] = {}

    def opened(self) -> bool:
        """False while there is no database; every other method is for one that is open."""
        if self._connection is None and self._path.exists():
            self._connection = open_database(self._path, SCHEMA)
        return self._connection is not None

    def version(self) -> int:
        """See `data_version`."""
        return data_version(self._open_connection())

    def close(self) -> None:
        """Close the database; the next question opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def cells(self, part: Part, agent: str | None) -> Iterator[tuple[int, int, int, int, Cell]]:
        """Start, agent, model, workflow (as numbers) and sums of the calls of a stretch of time."""
        condition, values = agent_condition(agent)
        if part.table == "calls":
            yield from self._cells_of_calls(part, condition, values)
            return
        rows = self.execute(
            f"SELECT start, agent, model, workflow, {', '.join(SUMS)}, latency FROM {part.table} "
            f"WHERE start >= ? AND start < ?{condition}",
            part.since,
            part.until,
            *values,
        )
        for start, number, model, workflow, *sums, latency in rows:
            yield start, number, model, workflow, Cell(sums, Sketch.from_bytes(latency))

    def _cells_of_calls(
        self, part: Part, condition: str, values: Sequence[object]
    ) -> Iterator[tuple[int, int, int, int, Cell]]:
        rows = self.execute(
            f"SELECT agent, model, workflow, {MEASURED_COLUMNS} FROM calls "
            f"WHERE id >= ? AND id < ?{condition}",
            first_id(part.since * 1000),
            first_id(min(part.until, _LAST_SECOND) * 1000),
            *values,
        )
        calls: dict[tuple[int, int, int], list[Any]] = {}
        for row in rows:
            calls.setdefault(row[:3], []).append(row[3:])
        for key, measured in calls.items():
            yield hour_of(part.since), *key, cell_of(measured)

    def page(self, first: int) -> list[tuple[int, CallRow]]:
        """The calls from this id on, the oldest first, each with its id."""
        rows = self.execute(
            f"SELECT id, {CALL_COLUMNS} FROM calls WHERE id >= ? ORDER BY id LIMIT {_ROWS_AT_ONCE}",
            first,
        )
        return [(row_id, self.row(values)) for row_id, *values in rows]

    def row(self, values: Sequence[Any]) -> CallRow:
        """The call that CALL_COLUMNS were read of."""
        ended_ms, call_id, agent, model, requested, seconds, attempts, workflow, *rest = values
        run_id, step_id, error_kind, first_text, *tokens, cost, tier, saved = rest[:11]
        plain, by_prefix, by_batch, by_model = rest[11:]
        input_tokens, output_tokens, read_tokens, written_tokens = tokens
        return CallRow(
            ended_ms / 1000,
            call_id,
            self.name(agent),
            self.name(model),
            self.name(requested),
            seconds,
            attempts,
            self.name(workflow) or None,
            run_id,
            step_id,
            self.name(error_kind) or None,
            first_text,
            input_tokens,
            output_tokens,
            read_tokens,
            written_tokens,
            None if cost is None else dollars(cost),
            self.name(tier) or None,
            None if saved is None else dollars(saved),
            dollars(plain),
            None if by_prefix is None else dollars(by_prefix),
            dollars(by_batch),
            dollars(by_model),
        )

    def name(self, number: int) -> str:
        """The name that has this number."""
        if number not in self._names:
            self._names = dict(self.execute("SELECT id, name FROM names"))
        return self._names[number]

    def kept_from(self) -> int:
        """The epoch second from which on rows and hours are whole."""
        return int(self.execute("SELECT kept_from FROM sweeps")[0][0])

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a statement that only reads."""
        try:
            return self._open_connection().execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StorageError(
                f"cannot read the metrics in {str(self._path)!r}: {error}; move the file away to start anew"
            ) from error

    def _open_connection(self) -> sqlite3.Connection:
        assert self._connection is not None  # noqa: S101 - every question begins with `opened`
        return self._connection


def agent_condition(agent: str | None) -> tuple[str, tuple[object, ...]]:
    """What a statement ends with to be about one agent, and its values."""
    if agent is None:
        return "", ()
    return " AND agent = (SELECT id FROM names WHERE name = ?)", (agent,)
