"""The end of the recorder that writes: opens the store, survives a store that cannot be used."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from claude_force.metrics.retention import sweep_if_due
from claude_force.metrics.rows import RowMaker
from claude_force.metrics.schema import SCHEMA
from claude_force.metrics.writing import RowWriter
from claude_force.storage.database import open_database
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from claude_force.metrics.rows import CallRow, Heard

_LOG: Final = logging.getLogger(__name__)

_BUSY_SECONDS: Final = 5.0
# A store that cannot be used is looked at again after this time, not with every batch.
_REOPEN_SECONDS: Final = 30.0
# Connections that a fork left in the child. SQLite forbids to use them there, and closing one would run the parent's
# checkpoint, so they are only kept from being collected.
_INHERITED: Final[list[object]] = []


class RowLog:
    """Appends rows to the database at ``path``; used by one thread at a time, and never raises for what a disk does."""

    def __init__(self, path: Path, *, retention_days: int) -> None:
        self.written = 0
        self.lost = 0
        self._path = path
        self._retention_days = retention_days
        self._maker = RowMaker()
        self._connection: sqlite3.Connection | None = None
        self._writer: RowWriter | None = None
        self._unusable_until = 0.0
        self._warned = False

    def append(self, heard: Sequence[Heard], *, now: float) -> None:
        """Write the calls that ended among what was heard; ``now`` decides what is past its retention."""
        rows = list(self._maker.rows(heard))
        if not rows:
            return
        if time.monotonic() < self._unusable_until:
            self.lost += len(rows)
            return
        try:
            self._write(rows, now)
        except (sqlite3.Error, OSError, StorageError) as error:
            self._give_up(error)
            self.lost += len(rows)

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        connection, self._connection, self._writer = self._connection, None, None
        if connection is not None:
            connection.close()

    def abandon(self) -> None:
        """Leave the connection to the process that has opened it."""
        _INHERITED.append(self._connection)
        self._connection = None

    def _write(self, rows: Sequence[CallRow], now: float) -> None:
        if self._connection is None or self._writer is None:
            self._connection = open_database(self._path, SCHEMA, busy_timeout_seconds=_BUSY_SECONDS)
            self._writer = RowWriter(self._connection)
        self._writer.write(rows)
        self.written += len(rows)
        sweep_if_due(self._connection, now=now, retention_days=self._retention_days)

    def _give_up(self, error: Exception) -> None:
        """Close, warn once, and look again later."""
        self._unusable_until = time.monotonic() + _REOPEN_SECONDS
        connection, self._connection, self._writer = self._connection, None, None
        if connection is not None:
            # What was wrong with it is told below.
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "metrics cannot be recorded; calls go on without them",
                extra={"path": str(self._path), "error": str(error)},
            )
