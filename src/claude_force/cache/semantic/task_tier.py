"""Tasks on disk: the disk tier of the cache in a file of its own, which also tells what was added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from claude_force.cache.disk_layout import SMALLEST_BOUND_BYTES
from claude_force.cache.disk_tier import DiskTier
from claude_force.cache.entries import EntrySigner
from claude_force.cache.secret import given_secret, kept_secret
from claude_force.cache.semantic.stored_task import task_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from claude_force.cache.policy import Lifetimes
    from claude_force.cache.semantic.stored_task import StoredTask

TASKS_FILE: Final = "semantic.db"
# A task is a tenth of its answer or less.
_SHARE_OF_ANSWERS: Final = 4

_SINCE: Final = """SELECT id, record FROM entries JOIN bodies USING (id)
    WHERE id > ? AND agent = ? ORDER BY id DESC LIMIT ?"""
_AT: Final = "SELECT key FROM bodies WHERE id = ?"
_LAST: Final = "SELECT id, key FROM bodies ORDER BY id DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Mark:
    """The last row that was seen. Ids ascend, unless rows at the end were removed; then the key is another one."""

    row_id: int = 0
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Added:
    """What is in the file beyond a mark."""

    # The youngest first.
    tasks: tuple[StoredTask, ...]
    mark: Mark
    # The file is not the one that the mark was made in, or rows at its end were removed: these are all tasks.
    afresh: bool


class TaskTier(DiskTier):
    """Signed tasks in a SQLite file; a `DiskTier`, with its bounds, its expiry and its manners."""

    def added(self, mark: Mark, agent_name: str, most: int) -> Added:
        """The youngest ``most`` tasks of an agent that came after ``mark``. Waits for the disk."""
        with self._reading:
            found = self._guarded(lambda: self._rows_since(mark, agent_name, most))
        if found is None:
            return Added((), mark, afresh=False)
        rows, last, afresh = found
        entries = (self._unsealed(record) for _, record in rows)
        tasks = (task_of(entry) for entry in entries if entry is not None)
        mine = tuple(task for task in tasks if task is not None and task.agent_name == agent_name)
        return Added(mine, last, afresh)

    def exists(self) -> bool:
        """Whether there is a file; looking makes none."""
        return self._path.exists()

    def tasks(self) -> Iterator[StoredTask]:
        """Every valid task in the file, the one used last first. Waits for the disk."""
        for entry in self.records():
            task = None if entry is None else task_of(entry)
            if task is not None:
                yield task

    def _rows_since(
        self, mark: Mark, agent_name: str, most: int
    ) -> tuple[list[tuple[int, object]], Mark, bool] | None:
        reader: sqlite3.Connection | None = self._reader or self._open_reader()
        if reader is None:
            return None
        row = reader.execute(_LAST).fetchone()
        last = Mark() if row is None else Mark(row[0], row[1])
        if last == mark:
            return [], mark, False
        seen = reader.execute(_AT, (mark.row_id,)).fetchone()
        afresh = mark.row_id > 0 and (seen is None or seen[0] != mark.key)
        start = 0 if afresh else mark.row_id
        return reader.execute(_SINCE, (start, agent_name, most)).fetchall(), last, afresh


def open_task_tier(
    folder: Path,
    *,
    lifetimes: Lifetimes,
    max_answer_bytes: int,
    secret: str | None,
    use_integrity_check: bool = True,
) -> TaskTier:
    """The tasks beside the answers in ``folder``; at most a quarter of what the answers may take is added to it.

    Nothing is opened or made before the first use.

    Raises:
        ConfigError: the secret is empty.
    """
    return TaskTier(
        folder / TASKS_FILE,
        signer=EntrySigner(
            (lambda: kept_secret(folder)) if secret is None else given_secret(secret)
        ),
        max_bytes=max(max_answer_bytes // _SHARE_OF_ANSWERS, SMALLEST_BOUND_BYTES),
        keep_seconds=lifetimes.keep_seconds,
        use_integrity_check=use_integrity_check,
    )
