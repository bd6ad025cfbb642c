"""The database in which the processes of a user share limits and breakers: schema, connection, leases."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Final

from claude_force.resilience.lease_files import LeaseFile, is_abandoned, remove_abandoned
from claude_force.storage.database import Schema, open_database
from claude_force.storage.errors import ForeignFileError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A process that uses limits visits five times a second; one that has not for so long is stopped or hangs.
SILENT_SECONDS: Final = 5.0
# Nothing here is worth waiting for longer: the process then goes on alone.
_BUSY_SECONDS: Final = 2.0
_MAKING_SECONDS: Final = 0.1

SCHEMA: Final = Schema(
    application_id=0x43464C4D,
    migrations=(
        (
            """CREATE TABLE settings (
                id INTEGER PRIMARY KEY CHECK (id = 1),
                max_concurrent INTEGER, requests_per_minute INTEGER, paused INTEGER NOT NULL
            )""",
            "INSERT INTO settings VALUES (1, NULL, NULL, 0)",
            """CREATE TABLE leases (
                lease_id TEXT PRIMARY KEY, pid INTEGER NOT NULL,
                started_at REAL NOT NULL, seen_at REAL NOT NULL,
                in_flight INTEGER NOT NULL, waiting INTEGER NOT NULL, places INTEGER
            ) WITHOUT ROWID""",
            """CREATE TABLE classes (
                class_key TEXT PRIMARY KEY, blocked_until REAL NOT NULL
            ) WITHOUT ROWID""",
            """CREATE TABLE pools (
                class_key TEXT NOT NULL, kind TEXT NOT NULL,
                limit_per_minute REAL, level REAL NOT NULL, corrected REAL NOT NULL,
                updated_at REAL NOT NULL, reported_at REAL NOT NULL,
                PRIMARY KEY (class_key, kind)
            ) WITHOUT ROWID""",
            """CREATE TABLE holdings (
                lease_id TEXT NOT NULL, class_key TEXT NOT NULL, kind TEXT NOT NULL,
                held REAL NOT NULL, claim REAL NOT NULL, demand INTEGER NOT NULL,
                PRIMARY KEY (lease_id, class_key, kind)
            ) WITHOUT ROWID""",
            """CREATE TABLE errors (
                class_key TEXT NOT NULL, kind TEXT NOT NULL,
                message TEXT NOT NULL, count INTEGER NOT NULL, last_at REAL NOT NULL,
                PRIMARY KEY (class_key, kind)
            ) WITHOUT ROWID""",
            """CREATE TABLE breakers (
                class_key TEXT PRIMARY KEY, failures INTEGER NOT NULL, opened_at REAL,
                probed_at REAL, probe_by TEXT, errors TEXT NOT NULL
            ) WITHOUT ROWID""",
        ),
    ),
)


class SharedDatabase:
    """A connection to the shared state, and this process's lease in it. Opened at the first use.

    Any thread may use it; its own lock lets in one at a time. Every method may wait for a disk.

    Args:
        path: of the database; the lease files stand in a folder beside it.
        wall_clock: seconds since the epoch. Processes compare times, and a monotonic clock does not survive a restart
            of the machine; a clock that jumps costs at most one minute's worth of a limit, which the next response
            puts right.
    """

    def __init__(self, path: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        self.wall_clock = wall_clock
        self.lease_id = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._path = path
        self._folder = path.with_name(path.name + ".leases")
        # Protects the connection: a transaction belongs to one thread at a time.
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._lease: LeaseFile | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction; an exception rolls it back.

        Raises:
            StorageError: the database cannot be used.
        """
        with self._lock:
            try:
                connection = self._opened()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as error:
                raise StorageError(
                    f"cannot use the shared limits in {str(self._path)!r}: {error}; this process goes on alone"
                ) from error

    def hold_lease(self) -> str:
        """Make sure that this process is known to be alive; returns its lease id.

        Called within a transaction, before the id is written anywhere.
        """
        if self._lease is None:
            self._lease = LeaseFile(self._folder, self.lease_id)
        return self.lease_id

    def is_dead(self, lease_id: str) -> bool:
        """True when the process that had this lease is gone."""
        return lease_id != self.lease_id and is_abandoned(self._folder, lease_id)

    def bury(self, lease_id: str) -> None:
        """Remove what a dead process left beside the database."""
        remove_abandoned(self._folder, lease_id)

    def close(self) -> None:
        """Close the connection and give up the lease; a second call does nothing."""
        with self._lock:
            if self._lease is not None:
                self._lease.release()
                self._lease = None
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        try:
            return open_database(self._path, SCHEMA, busy_timeout_seconds=_BUSY_SECONDS)
        except ForeignFileError:
            # While another process makes it, the tables can be seen before the mark that says whose they are.
            time.sleep(_MAKING_SECONDS)
            return open_database(self._path, SCHEMA, busy_timeout_seconds=_BUSY_SECONDS)
