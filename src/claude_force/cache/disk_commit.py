"""The writing side of the disk tier: short transactions that never let the files outgrow their bound."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from claude_force.cache.disk_layout import PAGE_BYTES, DiskBudget, pages_for
from claude_force.cache.disk_pins import drop_dead_pins, keep_pin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from claude_force.cache.fingerprint import CacheKey

T = TypeVar("T")

# Rows that one transaction removes or reorders: other processes get their turn, and the log keeps its bound.
ROWS_AT_ONCE: Final = 64
# Pages that a transaction logs beside its records: totals, list of free pages, map of pages, inner pages.
_FRAMES_BESIDE: Final = 16
# A row that is moved in the order of use: its leaf, and its old and new place in the index.
_FRAMES_PER_ROW: Final = 3
# How long readers of other processes may keep a full log from being folded before the batch is given up.
_PATIENCE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.005
# Pins are narrow rows that lie close together: with their marks, about twenty to a page, in two tables.
_PINS_PER_FRAME: Final = 10
_NOT_PINNED: Final = "NOT EXISTS (SELECT 1 FROM pinned WHERE pinned.id = entries.id)"


class NoRoomError(Exception):
    """The log cannot be folded, so writing more would exceed the bound. It does not leave the disk tier."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row to write."""

    key: CacheKey
    # Place in the order of use.
    place: int
    agent_name: str
    created_at: float
    signed_bytes: bytes


