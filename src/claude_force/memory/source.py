"""The database of memories as records."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from claude_force.memory.records import MemoryRecord, ScopeSize
from claude_force.memory.schema import SCHEMA
from claude_force.memory.writing import scope_condition
from claude_force.storage.database import open_database
from claude_force.storage.errors import StorageError
from claude_force.storage.query_cache import data_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

# A question touches some hundred pages all over the file; the two megabytes that are usual hold few of them.
_CACHE_KIBIBYTES: Final = 16_384
_COLUMNS: Final = (
    "records.id, scopes.project, scopes.agent, records.recorded_ms, task, outcome, digest, model"
)
_FROM: Final = "FROM records JOIN scopes ON scopes.id = records.scope"


class RecordSource:
    """Reads through one connection, used by one thread at a time; it makes nothing by looking.

    Raises:
        StorageError: by every method, when the database cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def opened(self) -> bool:
        """False while there is no database; every other method is for one that is open."""
        if self._connection is None and self._path.exists():
            self._connection = open_database(self._path, SCHEMA)
            self._connection.execute(f"PRAGMA cache_size = {-_CACHE_KIBIBYTES}")
        return self._connection is not None

    @property
    def connection(self) -> sqlite3.Connection:
        """The open database."""
        assert self._connection is not None  # noqa: S101 - every question begins with `opened`
        return self._connection

    def version(self) -> int:
        """See `data_version`."""
        return data_version(self.connection)

    def close(self) -> None:
        """Close the database; the next question opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def last_id(self) -> int:
        """The highest number of a record; 0 where there is none."""
        return int(self.execute("SELECT coalesce(max(id), 0) FROM records")[0][0])

    def by_id(self, ids: Sequence[int]) -> dict[int, MemoryRecord]:
        """Those of the records that are there."""
        marks = ", ".join("?" * len(ids))
        rows = self.execute(f"SELECT {_COLUMNS} {_FROM} WHERE records.id IN ({marks})", *ids)
        return {record.id: record for record in map(_record, rows)}

    def latest(
        self, agent_name: str | None, project: str | None, limit: int
    ) -> tuple[MemoryRecord, ...]:
        """The newest records, the newest first."""
        condition, values = scope_condition(agent_name, project)
        rows = self.execute(
            f"SELECT {_COLUMNS} {_FROM} WHERE {condition} ORDER BY recorded_ms DESC, records.id DESC LIMIT ?",
            *values,
            limit,
        )
        return tuple(map(_record, rows))

    def page(
        self, after_id: int, agent_name: str | None, project: str | None, limit: int
    ) -> tuple[MemoryRecord, ...]:
        """The records after this one, by their numbers."""
        condition, values = scope_condition(agent_name, project)
        rows = self.execute(
            f"SELECT {_COLUMNS} {_FROM} WHERE records.id > ? AND {condition} ORDER BY records.id LIMIT ?",
            after_id,
            *values,
            limit,
        )
        return tuple(map(_record, rows))

    def scopes(self) -> tuple[ScopeSize, ...]:
        """What each agent remembers of each project."""
        rows = self.execute(
            "SELECT project, agent, records, (SELECT max(recorded_ms) FROM records WHERE scope = scopes.id) "
            "FROM scopes WHERE records > 0 ORDER BY project, agent"
        )
        return tuple(
            ScopeSize(project=project, agent_name=agent, records=count, last_at=_moment(last))
            for project, agent, count, last in rows
        )

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a statement that only reads."""
        try:
            return self.connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise unreadable(self._path, error) from error


def unreadable(path: Path, error: sqlite3.Error) -> StorageError:
    """The error for a database that is there and cannot be used."""
    return StorageError(
        f"cannot use the memories in {str(path)!r}: {error}; move the file away to start anew"
    )


def _record(row: Iterable[Any]) -> MemoryRecord:
    record_id, project, agent, recorded_ms, task, outcome, digest, model = row
    return MemoryRecord(
        id=record_id,
        project=project,
        agent_name=agent,
        recorded_at=_moment(recorded_ms),
        task=task,
        outcome=outcome,
        digest=digest,
        model=model,
    )


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
