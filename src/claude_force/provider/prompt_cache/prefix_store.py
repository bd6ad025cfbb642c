"""The database of prefixes: digests, times and counts, never a text. Every method waits for the disk."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from claude_force.provider.prompt_cache.outlook import LIFETIME_SECONDS, GapCounts
from claude_force.provider.prompt_cache.sightings import Seen, with_sighting
from claude_force.storage.database import Schema, open_database
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from claude_force.provider.prompt_cache.prefixes import PrefixKey
    from claude_force.provider.prompt_cache.sightings import Sighting

MOST_ROWS: Final = 2_000
KEPT_SECONDS: Final = 7 * 86_400.0
# Whoever waits longer does without: the calls go on meanwhile.
_BUSY_SECONDS: Final = 1.0

# As the table below.
Row = tuple[str, bytes, float, int, int, int, float, float, str]

_SCHEMA: Final = Schema(
    application_id=0x43465043,  # "CFPC"
    migrations=(
        (
            """CREATE TABLE prefixes (
                -- The provider; what one keeps another cannot read.
                origin TEXT NOT NULL,
                key BLOB NOT NULL,
                asked_at REAL NOT NULL,
                within_5m INTEGER NOT NULL,
                within_1h INTEGER NOT NULL,
                longer INTEGER NOT NULL,
                saved REAL NOT NULL,
                warm_until REAL NOT NULL,
                ttl TEXT NOT NULL,
                PRIMARY KEY (origin, key)
            ) WITHOUT ROWID""",
        ),
    ),
)


class PrefixStore:
    """A connection to the prefixes that all processes of a user ask one provider with; used by one thread at a time.

    Raises:
        StorageError: by every method, when the database cannot be used.
    """

    def __init__(self, path: Path, origin: str) -> None:
        self._origin = origin
        self._path = path
        self._database = open_database(path, _SCHEMA, busy_timeout_seconds=_BUSY_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()

    def read(self, *, now: float) -> dict[PrefixKey, Row]:
        """The prefixes that matter to the next call: asked within the hour or more than once, or still to be read.

        As rows for `seen_in`: few of them will be looked at.
        """
        try:
            with closing(
                self._database.execute(
                    """SELECT * FROM prefixes WHERE origin = ?
                        AND (within_5m + within_1h + longer > 0 OR asked_at > ? OR warm_until > ?)""",
                    (self._origin, now - LIFETIME_SECONDS["1h"], now),
                )
            ) as rows:
                return {row[1]: row for row in rows}
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def write(self, sightings: Iterable[Sighting], *, now: float) -> None:
        """Add what was seen to what is known; what was asked longest ago makes room."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._write(sightings)
                self._make_room(now)
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _write(self, sightings: Iterable[Sighting]) -> None:
        changed: dict[PrefixKey, Seen] = {}
        for sighting in sightings:
            known = changed.get(sighting.key) or self._find(sighting.key)
            changed[sighting.key] = with_sighting(known, sighting)
        self._database.executemany(
            "INSERT OR REPLACE INTO prefixes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((self._origin, key, *_row(seen)) for key, seen in changed.items()),
        )

    def _find(self, key: PrefixKey) -> Seen | None:
        row = self._database.execute(
            "SELECT * FROM prefixes WHERE origin = ? AND key = ?", (self._origin, key)
        ).fetchone()
        return None if row is None else seen_in(row)

    def _make_room(self, now: float) -> None:
        """A map over thousands of files must not push out what is asked again and again."""
        self._database.execute("DELETE FROM prefixes WHERE asked_at < ?", (now - KEPT_SECONDS,))
        (count,) = self._database.execute("SELECT COUNT(*) FROM prefixes").fetchone()
        if count <= MOST_ROWS:
            return
        self._database.execute(
            """DELETE FROM prefixes WHERE (origin, key) IN (
                 SELECT origin, key FROM prefixes
                 ORDER BY within_5m + within_1h + longer > 0, asked_at LIMIT ?)""",
            (count - MOST_ROWS * 9 // 10,),
        )

    def _unusable(self, error: sqlite3.Error) -> StorageError:
        return StorageError(
            f"cannot use {str(self._path)!r}: {error}; gaps between calls are measured in this process only"
        )


def seen_in(row: Row) -> Seen:
    """What a row says."""
    _, _, asked_at, within_5m, within_1h, longer, saved, warm_until, ttl = row
    return Seen(
        asked_at=asked_at,
        gaps=GapCounts(within_5m, within_1h, longer),
        saved=saved,
        warm_until=warm_until,
        ttl="1h" if ttl == "1h" else "5m",
    )


def _row(seen: Seen) -> tuple[float, int, int, int, float, float, str]:
    gaps = seen.gaps
    return (
        seen.asked_at,
        gaps.within_5m,
        gaps.within_1h,
        gaps.longer,
        seen.saved,
        seen.warm_until,
        seen.ttl,
    )