class DiskCommit:
    """Transactions on one connection, used by one thread at a time. Raises what SQLite raises."""

    def __init__(self, connection: sqlite3.Connection, path: Path, budget: DiskBudget) -> None:
        self._connection = connection
        self._log_path = path.with_name(path.name + "-wal")
        self._budget = budget
        # Rows that made room for others, and rows that were past their life, since this object was made.
        self.evictions = 0
        self.expired = 0
        # Folding is done here, where the bound is known.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        # A page that is spilled early could be logged twice, and the log would outgrow the estimate.
        connection.execute("PRAGMA cache_spill = OFF")
        # A second line of defence: SQLite itself refuses to let the file grow past its share.
        connection.execute(f"PRAGMA max_page_count = {budget.file_pages}")

    def first_free_place(self) -> int:
        """The place in the order of use after the entry that was used last."""
        return int(self._scalar("SELECT coalesce(max(used), 0) + 1 FROM entries"))

    def touch(self, places: Sequence[tuple[int, CacheKey]]) -> None:
        """Move at most ``ROWS_AT_ONCE`` entries in the order of use."""
        rows = [(place, bytes.fromhex(key)) for place, key in places]
        self._transact(
            lambda: self._connection.executemany(
                "UPDATE entries SET used = ? WHERE id = (SELECT id FROM bodies WHERE key = ?)", rows
            ),
            _FRAMES_BESIDE + _FRAMES_PER_ROW * len(rows),
        )

    def write(self, records: Sequence[Record], *, created_before: float | None = None) -> None:
        """Write records in one transaction, in place of those with the same key, and sweep what is too old.

        The least recently used entries make room.
        """
        pages = pages_for([len(record.signed_bytes) for record in records])

        def fill() -> None:
            if created_before is not None:
                self.expired += self._remove(
                    f"created < ? AND {_NOT_PINNED} ORDER BY created", (created_before,)
                )
            self._make_room(pages)
            for record in records:
                self._insert(record)

        # Every record also touches one leaf of the index of keys, and so does each one that makes room for it.
        frames = _FRAMES_BESIDE + pages + 2 * len(records)
        self.shrink()
        try:
            self._transact(fill, frames)
        except sqlite3.OperationalError as error:
            # Half-filled leaves can make the estimate of pages too low, and max_page_count stops the growth.
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            pages *= 4
            self._transact(fill, frames)

    def clear(self, agent_name: str | None, created_before: float | None) -> int:
        """Remove entries in steps and give their pages back; how many there were."""
        conditions, values = ["1"], list[object]()
        if agent_name is not None:
            conditions.append("agent = ?")
            values.append(agent_name)
        if created_before is not None:
            conditions.append("created < ?")
            values.append(created_before)
        where = " AND ".join(conditions)
        removed_in_all = 0
        while removed := self._step(lambda: self._remove(where, values)):
            removed_in_all += removed
        if removed_in_all:
            self._step(lambda: drop_dead_pins(self._connection))
        self._give_back_pages()
        return removed_in_all

    def shrink(self) -> None:
        """Bring a file that was written under a larger bound down to this one."""
        if self._pages() <= self._budget.file_pages:
            return
        while (excess := self._pages() - self._free_pages() - self._budget.file_pages) > 0:
            # Larger steps while the file is far too large: each one ends in an fsync.
            rows = max(ROWS_AT_ONCE, excess // 8)
            # The bound is above the pins: where nothing else is left, they make room too.
            if not self._step(partial(self._evict, excess * PAGE_BYTES, rows)) and not self._step(
                partial(self._evict, excess * PAGE_BYTES, rows, "1")
            ):
                break
        self._give_back_pages()
        self._connection.execute(f"PRAGMA max_page_count = {self._budget.file_pages}")

    def change_pins(self, work: Callable[[sqlite3.Connection, DiskBudget], T], pins: int) -> T:
        """Run ``work`` on so many pins in one transaction."""
        frames = _FRAMES_BESIDE + 2 * (pins // _PINS_PER_FRAME)
        return self._transact(lambda: work(self._connection, self._budget), frames)

    def totals(self) -> tuple[int, int]:
        """Entries in the file, and the bytes of their records."""
        entries, size_bytes = self._connection.execute(
            "SELECT entries, bytes FROM totals"
        ).fetchone()
        return entries, size_bytes

    def _insert(self, record: Record) -> None:
        key = bytes.fromhex(record.key)
        execute = self._connection.execute
        execute("DELETE FROM entries WHERE id = (SELECT id FROM bodies WHERE key = ?)", (key,))
        row_id = execute(
            "INSERT INTO entries (agent, created, used, bytes) VALUES (?, ?, ?, ?)",
            (record.agent_name, record.created_at, record.place, len(record.signed_bytes)),
        ).lastrowid
        execute("INSERT INTO bodies VALUES (?, ?, ?)", (row_id, key, record.signed_bytes))
        keep_pin(self._connection, key, self._budget)

    def _make_room(self, pages: int) -> None:
        while (excess := self._pages() - self._free_pages() + pages - self._budget.file_pages) > 0:
            if not self._evict(excess * PAGE_BYTES):
                break

    def _evict(
        self, wanted_bytes: int, most_rows: int = ROWS_AT_ONCE, where: str = _NOT_PINNED
    ) -> int:
        """Remove the least recently used rows until about ``wanted_bytes`` are free; how many, 0 when none is left."""
        rows = self._connection.execute(
            f"SELECT id, bytes FROM entries WHERE {where} ORDER BY used LIMIT ?",  # noqa: S608 - conditions of this module
            (most_rows,),
        ).fetchall()
        doomed = []
        for row_id, size_bytes in rows:
            doomed.append((row_id,))
            wanted_bytes -= size_bytes
            if wanted_bytes <= 0:
                break
        self._connection.executemany("DELETE FROM entries WHERE id = ?", doomed)
        self.evictions += len(doomed)
        return len(doomed)

    def _remove(self, where: str, values: Sequence[object]) -> int:
        return self._connection.execute(
            f"DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE {where} LIMIT {ROWS_AT_ONCE})",  # noqa: S608 - conditions are written in this module, values are bound
            values,
        ).rowcount

    def _give_back_pages(self) -> None:
        """Cut free pages off the end of the file, as far as they go."""
        smallest_step = self._budget.log_bytes // PAGE_BYTES // 4
        while (before := self._free_pages()) > 0:
            self._step(partial(self._cut, max(smallest_step, before // 8)))
            if self._free_pages() >= before:
                break
        self._fold_log()

    def _cut(self, pages: int) -> int:
        # One at a time: the statement has rows without columns, of which Python's binding fetches only the first.
        for _ in range(pages):
            self._connection.execute("PRAGMA incremental_vacuum(1)")
        return pages

    def _step(self, work: Callable[[], int]) -> int:
        return self._transact(work, _FRAMES_BESIDE + _FRAMES_PER_ROW * ROWS_AT_ONCE)

    def _transact(self, work: Callable[[], T], frames: int) -> T:
        """Run ``work`` in a transaction that leaves the log within its share.

        The size of the log is read under the write lock: until the commit nobody else can make it grow. An empty
        log takes anything, so that an entry larger than the log's share can be written; it is alone in its batch.
        """
        while True:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                log_bytes = self._log_bytes()
                if log_bytes == 0 or self._budget.log_has_room(log_bytes, frames):
                    result = work()
                    self._connection.execute("COMMIT")
                    return result
            finally:
                # Not when the commit is done, nor when SQLite has rolled back by itself on a full disk.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            self._fold_log()

    def _fold_log(self) -> None:
        """Write the log into the file and empty it; waits for readers of old pages."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._scalar("PRAGMA wal_checkpoint(TRUNCATE)"):
            if time.monotonic() >= deadline:
                message = f"readers keep {self._log_path.name} from being folded"
                raise NoRoomError(message)
            time.sleep(_RETRY_SECONDS)

    def _log_bytes(self) -> int:
        try:
            return self._log_path.stat().st_size
        except FileNotFoundError:
            return 0

    def _pages(self) -> int:
        return int(self._scalar("PRAGMA page_count"))

    def _free_pages(self) -> int:
        return int(self._scalar("PRAGMA freelist_count"))

    def _scalar(self, statement: str) -> int:
        value: int = self._connection.execute(statement).fetchone()[0]
        return value
