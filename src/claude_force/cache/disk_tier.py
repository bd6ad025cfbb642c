"""The tier on disk: one SQLite file for all processes of a user on a machine."""

from __future__ import annotations

import atexit
import logging
import os
import sqlite3
import time
import weakref
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from claude_force.cache.disk_commit import ROWS_AT_ONCE, DiskCommit, NoRoomError, Record
from claude_force.cache.disk_layout import DEFAULT_PINNED_SHARE as PINNED_SHARE
from claude_force.cache.disk_layout import SCHEMA, SMALLEST_BOUND_BYTES, DiskBudget
from claude_force.cache.disk_pins import is_pinned
from claude_force.cache.tier import TierStats
from claude_force.cache.writer import BatchWriter
from claude_force.storage.database import is_damage, open_database
from claude_force.storage.errors import ForeignFileError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from claude_force.cache.entries import CacheEntry, EntrySigner
    from claude_force.cache.fingerprint import CacheKey
    from claude_force.cache.writer import Batch
    from claude_force.domain.messages import CacheTier

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

DATABASE_FILE: Final = "responses.db"

# A file that cannot be opened is looked at again after this time, not at every lookup.
_REOPEN_SECONDS: Final = 30.0
_BUSY_SECONDS: Final = 10.0
_ROWS_PER_READ: Final = 200
_BY_KEY: Final = "SELECT record FROM bodies WHERE key = ?"
_BY_USE: Final = (
    "SELECT record FROM entries JOIN bodies USING (id) ORDER BY used DESC LIMIT ? OFFSET ?"
)

# Connections that a fork left in the child. SQLite forbids to use them there, and closing one would run the
# parent's checkpoint, so they are only kept from being collected.
_INHERITED: list[object] = []
# Tiers of this process by path: what one has put and not yet written, the others find as well.
_SIBLINGS: dict[str, weakref.WeakSet[DiskTier]] = {}


