"""What the processes of a user share, for commands that show or change it while runs go on."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import InputError
from claude_force.resilience.breaker import BreakerPolicy, Phase
from claude_force.resilience.shared_breakers import read_breakers
from claude_force.resilience.shared_database import SILENT_SECONDS, SharedDatabase
from claude_force.resilience.shared_limits import read_user_limits

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from claude_force.resilience.breaker import BreakerState
    from claude_force.resilience.sharing import UserLimits


_POLICY: Final = BreakerPolicy()
_PASSING: Final = frozenset({Phase.CLOSED, Phase.DUE})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSeen:
    """A process that uses the limits."""

    pid: int
    started_at_epoch_seconds: float
    seen_at_epoch_seconds: float
    in_flight: int
    waiting: int
    # Its machine, where several share limits.
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSeen:
    """One limit of the API as the last responses told it."""

    # Model class and origin.
    class_key: str
    # requests, input_tokens or output_tokens.
    kind: str
    per_minute: float
    # What nobody has used or taken yet.
    free: float
    reported_at_epoch_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSeen:
    """The last error of one kind, and how many there were."""

    class_key: str
    kind: str
    message: str
    count: int
    last_at_epoch_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedState:
    """Everything that is shared, at one moment."""

    user_limits: UserLimits
    processes: tuple[ProcessSeen, ...]
    limits: tuple[LimitSeen, ...]
    # End of the pause that the API asked for, by class; only those that last.
    blocked_until_epoch_seconds: dict[str, float]
    errors: tuple[ErrorSeen, ...]
    # By model and origin; a breaker that is closed and without failures is not listed.
    breakers: dict[str, BreakerState]
    # When all this was so, by the clock of whoever keeps it.
    at_epoch_seconds: float

    @property
    def healthy(self) -> bool:
        """True when a request may go out: nothing is blocked, and no breaker is open.

        One whose probe is due does not count: only a request can find out whether the service is back.
        """
        return not self.blocked_until_epoch_seconds and all(
            self.phase(key) in _PASSING for key in self.breakers
        )

    def phase(self, key: str) -> Phase:
        """What a breaker does with a request."""
        return self.breakers[key].phase(_POLICY, self.at_epoch_seconds)

    def next_probe_at(self, key: str) -> float | None:
        """When the next request may go out as a probe; None for a breaker that is closed."""
        state = self.breakers[key]
        return None if state.opened_at is None else state.next_probe_at(_POLICY)


def read_state(path: Path, *, wall_clock: Callable[[], float] = time.time) -> SharedState | None:
    """What is shared in the database at ``path``; None if there is none yet. Changes nothing.

    Raises:
        StorageError: the database cannot be read.
    """
    if not path.exists():
        return None
    database = SharedDatabase(path, wall_clock=wall_clock)
    try:
        with database.transaction() as connection:
            return _state(connection, database, wall_clock())
    finally:
        database.close()


def change_limits(
    path: Path,
    *,
    max_concurrent: int | None = None,
    requests_per_minute: int | None = None,
    paused: bool | None = None,
) -> UserLimits:
    """Change what all processes together may do; returns what holds now. Runs under way feel it within a second.

    Args:
        path: of the database.
        max_concurrent: requests under way at the same time; None leaves it, 0 removes the limit.
        requests_per_minute: as ``max_concurrent``.
        paused: None leaves it.

    Raises:
        InputError: a negative limit.
        StorageError: the database cannot be used.
    """
    changes = changes_of(
        max_concurrent=max_concurrent, requests_per_minute=requests_per_minute, paused=paused
    )
    database = SharedDatabase(path)
    try:
        with database.transaction() as connection:
            for name, value in changes.items():
                connection.execute(f"UPDATE settings SET {name} = ?", (value or _NOTHING[name],))  # noqa: S608 - one of our own names
            return read_user_limits(connection)
    finally:
        database.close()


# What stands for 0 in the database.
_NOTHING: Final = {"max_concurrent": None, "requests_per_minute": None, "paused": 0}


def changes_of(
    *, max_concurrent: int | None, requests_per_minute: int | None, paused: bool | None
) -> dict[str, int]:
    """What is to be changed, by name; 0 for no limit.

    Raises:
        InputError: a negative limit.
    """
    given = {
        "max_concurrent": max_concurrent,
        "requests_per_minute": requests_per_minute,
        "paused": None if paused is None else int(paused),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    for name, value in changes.items():
        if value < 0:
            raise InputError(f"{name} is {value!r}; give 1 or more, or 0 for no limit.")
    return changes


def _state(connection: sqlite3.Connection, database: SharedDatabase, now: float) -> SharedState:
    leases = connection.execute(
        "SELECT pid, started_at, seen_at, in_flight, waiting, lease_id FROM leases ORDER BY pid"
    ).fetchall()
    pools = connection.execute(
        """SELECT class_key, kind, limit_per_minute, level, reported_at FROM pools
        WHERE limit_per_minute IS NOT NULL ORDER BY class_key, kind"""
    ).fetchall()
    blocked = connection.execute(
        "SELECT class_key, blocked_until FROM classes WHERE blocked_until > ?", (now,)
    ).fetchall()
    errors = connection.execute(
        "SELECT class_key, kind, message, count, last_at FROM errors ORDER BY last_at DESC"
    ).fetchall()
    return SharedState(
        user_limits=read_user_limits(connection),
        processes=tuple(
            ProcessSeen(
                pid=pid,
                started_at_epoch_seconds=started_at,
                seen_at_epoch_seconds=seen_at,
                in_flight=in_flight,
                waiting=waiting,
            )
            for pid, started_at, seen_at, in_flight, waiting, lease_id in leases
            if now - seen_at < SILENT_SECONDS and not database.is_dead(lease_id)
        ),
        limits=tuple(
            LimitSeen(
                class_key=key,
                kind=kind,
                per_minute=limit,
                free=level,
                reported_at_epoch_seconds=reported_at,
            )
            for key, kind, limit, level, reported_at in pools
        ),
        blocked_until_epoch_seconds=dict(blocked),
        errors=tuple(
            ErrorSeen(
                class_key=key,
                kind=kind,
                message=message,
                count=count,
                last_at_epoch_seconds=last_at,
            )
            for key, kind, message, count, last_at in errors
        ),
        breakers={
            key: _without_dead_probe(breaker, database)
            for key, breaker in read_breakers(connection).items()
        },
        at_epoch_seconds=now,
    )


def _without_dead_probe(breaker: BreakerState, database: SharedDatabase) -> BreakerState:
    """A process that died while it probed has given up its place."""
    owner = (breaker.probe_by or "").partition("/")[0]
    return replace(breaker, probe_by=None) if owner and database.is_dead(owner) else breaker
