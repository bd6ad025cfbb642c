"""Pins as rows: which run keeps which entry. Every function within a transaction, or a look, of the caller."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_force.domain.errors import InputError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from claude_force.cache.disk_layout import DiskBudget
    from claude_force.cache.entries import EntrySigner
    from claude_force.cache.fingerprint import CacheKey

_MEGABYTE = 1_048_576
_PINNED_BYTES = "SELECT coalesce(sum(bytes), 0) FROM pinned JOIN entries USING (id)"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedRun:
    """A run whose answers stay in the cache past their lifetime, and when others make room."""

    run_id: str
    # Answers of it that are in the cache, and bytes of their records.
    entries: int
    size_bytes: int
    # Seconds since the epoch.
    pinned_at: float


def pin_mark(key: CacheKey, run_id: str) -> bytes:
    """What the mark of a pin signs."""
    return b"pin " + bytes.fromhex(key) + run_id.encode("utf-8", "surrogatepass")


def pin(
    connection: sqlite3.Connection,
    budget: DiskBudget,
    run_id: str,
    marks: Iterable[tuple[CacheKey, bytes]],
    *,
    now: float,
) -> None:
    """Pin keys to a run.

    Raises:
        InputError: their records do not fit beside those that are pinned already; nothing changes then.
    """
    execute = connection.execute
    (before,) = execute(_PINNED_BYTES).fetchone()
    for key, mark in marks:
        key_bytes = bytes.fromhex(key)
        execute("INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?)", (key_bytes, run_id, mark, now))
        execute("INSERT OR IGNORE INTO pinned SELECT id FROM bodies WHERE key = ?", (key_bytes,))
    (after,) = execute(_PINNED_BYTES).fetchone()
    if after > budget.pinned_bytes:
        raise InputError(
            f"The answers of run {run_id!r} need {_megabytes(after - before)}, and of the {_megabytes(budget.pinned_bytes)} "
            f"that pins may take, {_megabytes(max(budget.pinned_bytes - before, 0))} are left. Nothing was pinned. Unpin "
            "another run (`claude-force cache pins`), or raise cache.max_size_mb or cache.max_pinned_share."
        )


def unpin(connection: sqlite3.Connection, run_id: str) -> int:
    """Let go of what a run keeps; how many entries it had. Those that another run keeps stay pinned."""
    count = connection.execute("DELETE FROM pins WHERE run = ?", (run_id,)).rowcount
    connection.execute(
        "DELETE FROM pinned WHERE id NOT IN (SELECT id FROM bodies JOIN pins USING (key))"
    )
    return count


def pinned_runs(connection: sqlite3.Connection) -> tuple[PinnedRun, ...]:
    """Every run that keeps something, the one pinned last first."""
    rows = connection.execute(
        "SELECT run, count(entries.id), coalesce(sum(entries.bytes), 0), max(pinned_at) FROM pins "
        "LEFT JOIN bodies USING (key) LEFT JOIN entries ON entries.id = bodies.id "
        "GROUP BY run ORDER BY 4 DESC, 1"
    )
    return tuple(
        PinnedRun(run_id=run, entries=entries, size_bytes=size_bytes, pinned_at=pinned_at)
        for run, entries, size_bytes, pinned_at in rows
    )


def is_pinned(connection: sqlite3.Connection, key: CacheKey, signer: EntrySigner) -> bool:
    """Whether a run keeps this key, by a mark of this signer."""
    rows = connection.execute("SELECT run, mark FROM pins WHERE key = ?", (bytes.fromhex(key),))
    return any(
        isinstance(mark, bytes) and hmac.compare_digest(mark, signer.mark(pin_mark(key, run)))
        for run, mark in rows
    )


def keep_pin(connection: sqlite3.Connection, key: bytes, budget: DiskBudget) -> None:
    """Pin the entry that has just taken the place of a pinned one, as far as it fits."""
    held = connection.execute("SELECT 1 FROM pins WHERE key = ?", (key,)).fetchone()
    if held is None:
        return
    connection.execute("INSERT INTO pinned SELECT id FROM bodies WHERE key = ?", (key,))
    if connection.execute(_PINNED_BYTES).fetchone()[0] > budget.pinned_bytes:
        connection.execute(
            "DELETE FROM pinned WHERE id = (SELECT id FROM bodies WHERE key = ?)", (key,)
        )
        connection.execute("DELETE FROM pins WHERE key = ?", (key,))


def drop_dead_pins(connection: sqlite3.Connection) -> int:
    """Forget pins of entries that are gone."""
    return connection.execute(
        "DELETE FROM pins WHERE NOT EXISTS (SELECT 1 FROM bodies WHERE bodies.key = pins.key)"
    ).rowcount


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / _MEGABYTE:.2f} MB"
