"""A store in a temporary folder, and experiences to put into it."""

from __future__ import annotations

from contextlib import closing
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from claude_force.memory.records import Experience
from claude_force.memory.schema import SCHEMA
from claude_force.memory.store import MemoryStore
from claude_force.memory.writing import RecordWriter
from claude_force.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_795_435_200.0
DAY = 86_400.0
PROJECT = "/projects/shop"


def experience(task: str, answer: str = "It was done.", **fields: Any) -> Experience:
    """Of agent `writer` in PROJECT, now; of equal tasks with equal keys."""
    made: dict[str, Any] = {
        "project": PROJECT,
        "agent_name": "writer",
        "task": task,
        "answer": answer,
        "model": "claude-sonnet-5-5",
        "key": sha256(task.encode()).hexdigest()[:32],
        "recorded_at": NOW,
    }
    return Experience(**{**made, **fields})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "memory.db"


class Remember(Protocol):
    def __call__(self, *experiences: Experience) -> int: ...


@pytest.fixture
def remember(path: Path) -> Remember:
    """Writes as the recorder does, through a connection of its own each time."""

    def write(*experiences: Experience) -> int:
        with closing(open_database(path, SCHEMA)) as connection:
            return RecordWriter(connection).write(experiences)

    return write


@pytest.fixture
def store(path: Path) -> Iterator[MemoryStore]:
    with MemoryStore(path, project=PROJECT, wall_clock=lambda: NOW) as opened:
        yield opened
