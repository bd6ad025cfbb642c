"""What this machine remembers of a budget that machines share, in case their server forgets it."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from claude_force.storage.database import Schema, open_database
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

_SCHEMA: Final = Schema(
    application_id=0x4346424D,
    migrations=(
        (
            """CREATE TABLE days (
                server TEXT NOT NULL, day TEXT NOT NULL,
                life TEXT NOT NULL, changes INTEGER NOT NULL, used INTEGER NOT NULL,
                PRIMARY KEY (server, day)
            ) WITHOUT ROWID""",
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What a server said of a day."""

    # Which life of the server's record; "" for nothing.
    life: str = ""
    # Counts what happened in that life: tells an older memory from a newer one.
    changes: int = 0
    # Spent and reserved, in billionths of a dollar.
    used_nano: int = 0


NOTHING: Final = Remembered()


class DayMemory:
    """The newest word of a server on each day, shared by the processes of the machine. Any thread may use it.

    Args:
        path: of the database.
        server: its address, without a password.
    """

    def __init__(self, path: Path, *, server: str) -> None:
        self._path = path
        self._server = server
        # Protects the connection: a transaction belongs to one thread at a time.
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def recall(self, day: str) -> Remembered:
        """What is remembered of a day.

        Raises:
            StorageError: the database cannot be used.
        """
        rows = self._execute(
            "SELECT life, changes, used FROM days WHERE server = ? AND day = ?", self._server, day
        )
        return (
            Remembered(life=rows[0][0], changes=rows[0][1], used_nano=rows[0][2])
            if rows
            else NOTHING
        )

    def remember(self, day: str, told: Remembered) -> None:
        """Keep what the server says, unless something newer is kept.

        Raises:
            StorageError: the database cannot be used.
        """
        self._execute(
            """INSERT INTO days VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                life = excluded.life, changes = excluded.changes, used = excluded.used
                WHERE excluded.life <> life OR excluded.changes > changes""",
            *(self._server, day, told.life, told.changes, told.used_nano),
        )

    def forget_before(self, day: str) -> None:
        """Remove what is older.

        Raises:
            StorageError: the database cannot be used.
        """
        self._execute("DELETE FROM days WHERE day < ?", day)

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _execute(self, statement: str, *values: str | int) -> list[tuple[str, int, int]]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = open_database(self._path, _SCHEMA)
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise StorageError(
                    f"cannot keep what the machines have spent today in {str(self._path)!r}: {error}; nothing is sent "
                    "without it. Free the file, or run without a budget of the day."
                ) from error
