"""Breaker states that all processes of a user see, in the database of the shared limits."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from claude_force.resilience.breaker import CLOSED, BreakerState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from claude_force.resilience.shared_database import SharedDatabase


class SharedBreakers:
    """States by key. Every method may wait for a disk.

    The place of a probe is written together with the lease of its process: a process that dies gives it up.
    """

    def __init__(self, database: SharedDatabase) -> None:
        self._database = database

    def change(self, key: str, change: Callable[[BreakerState], BreakerState]) -> BreakerState:
        """Replace a state by what ``change`` makes of it, in one transaction; returns the new one.

        Raises:
            StorageError: the database cannot be used.
        """
        with self._database.transaction() as connection:
            lease_id = self._database.hold_lease()
            before = _read(connection, key)
            if before.probe_by is not None:
                owner, _, prober = before.probe_by.partition("/")
                if owner == lease_id:
                    before = replace(before, probe_by=prober)
                elif self._database.is_dead(owner):
                    before = replace(before, probe_by=None)
            after = change(before)
            if after != before:
                _write(connection, key, after, lease_id)
            return after


def read_breakers(connection: sqlite3.Connection) -> dict[str, BreakerState]:
    """Every breaker that is not at rest."""
    rows = connection.execute(f"SELECT class_key, {_COLUMNS} FROM breakers").fetchall()  # noqa: S608 - a constant
    return {key: _state(row) for key, *row in rows}


_COLUMNS = "failures, opened_at, probed_at, probe_by, errors"


def _read(connection: sqlite3.Connection, key: str) -> BreakerState:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM breakers WHERE class_key = ?",  # noqa: S608 - a constant
        (key,),
    ).fetchone()
    return CLOSED if row is None else _state(row)


def _state(row: list[object] | tuple[object, ...]) -> BreakerState:
    failures, opened_at, probed_at, probe_by, errors = row
    assert isinstance(failures, int)  # noqa: S101 - the column's type
    assert isinstance(errors, str)  # noqa: S101 - the column's type
    return BreakerState(
        failures=failures,
        opened_at=opened_at if isinstance(opened_at, float) else None,
        probed_at=probed_at if isinstance(probed_at, float) else None,
        probe_by=probe_by if isinstance(probe_by, str) else None,
        errors=tuple(json.loads(errors)),
    )


def _write(connection: sqlite3.Connection, key: str, state: BreakerState, lease_id: str) -> None:
    if state == CLOSED:
        connection.execute("DELETE FROM breakers WHERE class_key = ?", (key,))
        return
    probe_by = state.probe_by
    if probe_by is not None and "/" not in probe_by:
        probe_by = f"{lease_id}/{probe_by}"
    connection.execute(
        "INSERT OR REPLACE INTO breakers VALUES (?, ?, ?, ?, ?, ?)",
        (key, state.failures, state.opened_at, state.probed_at, probe_by, json.dumps(state.errors)),
    )
