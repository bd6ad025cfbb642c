"""Answers questions about calls from the store."""
# ruff: noqa: S608 - names and conditions in statements are written in this package, values are bound

from __future__ import annotations

import time
from datetime import UTC, datetime
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from claude_force.metrics.cells import MEASURED_COLUMNS, Cell, cell_of
from claude_force.metrics.cover import cover
from claude_force.metrics.export import write_rows
from claude_force.metrics.queries import (
    Answer,
    Explanation,
    FailureCount,
    Group,
    start_of,
    totals_of,
)
from claude_force.metrics.savings import savings_of
from claude_force.metrics.schema import DAY_SECONDS, first_id
from claude_force.metrics.source import CALL_COLUMNS, CallSource, agent_condition
from claude_force.storage.private_files import private_output
from claude_force.storage.query_cache import QueryCache

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from decimal import Decimal
    from pathlib import Path

    from claude_force.metrics.export import ExportFormat
    from claude_force.metrics.queries import Calls, Dimension, Groups, Listing
    from claude_force.metrics.rows import CallRow
    from claude_force.metrics.savings import Savings

T = TypeVar("T")


class MetricsReader:
    """Reads the database that recorders write at ``path``; it never writes, and makes nothing by looking.

    Results are kept for as long as no process writes, the 128 used last. Any thread may use it; a question waits for
    the disk, so do not ask on an event loop.

    Args:
        path: of the database. While there is none, nothing was recorded yet, and every answer says so.
        wall_clock: seconds since the epoch, for "the last seven days".

    Raises:
        StorageError: by every method, when the database cannot be read.
    """

    def __init__(self, path: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._source = CallSource(path)
        self._wall_clock = wall_clock
        # Protects the source: it belongs to one thread at a time.
        self._lock = RLock()
        self._cache: QueryCache[tuple[Any, str]] = QueryCache()

    def summary(
        self, since_seconds: float | None = None, *, agent: str | None = None
    ) -> Answer[Group]:
        """Everything in one; ``since_seconds`` counts back from now, None takes all that was ever recorded."""
        answer = self.grouped((), since_seconds, agent=agent)
        value = answer.value[0] if answer.value else Group(totals=totals_of(Cell()))
        return Answer(value=value, since=answer.since, explanation=answer.explanation)

    def grouped(
        self,
        by: Sequence[Dimension],
        since_seconds: float | None = None,
        *,
        agent: str | None = None,
    ) -> Answer[Groups]:
        """The calls by what they have in common, in the order of time and then of cost, the dearest first.

        By hour, what is older than the retention is not there any more; otherwise it begins with a whole day.
        """
        since = start_of(since_seconds, self._wall_clock())
        query = ("grouped", tuple(by), since, agent)
        return self._answer(query, since, lambda: self._grouped(tuple(by), since, agent))

    def savings(
        self, since_seconds: float | None = None, *, agent: str | None = None
    ) -> Answer[Savings]:
        """What the calls would have cost without response cache, prompt cache, batches and fallbacks.

        Read from roll-ups, so also of calls that are not kept one by one any more.
        """
        since = start_of(since_seconds, self._wall_clock())

        def find() -> tuple[Savings, str]:
            cells, read = self._cells_by((), since, agent)
            return savings_of(cells.get((), Cell())), read

        return self._answer(("savings", since, agent), since, find)

    def slowest(
        self, since_seconds: float | None = None, *, limit: int = 10, agent: str | None = None
    ) -> Answer[Calls]:
        """The calls that took longest, whether they failed or not; only those that are kept one by one."""
        return self._listing("slowest", since_seconds, limit, agent)

    def failures(
        self, since_seconds: float | None = None, *, limit: int = 10, agent: str | None = None
    ) -> Answer[Calls]:
        """The calls that failed last, the newest first; only those that are kept one by one."""
        return self._listing("failures", since_seconds, limit, agent)

    def failure_counts(
        self, since_seconds: float | None = None, *, agent: str | None = None
    ) -> Answer[tuple[FailureCount, ...]]:
        """How often each kind of error ended a call, the most frequent first; only of calls that are kept."""
        since = start_of(since_seconds, self._wall_clock())
        query = ("failure counts", since, agent)
        return self._answer(query, since, lambda: self._failure_counts(since, agent))

    def rows(self, since_seconds: float | None = None) -> Iterator[CallRow]:
        """Every call that is kept, the oldest first, read in pages while they are used."""
        since = start_of(since_seconds, self._wall_clock())
        first = first_id(since * 1000)
        while True:
            with self._lock:
                page = self._source.page(first) if self._source.opened() else []
            if not page:
                return
            yield from (row for _, row in page)
            first = page[-1][0] + 1

    def export(
        self,
        output: Path,
        *,
        file_format: ExportFormat = "parquet",
        since_seconds: float | None = None,
    ) -> int:
        """Write every call that is kept to a file, the oldest first, in bounded memory; how many.

        The file is there whole or not at all, and only its owner can read it. Dollars are exact.

        Raises:
            OptionalDependencyError: for ``"parquet"``, the extra ``parquet`` is not installed.
            OSError: the file cannot be written.
        """
        with private_output(output) as file:
            return write_rows(self.rows(since_seconds), file_format, file)

    def cells(
        self, since: int, until: int, *, by_hour: bool = False
    ) -> Iterator[tuple[int, str, Cell]]:
        """Start, agent and sums of every hour or day between two epoch seconds at which an hour begins."""
        with self._lock:
            if not self._source.opened():
                return
            found = [
                (start, self._source.name(agent), cell)
                for part in cover(
                    since,
                    kept_from=self._source.kept_from(),
                    by_hour=by_hour,
                    by_agent=True,
                    until=until,
                )
                for start, agent, _, _, cell in self._source.cells(part, None)
            ]
        yield from found

    def recent(self, since_seconds: float) -> Cell:
        """What the calls of the last minutes come to, read one by one."""
        with self._lock:
            if not self._source.opened():
                return Cell()
            rows = self._source.execute(
                f"SELECT {MEASURED_COLUMNS} FROM calls WHERE id >= ?",
                first_id(int((self._wall_clock() - since_seconds) * 1000)),
            )
        return cell_of(rows) if rows else Cell()

    def version(self) -> int:
        """A number that changes with every write of any process; 0 while there is no database."""
        with self._lock:
            return self._source.version() if self._source.opened() else 0

    def close(self) -> None:
        """Close the database; the next question opens it again."""
        with self._lock:
            self._source.close()

    # ---- how

    def _answer(self, query: Hashable, since: int, find: Callable[[], tuple[T, str]]) -> Answer[T]:
        began = time.perf_counter()
        with self._lock:
            version = self.version()
            # Asked for the version before anything is read: what is written meanwhile makes the result one of the past.
            found = self._cache.get(query, version)
            value, read = found or find()
            if found is None:
                self._cache.put(query, version, (value, read))
        return Answer(
            value=value,
            since=None if since == 0 else datetime.fromtimestamp(since, UTC),
            explanation=Explanation(
                hit=found is not None,
                version=version,
                seconds=time.perf_counter() - began,
                read=read,
            ),
        )

    def _grouped(
        self, by: tuple[Dimension, ...], since: int, agent: str | None
    ) -> tuple[Groups, str]:
        groups, read = self._cells_by(by, since, agent)
        found = [self._group(by, key, cell) for key, cell in groups.items()]
        found.sort(key=_order)
        return tuple(found), read

    def _cells_by(
        self, by: tuple[Dimension, ...], since: int, agent: str | None
    ) -> tuple[dict[tuple[int, ...], Cell], str]:
        """Sums by what calls have in common, as numbers, and what was read."""
        if not self._source.opened():
            return {}, "nothing"
        places = tuple(_PLACES[dimension] for dimension in by)
        parts = cover(
            since,
            kept_from=self._source.kept_from(),
            by_hour="hour" in by,
            by_agent=not {"model", "workflow"} & set(by),
        )
        groups: dict[tuple[int, ...], Cell] = {}
        count_by_table: dict[str, int] = {}
        for part in parts:
            for *key, cell in self._source.cells(part, agent):
                start = key[0] // DAY_SECONDS * DAY_SECONDS if "day" in by else key[0]
                values = (start, *key[1:])
                chosen = tuple(values[place] for place in places)
                group = groups.get(chosen)
                if group is None:
                    groups[chosen] = cell
                else:
                    group.merge(cell)
                count_by_table[part.table] = count_by_table.get(part.table, 0) + 1
        read = ", ".join(f"{count:,} cells of {table}" for table, count in count_by_table.items())
        return groups, read or "nothing"

    def _listing(
        self, listing: Listing, since_seconds: float | None, limit: int, agent: str | None
    ) -> Answer[Calls]:
        since = start_of(since_seconds, self._wall_clock())
        query = ("listing", listing, since, limit, agent)
        return self._answer(query, since, lambda: self._list_calls(listing, since, limit, agent))

    def _list_calls(
        self, listing: Listing, since: int, limit: int, agent: str | None
    ) -> tuple[Calls, str]:
        if not self._source.opened():
            return (), "nothing"
        condition, values = agent_condition(agent)
        # Failures are few, and have an index of their times.
        where, order = (
            ("error_kind <> 0 AND ended_ms >= ?", "ended_ms DESC")
            if listing == "failures"
            else ("id >= ?", "seconds DESC")
        )
        rows = self._source.execute(
            f"SELECT {CALL_COLUMNS} FROM calls WHERE {where}{condition} ORDER BY {order} LIMIT ?",
            since * 1000 if listing == "failures" else first_id(since * 1000),
            *values,
            limit,
        )
        return tuple(map(self._source.row, rows)), f"{len(rows):,} calls"

    def _failure_counts(
        self, since: int, agent: str | None
    ) -> tuple[tuple[FailureCount, ...], str]:
        if not self._source.opened():
            return (), "nothing"
        condition, values = agent_condition(agent)
        rows = self._source.execute(
            "SELECT error_kind, agent, count(*), max(ended_ms) FROM calls "
            f"WHERE error_kind <> 0 AND ended_ms >= ?{condition} GROUP BY 1, 2 ORDER BY 3 DESC, 4 DESC",
            since * 1000,
            *values,
        )
        counts = tuple(
            FailureCount(
                error_kind=self._source.name(kind),
                agent=self._source.name(number),
                calls=count,
                last_at=datetime.fromtimestamp(last / 1000, UTC),
            )
            for kind, number, count, last in rows
        )
        return counts, f"{sum(count.calls for count in counts):,} failed calls"

    def _group(self, by: tuple[Dimension, ...], key: tuple[int, ...], cell: Cell) -> Group:
        values: dict[str, Any] = {}
        for dimension, value in zip(by, key, strict=True):
            if dimension in {"hour", "day"}:
                values["start"] = datetime.fromtimestamp(value, UTC)
            else:
                values[dimension] = self._source.name(value)
        return Group(totals=totals_of(cell), **values)


# Where a dimension stands in the key of a cell.
_PLACES: Final[dict[str, int]] = {"hour": 0, "day": 0, "agent": 1, "model": 2, "workflow": 3}


def _order(group: Group) -> tuple[float, Decimal, int, str]:
    start = 0.0 if group.start is None else group.start.timestamp()
    totals = group.totals
    name = group.agent or group.model or group.workflow or ""
    return start, -totals.cost_usd, -totals.calls, name
