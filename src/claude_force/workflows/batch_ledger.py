"""Which requests are in which batch: what was sent is on disk before it is sent, so nothing is sent twice."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final

from claude_force.storage.database import Schema, open_database
from claude_force.storage.private_files import make_private_file, make_private_folder

try:
    import fcntl
except ImportError:  # pragma: no cover - only on Windows, where two processes may submit at once
    fcntl = None  # type: ignore[assignment] # the fallback is the absence of the module

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from io import TextIOWrapper
    from pathlib import Path

LEDGER_FILE: Final = "batches.db"

_SCHEMA: Final = Schema(
    application_id=0x43464254,  # "CFBT"
    migrations=(
        (
            # `batch_id` is NULL from before a batch is sent until its id is known.
            """CREATE TABLE batches (
                number INTEGER PRIMARY KEY,
                origin TEXT NOT NULL,
                batch_id TEXT,
                created_at REAL NOT NULL,
                request_count INTEGER NOT NULL
            )""",
            """CREATE TABLE requests (
                origin TEXT NOT NULL,
                key TEXT NOT NULL,
                batch INTEGER NOT NULL REFERENCES batches (number) ON DELETE CASCADE,
                PRIMARY KEY (origin, key)
            ) WITHOUT ROWID""",
            "CREATE INDEX requests_by_batch ON requests (batch)",
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingBatch:
    """A batch of which something has not been collected."""

    number: int
    # None while it is not known whether the API has accepted it.
    batch_id: str | None
    # Epoch seconds.
    created_at: float
    # Requests that were sent in it, and those that still have to be collected.
    request_count: int
    waiting: int


class BatchLedger:
    """Requests by content key and the batch that holds each; for all processes of a user. Safe in any thread.

    Every method waits for the disk, so none belongs on an event loop. The file is synchronous to the disk: a request
    that was paid for must be found again after a power cut too.

    Raises:
        StorageError: the database cannot be opened or made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # One thread uses the connection at a time.
        self._using = Lock()
        self._opened: sqlite3.Connection | None = None

    def take_turn(self) -> TextIOWrapper | None:
        """The right to submit, until what it returns is closed; None while another one has it.

        The kernel takes it back from a process that dies. It is not waited for here: whoever has it needs threads too.
        """
        make_private_folder(self._folder)
        path = self._folder / "batches.lock"
        make_private_file(path)
        file = path.open("a")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        return file

    def intend(self, origin: str, keys: Sequence[str], *, now: float) -> int:
        """Note that a batch of ``keys`` is about to be sent; its number."""
        with self._transaction() as database:
            cursor = database.execute(
                "INSERT INTO batches (origin, created_at, request_count) VALUES (?, ?, ?)",
                (origin, now, len(keys)),
            )
            number = int(cursor.lastrowid or 0)
            database.executemany(
                "INSERT OR REPLACE INTO requests (origin, key, batch) VALUES (?, ?, ?)",
                ((origin, key, number) for key in keys),
            )
        return number

    def submitted(self, number: int, batch_id: str) -> None:
        """Note the id under which the API has accepted a batch."""
        with self._transaction() as database:
            database.execute("UPDATE batches SET batch_id = ? WHERE number = ?", (batch_id, number))

    def drop(self, number: int) -> None:
        """Forget a batch and its requests: it was not accepted, or is gone."""
        with self._transaction() as database:
            database.execute("DELETE FROM batches WHERE number = ?", (number,))

    def drop_before(self, created_at: float) -> None:
        """Forget batches that are older: the API has no results of them any more."""
        with self._transaction() as database:
            database.execute("DELETE FROM batches WHERE created_at < ?", (created_at,))

    def pending(self, origin: str) -> list[PendingBatch]:
        """Every batch of which something has not been collected, the oldest first."""
        with self._transaction() as database:
            rows = database.execute(
                """SELECT number, batch_id, created_at, request_count, COUNT(key) FROM batches
                   JOIN requests ON batch = number WHERE batches.origin = ?
                   GROUP BY number ORDER BY number""",
                (origin,),
            ).fetchall()
        return [
            PendingBatch(
                number=number,
                batch_id=batch_id,
                created_at=created_at,
                request_count=request_count,
                waiting=waiting,
            )
            for number, batch_id, created_at, request_count, waiting in rows
        ]

    def known_ids(self, origin: str) -> frozenset[str]:
        """The ids of all batches that are accounted for, those that were collected too."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT batch_id FROM batches WHERE origin = ? AND batch_id IS NOT NULL", (origin,)
            )
            return frozenset(batch_id for (batch_id,) in rows)

    def mistaken(self, number: int) -> None:
        """Note that a batch has another id than was thought: that one belongs to somebody else."""
        with self._transaction() as database:
            database.execute(
                """INSERT INTO batches (origin, batch_id, created_at, request_count)
                   SELECT origin, batch_id, created_at, 0 FROM batches WHERE number = ?""",
                (number,),
            )
            database.execute("UPDATE batches SET batch_id = NULL WHERE number = ?", (number,))

    def where(self, origin: str, keys: Iterable[str]) -> dict[str, int]:
        """The number of the batch that holds each of ``keys``, for those that are in one."""
        with self._transaction() as database:
            found = {}
            for key in keys:
                row = database.execute(
                    "SELECT batch FROM requests WHERE origin = ? AND key = ?", (origin, key)
                ).fetchone()
                if row is not None:
                    found[key] = int(row[0])
        return found

    def batch_ids(self, origin: str, keys: Iterable[str]) -> dict[str, str]:
        """The id of the batch that holds each of ``keys``, for those that are in one whose id is known."""
        with self._transaction() as database:
            rows = (
                database.execute(
                    """SELECT key, batch_id FROM requests JOIN batches ON number = batch
                       WHERE requests.origin = ? AND key = ? AND batch_id IS NOT NULL""",
                    (origin, key),
                ).fetchone()
                for key in keys
            )
            return dict(row for row in rows if row is not None)

    def held(self, origin: str) -> frozenset[str]:
        """Every request that is in a batch and was not collected."""
        with self._transaction() as database:
            rows = database.execute("SELECT key FROM requests WHERE origin = ?", (origin,))
            return frozenset(key for (key,) in rows)

    def collected(self, origin: str, keys: Iterable[str]) -> None:
        """Forget requests whose results were taken; the ids of their batches stay known until `drop_before`."""
        with self._transaction() as database:
            database.executemany(
                "DELETE FROM requests WHERE origin = ? AND key = ?", ((origin, key) for key in keys)
            )
            database.execute(
                "DELETE FROM batches WHERE batch_id IS NULL AND number NOT IN (SELECT batch FROM requests)"
            )

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._using:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._using:
            if self._opened is None:
                self._opened = open_database(
                    self._folder / LEDGER_FILE, _SCHEMA, synchronous="FULL"
                )
                self._opened.execute("PRAGMA foreign_keys = ON")
            self._opened.execute("BEGIN IMMEDIATE")
            try:
                yield self._opened
            except BaseException:
                self._opened.execute("ROLLBACK")
                raise
            self._opened.execute("COMMIT")
