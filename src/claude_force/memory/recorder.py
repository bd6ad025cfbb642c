"""Writes what agents did, off the event loop.

On the loop a finished call costs one append. A thread of its own redacts, shortens and writes, many in one
transaction; SQLite is imported there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from claude_force.memory.records import Experience
    from claude_force.memory.writing import RecordWriter

_LOG: Final = logging.getLogger(__name__)

# A disk that hangs must not fill the process: what exceeds this is counted and lost.
_MOST_WAITING: Final = 2000
_AT_ONCE: Final = 100
# Another process that forgets merges the index, which takes seconds where there is much to remember.
_BUSY_SECONDS: Final = 15.0
# A store that cannot be used is looked at again after this time, not with every record.
_REOPEN_SECONDS: Final = 30.0
# Connections that a fork left in the child. SQLite forbids to use them there, and closing one would run the parent's
# checkpoint, so they are only kept from being collected.
_INHERITED: Final[list[object]] = []


class MemoryRecorder:
    """Keeps what agents did in the database at ``path``, which the first record makes.

    A store that cannot be used costs memories, never a call: they are counted, and the reason is logged once. What was
    told before `close`, or before the end of the process, is written. Any thread may tell it.

    Args:
        path: of the database. Any number of processes may write to it.
        retention_days: how long records are kept.
        max_bytes: what they may take on disk; the oldest make room.
        wall_clock: seconds since the epoch, for what is past its retention.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention_days: int,
        max_bytes: int,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.written = 0
        self.lost = 0
        self._path = path
        self._retention_days = retention_days
        self._max_bytes = max_bytes
        self._wall_clock = wall_clock
        self._connection: sqlite3.Connection | None = None
        self._writer: RecordWriter | None = None
        self._unusable_until = 0.0
        self._warned = False
        self._closed = False
        # True while somebody works on what waits.
        self._awake = False
        self._executor: ThreadPoolExecutor
        self._start_threading()
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _start_over(reference))

    def record(self, experience: Experience) -> None:
        """Keep it; returns at once."""
        with self._waking:
            if self._closed or len(self._waiting) >= _MOST_WAITING:
                self.lost += 1
                return
            self._waiting.append(experience)
            if self._awake:
                return
            try:
                self._executor.submit(self._drain)
            except RuntimeError:
                # The interpreter is shutting down.
                self._waiting.pop()
                self.lost += 1
                return
            self._awake = True

    def flush(self) -> None:
        """Wait until all that was told is written, or was lost."""
        with contextlib.suppress(RuntimeError):
            self._executor.submit(_nothing).result()

    def close(self) -> None:
        """Write what was told, and close the database. What comes later is lost; a second call does nothing."""
        with self._waking:
            self._closed = True
        self._executor.shutdown(wait=True)
        self._close_database()

    def _drain(self) -> None:
        while True:
            with self._waking:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
                if not batch:
                    self._awake = False
                    return
            self._write(batch)

    def _write(self, batch: list[Experience]) -> None:
        if time.monotonic() < self._unusable_until:
            self.lost += len(batch)
            return
        try:
            writer = self._opened()
            writer.write(batch)
            self.written += len(batch)
            writer.sweep(
                now=self._wall_clock(),
                retention_days=self._retention_days,
                max_bytes=self._max_bytes,
            )
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a memory, the call that made it goes on
            self.lost += len(batch)
            self._give_up(error)

    def _opened(self) -> RecordWriter:
        if self._writer is None:
            from claude_force.memory.schema import SCHEMA  # noqa: PLC0415 - see the top of the module
            from claude_force.memory.writing import RecordWriter  # noqa: PLC0415 - as above
            from claude_force.storage.database import open_database  # noqa: PLC0415 - as above

            self._connection = open_database(self._path, SCHEMA, busy_timeout_seconds=_BUSY_SECONDS)
            self._writer = RecordWriter(self._connection)
        return self._writer

    def _give_up(self, error: Exception) -> None:
        """Close, warn once, and look again later."""
        self._unusable_until = time.monotonic() + _REOPEN_SECONDS
        self._close_database()
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "what agents did cannot be remembered; calls go on without it",
                extra={"path": str(self._path), "error": str(error)},
            )

    def _close_database(self) -> None:
        connection, self._connection, self._writer = self._connection, None, None
        if connection is not None:
            # What is wrong with it has been told.
            with contextlib.suppress(Exception):
                connection.close()

    def _start_threading(self) -> None:
        self._waiting: deque[Experience] = deque()
        # Protects the queue and whether somebody works on it.
        self._waking = Lock()
        self._awake = False
        self._executor = ThreadPoolExecutor(1, "claude-force-memory-writer")

    def _start_over_after_fork(self) -> None:
        """Leave to the parent process what it was told, its thread and its connection."""
        _INHERITED.append((self._connection, self._executor))
        self._connection = self._writer = None
        self._start_threading()


def _nothing() -> None:
    """Comes after all that was told before."""


def _start_over(reference: weakref.ref[MemoryRecorder]) -> None:
    recorder = reference()
    if recorder is not None:
        recorder._start_over_after_fork()  # noqa: SLF001 - of this module
