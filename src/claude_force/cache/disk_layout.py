"""How entries lie in a SQLite file, and how its bytes are divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from claude_force.storage.database import Schema

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE_BYTES: Final = 4096
# What the write-ahead log adds to every page: https://www.sqlite.org/fileformat2.html#walformat
_FRAME_BYTES: Final = PAGE_BYTES + 24
# The log is folded into the file when it reaches its share, so a larger share means fewer fsyncs.
_LARGEST_LOG_BYTES: Final = 8 * 1024 * 1024
# Below this the pages of an empty schema and of one transaction leave no room for answers.
SMALLEST_BOUND_BYTES: Final = 256 * 1024
# Pages that are always taken: the schema, the roots of tables and indexes, the totals, a map of pages.
_FIXED_PAGES: Final = 14
# An overflow page gives 4 bytes to the link to the next.
_OVERFLOW_BYTES: Final = PAGE_BYTES - 4
# A row of `entries` with its places in two indexes and the key's in a third.
_ROW_BYTES: Final = 120
_SPLIT_PAGES: Final = 4
# Half, so that there is always room for what comes.
DEFAULT_PINNED_SHARE: Final = 0.5

# `entries` is narrow and is what gets counted, ordered and swept; `bodies` holds the signed records and is touched
# only to read or write one. Ids ascend, so entries of one time lie together and are freed together.
# Nothing in `entries` is trusted for an answer: key and creation time are read from the signed record.
SCHEMA: Final = Schema(
    application_id=0x63664131,
    shrinkable=True,
    migrations=(
        (
            """CREATE TABLE entries (
                id INTEGER PRIMARY KEY,
                agent TEXT NOT NULL,
                created REAL NOT NULL,
                used INTEGER NOT NULL,
                bytes INTEGER NOT NULL
            )""",
            "CREATE INDEX entries_by_use ON entries (used)",
            "CREATE INDEX entries_by_creation ON entries (created)",
            "CREATE TABLE bodies (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, record BLOB NOT NULL)",
            # Sums are kept by the database, so they are right whichever process wrote, or died, in between.
            "CREATE TABLE totals (entries INTEGER NOT NULL, bytes INTEGER NOT NULL)",
            "INSERT INTO totals VALUES (0, 0)",
            """CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
                UPDATE totals SET entries = entries + 1, bytes = bytes + new.bytes;
            END""",
            """CREATE TRIGGER entry_removed AFTER DELETE ON entries BEGIN
                DELETE FROM bodies WHERE id = old.id;
                UPDATE totals SET entries = entries - 1, bytes = bytes - old.bytes;
            END""",
        ),
        (
            # Which runs keep which answers: `mark` is signed, since a pin lets an answer outlive its lifetime.
            """CREATE TABLE pins (
                key BLOB NOT NULL, run TEXT NOT NULL, mark BLOB NOT NULL, pinned_at REAL NOT NULL,
                PRIMARY KEY (key, run)
            ) WITHOUT ROWID""",
            # The entries of those keys, so that making room looks up a number and reads no key.
            "CREATE TABLE pinned (id INTEGER PRIMARY KEY)",
            """CREATE TRIGGER entry_unpinned AFTER DELETE ON entries BEGIN
                DELETE FROM pinned WHERE id = old.id;
            END""",
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class DiskBudget:
    """How a bound on bytes is divided between the file and its write-ahead log."""

    max_bytes: int
    # Share of `max_bytes` that records of pinned entries may take.
    pinned_share: float = DEFAULT_PINNED_SHARE

    @property
    def pinned_bytes(self) -> int:
        """What the records of pinned entries may take together."""
        return int(self.max_bytes * self.pinned_share)

    @property
    def log_bytes(self) -> int:
        """What the log may take; one entry that is larger than this may have it alone."""
        return min(_LARGEST_LOG_BYTES, self.max_bytes // 4)

    @property
    def file_pages(self) -> int:
        """Pages that the file may have."""
        return (self.max_bytes - self.log_bytes) // PAGE_BYTES

    @property
    def batch_bytes(self) -> int:
        """Records that go into one transaction, so that the log has room for several."""
        return self.log_bytes // 16

    def fits(self, record_bytes: int) -> bool:
        """True for a record that can be stored at all."""
        pages = pages_for([record_bytes]) + _FIXED_PAGES
        return self.max_bytes >= SMALLEST_BOUND_BYTES and pages <= self.file_pages

    def log_has_room(self, log_bytes_now: int, frames: int) -> bool:
        """True when ``frames`` more pages keep the log within its share."""
        # No page is logged twice in a transaction, so a small file bounds what it can add.
        return log_bytes_now + min(frames, self.file_pages) * _FRAME_BYTES <= self.log_bytes


def pages_for(record_bytes: Sequence[int]) -> int:
    """About how many new pages records of these sizes take: overflow pages, half-filled leaves, a few splits."""
    overflow_pages = sum(size // _OVERFLOW_BYTES for size in record_bytes)
    in_leaves = sum(size % _OVERFLOW_BYTES + _ROW_BYTES for size in record_bytes)
    return overflow_pages + in_leaves // (PAGE_BYTES // 2) + _SPLIT_PAGES
