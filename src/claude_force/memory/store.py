"""Answers questions about what agents remember, and forgets."""

from __future__ import annotations

import sqlite3
import time
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from claude_force.memory.records import Explanation, MemoryAnswer, Recollection
from claude_force.memory.schema import SCHEMA
from claude_force.memory.search import Question, find
from claude_force.memory.source import RecordSource, unreadable
from claude_force.memory.writing import RecordWriter
from claude_force.storage.database import open_database
from claude_force.storage.query_cache import QueryCache

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from pathlib import Path

    from claude_force.memory.records import MemoryRecord, ScopeSize

T = TypeVar("T")

_RECORDS_AT_ONCE: Final = 500
# Recency is part of a score; within an hour it changes nothing that a reader would notice.
_CLOCK_STEP_SECONDS: Final = 3600


class MemoryStore:
    """What agents remember, in the database at ``path``. Looking makes nothing, and only `forget…` writes.

    Results are kept for as long as no process writes, the 128 used last. Any thread may use it; a question waits for
    the disk, so do not ask on an event loop. Where no project is named, questions are about ``project``.

    Args:
        path: of the database. While there is none, nothing was remembered yet, and every answer says so.
        project: the folder of the project, as records name it.
        wall_clock: seconds since the epoch.

    Raises:
        StorageError: by every method, when the database cannot be used.
    """

    def __init__(
        self, path: Path, *, project: str, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self.project = project
        self._path = path
        self._wall_clock = wall_clock
        self._source = RecordSource(path)
        # Protects the source: it belongs to one thread at a time.
        self._lock = RLock()
        self._cache: QueryCache[tuple[Any, str]] = QueryCache()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def search(
        self,
        agent_name: str,
        query: str,
        *,
        limit: int = 10,
        up_to_id: int | None = None,
        except_key: str | None = None,
    ) -> MemoryAnswer[tuple[Recollection, ...]]:
        """What ``agent_name`` remembers of the project that fits ``query``, the best first.

        Args:
            agent_name: of the agent.
            query: what it is about; its words count, and no syntax.
            limit: how many at most.
            up_to_id: leaves out records with a higher number.
            except_key: leaves out the record of the request with this content key.
        """
        now = int(self._wall_clock() // _CLOCK_STEP_SECONDS * _CLOCK_STEP_SECONDS)
        question = Question(
            project=self.project,
            agent_name=agent_name,
            text=query,
            limit=limit,
            now_ms=now * 1000,
            up_to_id=up_to_id,
            except_key=except_key,
        )
        return self._answer(question, (), lambda: self._search(question))

    def latest(
        self, agent_name: str | None = None, *, limit: int = 20, all_projects: bool = False
    ) -> MemoryAnswer[tuple[MemoryRecord, ...]]:
        """The newest records, the newest first."""
        project = None if all_projects else self.project

        def read() -> tuple[tuple[MemoryRecord, ...], str]:
            found = self._source.latest(agent_name, project, limit)
            return found, f"{len(found):,} records"

        return self._answer(("latest", agent_name, project, limit), (), read)

    def scopes(self) -> MemoryAnswer[tuple[ScopeSize, ...]]:
        """How much each agent remembers of each project."""

        def read() -> tuple[tuple[ScopeSize, ...], str]:
            found = self._source.scopes()
            return found, f"{len(found):,} agents"

        return self._answer("scopes", (), read)

    def get(self, record_id: int) -> MemoryRecord | None:
        """One record, of any project; None where there is none such."""
        with self._lock:
            if not self._source.opened():
                return None
            return self._source.by_id([record_id]).get(record_id)

    def records(
        self, agent_name: str | None = None, *, all_projects: bool = False
    ) -> Iterator[MemoryRecord]:
        """Every record, the oldest first, read in pages while they are used."""
        project = None if all_projects else self.project
        last_id = 0
        while True:
            with self._lock:
                if not self._source.opened():
                    return
                page = self._source.page(last_id, agent_name, project, _RECORDS_AT_ONCE)
            if not page:
                return
            yield from page
            last_id = page[-1].id

    def last_id(self) -> int:
        """The highest number of a record; 0 where there is none."""
        with self._lock:
            return self._source.last_id() if self._source.opened() else 0

    def forget(self, record_id: int) -> bool:
        """Remove one record, of any project; False where there is none such. Nothing of it can be read any more."""
        return bool(self._write(lambda writer: writer.forget(record_id)))

    def forget_agent(self, agent_name: str, *, all_projects: bool = False) -> int:
        """Remove all that an agent remembers of the project, or of all; how many records that were."""
        project = None if all_projects else self.project
        return self._write(lambda writer: writer.forget_scopes(agent_name, project))

    def forget_all(self, *, all_projects: bool = False) -> int:
        """Remove all that is remembered of the project, or of all; how many records that were."""
        project = None if all_projects else self.project
        return self._write(lambda writer: writer.forget_scopes(project=project))

    def version(self) -> int | None:
        """Changes whenever a process writes; None while there is no database."""
        with self._lock:
            return self._source.version() if self._source.opened() else None

    def close(self) -> None:
        """Close the database; a later question opens it again."""
        with self._lock:
            self._source.close()
            # Another connection counts its versions anew.
            self._cache = QueryCache()

    def _search(self, question: Question) -> tuple[tuple[Recollection, ...], str]:
        try:
            hits = find(self._source.connection, question)
        except sqlite3.Error as error:
            raise unreadable(self._path, error) from error
        records = self._source.by_id([ranked.id for ranked in hits.ranked])
        found = tuple(
            Recollection(records[ranked.id], ranked.score)
            for ranked in hits.ranked
            if ranked.id in records
        )
        return found, f"{hits.candidates:,} candidates of {hits.records:,} records"

    def _answer(
        self, query: Hashable, nothing: T, read: Callable[[], tuple[T, str]]
    ) -> MemoryAnswer[T]:
        began = time.perf_counter()
        with self._lock:
            if not self._source.opened():
                found, version, value = None, None, (nothing, "nothing")
            else:
                # Asked for before anything is read: what is written meanwhile makes the result one of the past.
                version = self._source.version()
                found = self._cache.get(query, version)
                value = found or read()
                if found is None:
                    self._cache.put(query, version, value)
        return MemoryAnswer(
            value=value[0],
            explanation=Explanation(
                hit=found is not None,
                version=version,
                seconds=time.perf_counter() - began,
                read=value[1],
            ),
        )

    def _write(self, work: Callable[[RecordWriter], int]) -> int:
        if not self._path.exists():
            return 0
        # Of its own: what a connection writes itself does not change the version that it sees. And the one that reads
        # is closed, so that no snapshot of it keeps the log from being emptied.
        with self._lock:
            self.close()
            connection = open_database(self._path, SCHEMA)
            try:
                return work(RecordWriter(connection))
            except sqlite3.Error as error:
                raise unreadable(self._path, error) from error
            finally:
                connection.close()
