"""Removes rows and hours that are past their time; the days that they were rolled up into stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.metrics.cells import day_of
from claude_force.metrics.schema import DAY_SECONDS, first_id
from claude_force.metrics.writing import transaction

if TYPE_CHECKING:
    import sqlite3

# So many at once that a writer of another process never waits long.
_ROWS_AT_ONCE: Final = 5000
_PAGES_AT_ONCE: Final = 500


def oldest_kept(now: float, retention_days: int) -> int:
    """The second from which on rows and hours are kept: the beginning of a day of UTC."""
    return day_of(now) - retention_days * DAY_SECONDS


def sweep_if_due(connection: sqlite3.Connection, *, now: float, retention_days: int) -> bool:
    """Sweep once a day, by whichever process comes first; True when it was done here."""
    today = day_of(now)
    with transaction(connection):
        due = connection.execute(
            "UPDATE sweeps SET swept_day = ? WHERE swept_day < ?", (today, today)
        )
    if not due.rowcount:
        return False
    sweep(connection, oldest_kept(now, retention_days))
    return True


def sweep(connection: sqlite3.Connection, before: int) -> None:
    """Remove rows and hours from before this second, and give their pages back to the file system."""
    with transaction(connection):
        # First, so that nobody reads hours as whole of which some are gone already.
        connection.execute("UPDATE sweeps SET kept_from = max(kept_from, ?)", (before,))
    for table in ("calls", "hours", "agent_hours"):
        while _remove_some(connection, table, before):
            pass
    _give_back_pages(connection)


def _remove_some(connection: sqlite3.Connection, table: str, before: int) -> int:
    column, bound = ("id", first_id(before * 1000)) if table == "calls" else ("start", before)
    key = "id" if table == "calls" else "(start, agent, model, workflow)"
    chosen = key.strip("()")
    with transaction(connection):
        return connection.execute(
            f"DELETE FROM {table} WHERE {key} IN "  # noqa: S608 - names of this module, values are bound
            f"(SELECT {chosen} FROM {table} WHERE {column} < ? LIMIT {_ROWS_AT_ONCE})",
            (bound,),
        ).rowcount


def _give_back_pages(connection: sqlite3.Connection) -> None:
    while (free := _free_pages(connection)) > 0:
        with transaction(connection):
            # One at a time: the statement has rows without columns, of which Python's binding fetches only the first.
            for _ in range(min(free, _PAGES_AT_ONCE)):
                connection.execute("PRAGMA incremental_vacuum(1)")
        if _free_pages(connection) >= free:
            break
    # Only a checkpoint cuts the file; readers may keep it from that, then the next one does it.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _free_pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])