class DiskTier:
    """Signed entries in a SQLite file; a ``Tier``.

    Reads run on the calling thread, writes on one thread of their own within 100 ms; what is not written yet is
    found all the same. After a fork the child opens the file anew. The file and its log stay within ``max_bytes``,
    exceeded by one entry at most; a bound under 256 KiB holds nothing.

    Where the file is damaged, locked, not writable, or not ours, lookups are misses and writes are lost; both are
    counted and the reason is logged once. A file that is not ours is left as it is.
    """

    name: ClassVar[CacheTier] = "disk"

    def __init__(
        self,
        path: Path,
        *,
        signer: EntrySigner,
        max_bytes: int,
        pinned_share: float = PINNED_SHARE,
        keep_seconds: float | None = None,
        use_integrity_check: bool = True,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._signer = signer
        self._budget = DiskBudget(max_bytes, pinned_share)
        self._keep_seconds = keep_seconds
        self._use_integrity_check = use_integrity_check
        self._wall_clock = wall_clock
        self._writer = BatchWriter(self._commit)
        # One connection reads for all threads; a lookup holds it for microseconds.
        self._reading = Lock()
        self._reader: sqlite3.Connection | None = None
        # Used under the writer's own lock.
        self._committer: DiskCommit | None = None
        self._writing_connection: sqlite3.Connection | None = None
        self._closed_until = 0.0
        self._closed = False
        self._warned = False
        self._hits = self._misses = self._integrity_failures = 0
        self._failures = self._refused = self._evictions = self._expired = 0
        self._siblings = _SIBLINGS.setdefault(os.path.normpath(path), weakref.WeakSet())
        self._siblings.add(self)
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _start_over(reference))
        # Runs before the writer's own: Python 3.13 warns of a connection that nobody has closed.
        self._at_exit = lambda: _close(reference)
        atexit.register(self._at_exit)
        if not use_integrity_check:
            _LOG.warning("cache %s is read without integrity checks", path)

    def get(self, key: CacheKey) -> CacheEntry | None:
        """The entry of ``key``, or None. Waits for the disk unless the entry is still to be written."""
        entry = self._pending(key) or self._read(key)
        if entry is None:
            self._misses += 1
            return None
        self._hits += 1
        self._writer.touch(key)
        return entry

    def put(self, entry: CacheEntry, on_settled: Callable[[], object] | None = None) -> None:
        """Write ``entry`` within 100 ms; never waits."""
        if not self._writer.put(entry, on_settled):
            self._refused += 1

    def touch(self, key: CacheKey) -> None:
        """Note that ``key`` was used; written within a second."""
        self._writer.touch(key)

    def clear(self, *, agent_name: str | None = None, created_before: float | None = None) -> int:
        """Remove the entries of an agent, older than a moment, or all; how many."""
        return self.change(lambda committer: committer.clear(agent_name, created_before)) or 0

    def change(self, work: Callable[[DiskCommit], T]) -> T | None:
        """Do ``work`` after all that waits here was written; None where that fails, or there is no file to be changed."""
        for sibling in tuple(self._siblings):
            sibling.flush()

        def guarded() -> T | None:
            committer = self._open_committer() if self._path.exists() else None
            return None if committer is None else work(committer)

        return self._writer.exclusively(lambda: self._guarded(guarded))

    def is_pinned(self, key: CacheKey) -> bool:
        """Whether a run keeps this entry, by a mark that was signed here. Waits for the disk."""

        def work() -> bool:
            reader = self._reader or self._open_reader()
            return reader is not None and is_pinned(reader, key, self._signer)

        with self._reading:
            return self._guarded(work) or False

    def records(self) -> Iterator[CacheEntry | None]:
        """Every record in the file, the most recently used first: its entry, or None where it is not valid."""
        self.flush()
        offset = 0
        while rows := self._page(offset):
            for (record,) in rows:
                yield self._unsealed(record)
            offset += len(rows)

    def stats(self) -> TierStats:
        """The tier in numbers, entries still to be written included."""
        entries, size_bytes = self.change(DiskCommit.totals) or (0, 0)
        return TierStats(
            name=self.name,
            entries=entries,
            size_bytes=size_bytes,
            max_bytes=self._budget.max_bytes,
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
            expired=self._expired,
            integrity_failures=self._integrity_failures,
            failures=self._failures,
            refused=self._refused,
        )

    def flush(self) -> None:
        """Wait until everything that was put is written or lost."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is waiting and close the file."""
        atexit.unregister(self._at_exit)
        self._closed = True
        self._siblings.discard(self)
        self._writer.close()
        with self._reading:
            for connection in (self._reader, self._writing_connection):
                if connection is not None:
                    connection.close()
            self._reader = self._writing_connection = self._committer = None

    def start_over_after_fork(self) -> None:
        """Let go of what belongs to the parent process."""
        _INHERITED.extend((self._reader, self._writing_connection))
        self._reader = self._writing_connection = self._committer = None
        self._reading = Lock()
        self._writer.start_over_after_fork()

    def _pending(self, key: CacheKey) -> CacheEntry | None:
        entry = self._writer.pending(key)
        if entry is None and len(self._siblings) > 1:
            for sibling in tuple(self._siblings):
                if sibling._signer.shares_secret(self._signer):  # noqa: SLF001 - a tier on the same file
                    entry = entry or sibling._writer.pending(key)  # noqa: SLF001 - as above
        return entry

    def _read(self, key: CacheKey) -> CacheEntry | None:
        with self._reading:
            row = self._guarded(lambda: self._row(key))
        if row is None:
            return None
        entry = self._unsealed(row[0])
        # A record that was moved to another key is as wrong as one that was edited.
        if entry is None or entry.key != key:
            self._integrity_failures += 1
            return None
        return entry

    def _row(self, key: CacheKey) -> tuple[object] | None:
        reader = self._reader or self._open_reader()
        if reader is None:
            return None
        row: tuple[object] | None = reader.execute(_BY_KEY, (bytes.fromhex(key),)).fetchone()
        return row

    def _page(self, offset: int) -> list[tuple[object]]:
        def work() -> list[tuple[object]]:
            reader = self._reader or self._open_reader()
            return reader.execute(_BY_USE, (_ROWS_PER_READ, offset)).fetchall() if reader else []

        with self._reading:
            return self._guarded(work) or []

    def _unsealed(self, record: object) -> CacheEntry | None:
        if not isinstance(record, bytes):
            return None
        return self._signer.unseal(record, check_signature=self._use_integrity_check)

    def _commit(self, batch: Batch) -> None:
        self._guarded(lambda: self._write(batch))

    def _write(self, batch: Batch) -> None:
        order = batch.order()
        records = list(self._signed([batch.entries[key] for key in order if key in batch.entries]))
        if not records and not self._path.exists():
            return
        committer = self._open_committer()
        if committer is None:
            return
        evicted, expired = committer.evictions, committer.expired
        try:
            self._write_in_order(committer, order, records)
        finally:
            self._evictions += committer.evictions - evicted
            self._expired += committer.expired - expired

    def _signed(self, entries: list[CacheEntry]) -> Iterator[tuple[CacheEntry, bytes]]:
        for entry in entries:
            signed_bytes = self._signer.seal(entry)
            if self._budget.fits(len(signed_bytes)):
                yield entry, signed_bytes
            else:
                self._refused += 1

    def _write_in_order(
        self, committer: DiskCommit, order: list[CacheKey], records: list[tuple[CacheEntry, bytes]]
    ) -> None:
        """Write a batch in small transactions, with the order of use fixed for the whole of it.

        What was only used goes first, so that making room for new entries knows about it.
        """
        committer.shrink()
        first = committer.first_free_place()
        places = {key: first + index for index, key in enumerate(order)}
        written = {entry.key for entry, _ in records}
        touched = [(place, key) for key, place in places.items() if key not in written]
        for start in range(0, len(touched), ROWS_AT_ONCE):
            committer.touch(touched[start : start + ROWS_AT_ONCE])
        created_before = (
            None if self._keep_seconds is None else self._wall_clock() - self._keep_seconds
        )
        rows: list[Record] = []
        size_bytes = 0
        for entry, signed_bytes in records:
            if rows and size_bytes + len(signed_bytes) > self._budget.batch_bytes:
                committer.write(rows, created_before=created_before)
                rows, size_bytes = [], 0
            place = places[entry.key]
            rows.append(Record(entry.key, place, entry.agent_name, entry.created_at, signed_bytes))
            size_bytes += len(signed_bytes)
        if rows:
            committer.write(rows, created_before=created_before)

    def _open_reader(self) -> sqlite3.Connection | None:
        # A lookup does not make a file.
        if self._closed or not self._path.exists() or time.monotonic() < self._closed_until:
            return None
        self._reader = open_database(self._path, SCHEMA, busy_timeout_seconds=_BUSY_SECONDS)
        return self._reader

    def _open_committer(self) -> DiskCommit | None:
        if self._committer is None:
            too_small = self._budget.max_bytes < SMALLEST_BOUND_BYTES
            if too_small or time.monotonic() < self._closed_until:
                return None
            connection = open_database(self._path, SCHEMA, busy_timeout_seconds=_BUSY_SECONDS)
            self._writing_connection = connection
            self._committer = DiskCommit(connection, self._path, self._budget)
        return self._committer

    def _guarded(self, work: Callable[[], T]) -> T | None:
        """The result of ``work``, or None where the disk or the file fails it, which is counted."""
        try:
            return work()
        except ForeignFileError as error:
            self._integrity_failures += 1
            self._closed_until = time.monotonic() + _REOPEN_SECONDS
            self._warn(error)
        except StorageError as error:
            self._failures += 1
            self._closed_until = time.monotonic() + _REOPEN_SECONDS
            self._warn(error)
        except sqlite3.Error as error:
            if is_damage(error):
                self._integrity_failures += 1
            else:
                self._failures += 1
            self._warn(error)
        except (NoRoomError, OSError) as error:
            self._failures += 1
            self._warn(error)
        return None

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            _LOG.warning("cache %s: %s; answers are not kept there for now", self._path, error)


def _start_over(reference: weakref.ref[DiskTier]) -> None:
    tier = reference()
    if tier is not None:
        tier.start_over_after_fork()


def _close(reference: weakref.ref[DiskTier]) -> None:
    tier = reference()
    if tier is not None:
        tier.close()
