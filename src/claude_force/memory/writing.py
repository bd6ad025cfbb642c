"""Writes, replaces and removes records, each with its index, in one transaction."""
# ruff: noqa: S608 - conditions in statements are written in this module, values are bound

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from claude_force.memory.preparing import prepare
from claude_force.memory.schema import scoped

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from claude_force.memory.preparing import Prepared
    from claude_force.memory.records import Experience

DAY_SECONDS: Final = 86_400
_INSERT: Final = """INSERT INTO records
    (scope, key, recorded_ms, model, task, outcome, digest, task_terms, outcome_terms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_COUNT: Final = (
    "INSERT INTO terms VALUES (?, 1) ON CONFLICT (term) DO UPDATE SET records = records + 1"
)
# Removed in pieces, so that no transaction holds the lock for long.
_REMOVED_AT_ONCE: Final = 500
# What makes room is a tenth of what may be kept, so that it is not done at every write.
_ROOM_SHARE: Final = 0.9


class RecordWriter:
    """Writes through one connection, used by one thread at a time. Raises what SQLite raises."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # Freed bytes are overwritten with zeros, whatever the SQLite at hand was built with.
        connection.execute("PRAGMA secure_delete = ON")

    def write(self, experiences: Iterable[Experience]) -> int:
        """Write them; the number of those that were not known already."""
        return self.write_prepared([(one, prepare(one)) for one in experiences])

    def write_prepared(self, prepared: Iterable[tuple[Experience, Prepared]]) -> int:
        """`write` for what is prepared already."""
        with transaction(self._connection):
            return sum(self._write(experience, kept) for experience, kept in prepared)

    def forget(self, record_id: int) -> int:
        """Remove one record; 0 where there is none such."""
        return self._forget("id = ?", record_id)

    def forget_scopes(self, agent_name: str | None = None, project: str | None = None) -> int:
        """Remove every record of this agent, of this project, or of both; of everything where neither is given."""
        condition, values = scope_condition(agent_name, project)
        return self._forget(f"scope IN (SELECT id FROM scopes WHERE {condition})", *values)

    def purge(self) -> None:
        """Make what was removed unreadable: an index keeps the words of a removed record until it is merged."""
        self._connection.execute("INSERT INTO search (search) VALUES ('optimize')")
        with transaction(self._connection):
            self._connection.execute("DELETE FROM scopes WHERE records = 0")
        # A statement that gives a row for each page it frees; only `executescript` goes on to the last.
        self._connection.executescript("PRAGMA incremental_vacuum")
        # The log has earlier versions of every page that was written.
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def sweep(self, *, now: float, retention_days: int, max_bytes: int) -> int:
        """Remove what is too old, once a day, and the oldest records while all of them take too much room."""
        removed = 0
        day = int(now // DAY_SECONDS)
        (swept_day,) = self._connection.execute("SELECT swept_day FROM sweeps").fetchone()
        if swept_day != day:
            oldest_ms = int((now - retention_days * DAY_SECONDS) * 1000)
            removed += self._forget("recorded_ms < ?", oldest_ms, purging=False)
            self._connection.execute("UPDATE sweeps SET swept_day = ?", (day,))
        removed += self._make_room(max_bytes)
        if removed:
            self.purge()
        return removed

    def size_bytes(self) -> int:
        """Bytes of the pages that are in use."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (page_bytes,) = self._connection.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * page_bytes)

    def _write(self, experience: Experience, kept: Prepared) -> bool:
        scope = self._scope(experience.project, experience.agent_name)
        key = bytes.fromhex(experience.key)
        known = self._connection.execute(
            "SELECT id FROM records WHERE scope = ? AND key = ?", (scope, key)
        ).fetchone()
        if known is not None:
            if experience.cached:
                return False
            self._remove([known[0]])
        columns = (" ".join(kept.task_terms), " ".join(kept.outcome_terms))
        cursor = self._connection.execute(
            _INSERT,
            (
                scope,
                key,
                int(experience.recorded_at * 1000),
                experience.model,
                kept.task,
                kept.outcome,
                kept.digest,
                *columns,
            ),
        )
        self._connection.execute(
            "INSERT INTO search (rowid, task_terms, outcome_terms) VALUES (?, ?, ?)",
            (cursor.lastrowid, *(_indexed(scope, terms) for terms in columns)),
        )
        unique = {scoped(scope, term) for term in (*kept.task_terms, *kept.outcome_terms)}
        self._connection.executemany(_COUNT, [(term,) for term in sorted(unique)])
        self._connection.execute("UPDATE scopes SET records = records + 1 WHERE id = ?", (scope,))
        return True

    def _scope(self, project: str, agent_name: str) -> int:
        self._connection.execute(
            "INSERT OR IGNORE INTO scopes (project, agent) VALUES (?, ?)", (project, agent_name)
        )
        (number,) = self._connection.execute(
            "SELECT id FROM scopes WHERE project = ? AND agent = ?", (project, agent_name)
        ).fetchone()
        return int(number)

    def _forget(self, condition: str, *values: object, purging: bool = True) -> int:
        removed = 0
        while True:
            found = self._connection.execute(
                f"SELECT id FROM records WHERE {condition} ORDER BY id LIMIT {_REMOVED_AT_ONCE}",
                values,
            ).fetchall()
            if not found:
                break
            with transaction(self._connection):
                removed += self._remove([record_id for (record_id,) in found])
        if removed and purging:
            self.purge()
        return removed

    def _remove(self, ids: Sequence[int]) -> int:
        """Within a transaction. The index is told the very words that it was given."""
        removed = 0
        for record_id in ids:
            row = self._connection.execute(
                "SELECT scope, task_terms, outcome_terms FROM records WHERE id = ?", (record_id,)
            ).fetchone()
            if row is None:
                # Another process has removed it.
                continue
            scope, *columns = row
            indexed = [_indexed(scope, terms) for terms in columns]
            self._connection.execute(
                "INSERT INTO search (search, rowid, task_terms, outcome_terms) VALUES ('delete', ?, ?, ?)",
                (record_id, *indexed),
            )
            unique = [(term,) for term in sorted({*" ".join(indexed).split()})]
            self._connection.executemany(
                "UPDATE terms SET records = records - 1 WHERE term = ?", unique
            )
            self._connection.executemany(
                "DELETE FROM terms WHERE term = ? AND records <= 0", unique
            )
            self._connection.execute("DELETE FROM records WHERE id = ?", (record_id,))
            self._connection.execute(
                "UPDATE scopes SET records = records - 1 WHERE id = ?", (scope,)
            )
            removed += 1
        return removed

    def _make_room(self, max_bytes: int) -> int:
        removed = 0
        while (size := self.size_bytes()) > max_bytes:
            (count,) = self._connection.execute("SELECT sum(records) FROM scopes").fetchone()
            if not count:
                break
            excess = max(int(count * (1 - _ROOM_SHARE * max_bytes / size)), 1)
            oldest = self._connection.execute(
                "SELECT recorded_ms FROM records ORDER BY recorded_ms LIMIT 1 OFFSET ?",
                (min(excess, count) - 1,),
            ).fetchone()
            removed += self._forget("recorded_ms <= ?", oldest[0])
        return removed


def scope_condition(agent_name: str | None, project: str | None) -> tuple[str, tuple[str, ...]]:
    """What a statement on ``scopes`` is to hold to, and its values; everything where neither is given."""
    given = {"agent": agent_name, "project": project}
    named = {column: value for column, value in given.items() if value is not None}
    condition = " AND ".join(f"{column} = ?" for column in named) or "1 = 1"
    return condition, tuple(named.values())


def _indexed(scope: int, terms: str) -> str:
    return " ".join(scoped(scope, term) for term in terms.split())


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction; an exception rolls it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled it back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
