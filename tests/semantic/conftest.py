"""Calls of an agent that the semantic cache is switched on for, and a look at what they leave behind."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import time_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import MakeAsync

    from claude_force import AgentResult
    from claude_force.simulator import SimulatorThread

QUESTION = "How do I reset my password?"
SAME = "How can I reset my password?"
OTHER = "How do I reset my username?"


@dataclass(frozen=True)
class TaskFile:
    """The database of tasks, as somebody with an editor sees it."""

    folder: Path

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        path = self.folder / "semantic.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(statement, values).fetchall()

    def count(self) -> int:
        if not (self.folder / "semantic.db").exists():
            return 0
        return len(self.execute("SELECT id FROM entries"))

    def records(self) -> list[bytes]:
        return [record for (record,) in self.execute("SELECT record FROM bodies ORDER BY id")]


class Ask(Protocol):
    def __call__(
        self,
        task: str,
        agent: str = "alpha",
        *,
        force: dict[str, Any] | None = None,
        **call: Any,
    ) -> AgentResult: ...


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "answers"


@pytest.fixture
def tasks(cache_dir: Path) -> TaskFile:
    return TaskFile(cache_dir)


@pytest.fixture
def ask(make_force: MakeAsync, cache_dir: Path) -> Ask:
    """One call by an orchestrator of its own, as by a process of its own, with the semantic cache on for `alpha`."""

    def call(
        task: str,
        agent: str = "alpha",
        *,
        force: dict[str, Any] | None = None,
        **call: Any,
    ) -> AgentResult:
        async def main() -> AgentResult:
            options = {"cache_dir": cache_dir, "semantic_cache": {"alpha": None}, **(force or {})}
            async with make_force(**options) as orchestrator:
                return await orchestrator.run_agent(agent, task, **call)

        return asyncio.run(main())

    return call


@pytest.fixture
def paid(simulator: SimulatorThread) -> Callable[[], int]:
    """How many requests reached the API."""
    return lambda: simulator.stats.requests


@pytest.fixture
def later() -> Iterator[Callable[[float], None]]:
    """Moves the wall clock on by seconds; clocks that measure durations go on as they are."""
    with time_machine.travel("2026-11-25T12:00:00Z", tick=True) as clock:
        yield clock.shift
