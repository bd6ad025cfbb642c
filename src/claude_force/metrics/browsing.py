"""Finds the calls behind a figure, the newest first, and counts those of the last minutes."""
# ruff: noqa: S608 - names and conditions in statements are written in this package, values are bound

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from claude_force.metrics.cells import day_of
from claude_force.metrics.schema import DAY_SECONDS, HOUR_SECONDS, SEQUENCE_BITS, first_id
from claude_force.metrics.source import CALL_COLUMNS, CallSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from claude_force.metrics.rows import CallRow

CallState: TypeAlias = Literal["all", "answered", "cached", "failed"]

_MINUTE_SECONDS: Final = 60
# Later than any call, and its id is still a number of 64 bits.
_LAST_SECOND: Final = 2**32
# What tells from a roll-up that it has no call of a state, and from a call that it has it.
_IN_CELL: Final[dict[CallState, str]] = {
    "all": "calls > 0",
    "answered": "calls > max(failures, cached)",
    "cached": "cached > 0",
    "failed": "failures > 0",
}
_IN_CALL: Final[dict[CallState, str]] = {
    "all": "",
    "answered": " AND error_kind = 0 AND cached_tier = 0",
    "cached": " AND error_kind = 0 AND cached_tier <> 0",
    "failed": " AND error_kind <> 0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """Which calls are meant; None is any."""

    agent: str | None = None
    model: str | None = None
    # An empty text for calls outside of any workflow.
    workflow: str | None = None
    state: CallState = "all"
    error_kind: str | None = None
    # Ids. There is no index of runs, since it would cost every call that is written: all calls of the time that is
    # asked for are looked at, so give the time of the run where it is known.
    run_id: str | None = None
    step_id: str | None = None
    # Epoch seconds; ``until`` is not in it.
    since: int = 0
    until: int = _LAST_SECOND
    # The slowest in place of the newest. Then every call of that time is looked at, and there is one page.
    slowest: bool = False


@dataclass(frozen=True, slots=True)
class CallPage:
    """Some of the calls, the newest first."""

    calls: tuple[CallRow, ...]
    # Where the next page begins; None when there is none.
    before: int | None


@dataclass(frozen=True, slots=True)
class Minute:
    """The calls that ended within a minute."""

    # Epoch second in which it begins.
    start: int
    answered: int = 0
    cached: int = 0
    failed: int = 0


class CallBrowser:
    """Reads single calls of the database at ``path``; any thread may use it, and a question waits for the disk.

    Roll-ups say which hours hold such calls, so that a rare agent is found among a million calls without looking at
    each of them.

    Raises:
        StorageError: by every method, when the database cannot be read.
    """

    def __init__(self, path: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._source = CallSource(path)
        self._wall_clock = wall_clock
        # Protects the source: it belongs to one thread at a time.
        self._lock = Lock()

    def calls(self, wanted: CallFilter, *, before: int | None = None, limit: int = 100) -> CallPage:
        """The calls that fit, the newest first; ``before`` is where the page before has ended."""
        found: list[tuple[Any, ...]] = []
        with self._lock:
            if not self._source.opened():
                return CallPage((), None)
            if wanted.slowest:
                found = self._calls_between(wanted, wanted.since, wanted.until, None, limit)
            elif wanted.state == "failed":
                # Failures are few, and have an index.
                found = self._failures(wanted, before, limit + 1)
            elif wanted.run_id is not None:
                # Its calls lie together; roll-ups know nothing of runs.
                found = self._calls_between(wanted, wanted.since, wanted.until, before, limit + 1)
            else:
                for start, end in self._hours(wanted, before):
                    found += self._calls_between(wanted, start, end, before, limit + 1 - len(found))
                    if len(found) > limit:
                        break
            calls = tuple(self._source.row(values) for _, *values in found[:limit])
        return CallPage(calls, found[limit - 1][0] if len(found) > limit else None)

    def minutes(self, count: int = 60) -> tuple[Minute, ...]:
        """The last so many minutes, the oldest first, those without a call too."""
        this_minute = int(self._wall_clock() // _MINUTE_SECONDS) * _MINUTE_SECONDS
        first = this_minute - (count - 1) * _MINUTE_SECONDS
        found: dict[int, Minute] = {}
        with self._lock:
            if self._source.opened():
                rows = self._source.execute(
                    "SELECT ended_ms / 60000 * 60, count(*), sum(error_kind <> 0), sum(cached_tier <> 0) "
                    "FROM calls WHERE id >= ? GROUP BY 1",
                    first_id(first * 1000),
                )
                found = {
                    start: Minute(start, calls - failed - cached, cached, failed)
                    for start, calls, failed, cached in rows
                }
        return tuple(
            found.get(start, Minute(start))
            for start in range(first, this_minute + 1, _MINUTE_SECONDS)
        )

    def close(self) -> None:
        """Close the database; the next question opens it again."""
        with self._lock:
            self._source.close()

    def _hours(self, wanted: CallFilter, before: int | None) -> Iterator[tuple[int, int]]:
        """Stretches of time that hold such calls, the newest first."""
        until = wanted.until
        if before is not None:
            until = min(until, (before >> SEQUENCE_BITS) // 1000 + 1)
        condition, values = _names_condition(wanted)
        for (day,) in self._source.execute(
            f"SELECT DISTINCT start FROM days WHERE start >= ? AND start < ? AND {_IN_CELL[wanted.state]}{condition} "
            "ORDER BY start DESC",
            day_of(wanted.since),
            until,
            *values,
        ):
            for (hour,) in self._source.execute(
                f"SELECT DISTINCT start FROM hours WHERE start >= ? AND start < ? AND {_IN_CELL[wanted.state]}{condition} "
                "ORDER BY start DESC",
                max(day, wanted.since // HOUR_SECONDS * HOUR_SECONDS),
                min(day + DAY_SECONDS, until),
                *values,
            ):
                yield max(hour, wanted.since), min(hour + HOUR_SECONDS, until)

    def _failures(
        self, wanted: CallFilter, before: int | None, limit: int
    ) -> list[tuple[Any, ...]]:
        condition, values = _condition(wanted)
        if before is not None:
            condition += " AND ended_ms <= ? AND id < ?"
            values += (before >> SEQUENCE_BITS, before)
        return self._source.execute(
            f"SELECT id, {CALL_COLUMNS} FROM calls INDEXED BY failed_calls "
            f"WHERE error_kind <> 0 AND ended_ms >= ? AND ended_ms < ?{condition} ORDER BY ended_ms DESC, id DESC LIMIT ?",
            wanted.since * 1000,
            wanted.until * 1000,
            *values,
            limit,
        )

    def _calls_between(
        self, wanted: CallFilter, start: int, end: int, before: int | None, limit: int
    ) -> list[tuple[Any, ...]]:
        condition, values = _condition(wanted)
        last = first_id(end * 1000) if before is None else min(before, first_id(end * 1000))
        return self._source.execute(
            f"SELECT id, {CALL_COLUMNS} FROM calls WHERE id >= ? AND id < ?{_IN_CALL[wanted.state]}{condition} "
            f"ORDER BY {'seconds DESC, ' if wanted.slowest else ''}id DESC LIMIT ?",
            first_id(start * 1000),
            last,
            *values,
            limit,
        )


def _condition(wanted: CallFilter) -> tuple[str, tuple[object, ...]]:
    """What a call has to have, besides its state and time."""
    condition, values = _names_condition(wanted)
    if wanted.error_kind is not None:
        condition += " AND error_kind = (SELECT id FROM names WHERE name = ?)"
        values += (wanted.error_kind,)
    for column, wanted_id in (("run_id", wanted.run_id), ("step_id", wanted.step_id)):
        if wanted_id is not None:
            condition += f" AND {column} = ?"
            values += (wanted_id,)
    return condition, values


def _names_condition(wanted: CallFilter) -> tuple[str, tuple[object, ...]]:
    given = {"agent": wanted.agent, "model": wanted.model, "workflow": wanted.workflow}
    chosen = {column: name for column, name in given.items() if name is not None}
    condition = "".join(
        f" AND {column} = (SELECT id FROM names WHERE name = ?)" for column in chosen
    )
    return condition, tuple(chosen.values())
