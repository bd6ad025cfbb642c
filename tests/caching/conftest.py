"""Calls that go through the response cache, and a look at its file from outside."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import time_machine

from claude_force.cli.main import run as run_command
from claude_force.simulator import Latency, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import MakeAsync, MakeBlocking, Project

    from claude_force import AgentResult
    from claude_force.simulator import SimulatorThread

# Long enough for every equal call to be on its way before the first answer is there.
UNHURRIED = Scenario(
    latency=Latency(
        distribution="fixed", first_event_median_seconds=0.3, output_tokens_per_second=1e9
    ),
)


@dataclass(frozen=True)
class AnswerFile:
    """The database of a cache folder, as somebody with an editor sees it."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "responses.db"

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement, values).fetchall()

    def records(self) -> list[bytes]:
        """The signed records, the oldest first."""
        return [record for (record,) in self.execute("SELECT record FROM bodies ORDER BY id")]

    def replace(self, index: int, record: bytes) -> None:
        """Put other bytes into the place of a record."""
        rows = self.execute("SELECT id FROM bodies ORDER BY id")
        self.execute("UPDATE bodies SET record = ? WHERE id = ?", record, rows[index][0])

    def count(self) -> int:
        return len(self.records()) if self.path.exists() else 0


class Ask(Protocol):
    def __call__(
        self,
        agent: str = "alpha",
        task: str = "Look at this",
        *,
        force: dict[str, Any] | None = None,
        **call: Any,
    ) -> AgentResult: ...


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "answers"


@pytest.fixture
def answers(cache_dir: Path) -> AnswerFile:
    return AnswerFile(cache_dir)


@pytest.fixture
def ask(make_force: MakeAsync, cache_dir: Path) -> Ask:
    """One call by an orchestrator of its own, which finds on disk what others left there and nothing in memory."""

    def call(
        agent: str = "alpha",
        task: str = "Look at this",
        *,
        force: dict[str, Any] | None = None,
        **call: Any,
    ) -> AgentResult:
        async def main() -> AgentResult:
            async with make_force(**{"cache_dir": cache_dir, **(force or {})}) as orchestrator:
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


# ---- the same call through every door


@dataclass(frozen=True)
class Told:
    """What a user sees of one answer."""

    text: str
    tier: str | None
    stale: bool
    age_seconds: float | None
    saved_usd: str | None


def _told(result: AgentResult) -> Told:
    hit = result.cached
    if hit is None:
        return Told(result.text, None, stale=False, age_seconds=None, saved_usd=None)
    return Told(result.text, hit.tier, hit.stale, hit.age_seconds, str(hit.saved_usd))


class Door(Protocol):
    """A fresh start of the program that asks one agent, with the settings of the project and the environment."""

    def __call__(self, agent: str = "alpha", task: str = "Look at this") -> Told: ...


@pytest.fixture(params=["async", "blocking", "command"])
def door(  # noqa: PLR0917 - filled in by name
    request: pytest.FixtureRequest,
    make_force: MakeAsync,
    make_blocking: MakeBlocking,
    simulator: SimulatorThread,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Door:
    def by_async(agent: str = "alpha", task: str = "Look at this") -> Told:
        async def main() -> AgentResult:
            async with make_force() as force:
                return await force.run_agent(agent, task)

        return _told(asyncio.run(main()))

    def by_blocking(agent: str = "alpha", task: str = "Look at this") -> Told:
        with make_blocking() as force:
            return _told(force.run_agent(agent, task))

    def by_command(agent: str = "alpha", task: str = "Look at this") -> Told:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-the-tests")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        capsys.readouterr()
        code = run_command(["run", "agent", agent, "--task", task, "--json"])
        out = capsys.readouterr().out
        assert code == 0, out
        told = json.loads(out)
        hit = told["cached"]
        if hit is None:
            return Told(told["text"], None, stale=False, age_seconds=None, saved_usd=None)
        return Told(told["text"], hit["tier"], hit["stale"], hit["age_seconds"], hit["saved_usd"])

    return {"async": by_async, "blocking": by_blocking, "command": by_command}[request.param]


@pytest.fixture
def user_answers(project: Project) -> AnswerFile:
    """What the program keeps when nobody names a folder."""
    return AnswerFile(project.home / "cache" / "claude-force" / "responses")


# ---- the same call in processes of their own

_CALLER = """
import asyncio, json, sys
from claude_force import AsyncAgentOrchestrator, ClaudeForceError
folder, base_url, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])

async def main():
    async with AsyncAgentOrchestrator(api_key="k", base_url=base_url, cache_dir=folder) as force:
        print("ready", flush=True)
        sys.stdin.read(1)
        results = await asyncio.gather(*[force.run_agent("alpha", "Look at this") for _ in range(calls)])
    print(json.dumps({
        "texts": sorted({result.text for result in results}),
        "paid": sum(result.cached is None for result in results),
    }))

asyncio.run(main())
"""


class Caller:
    """A process that waits for a word and then makes equal calls at once."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("g")
        self.process.stdin.flush()

    def ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def result(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        told: dict[str, Any] = json.loads(out)
        return told


class StartCaller(Protocol):
    def __call__(self, calls: int) -> Caller: ...


@pytest.fixture
def start_caller(
    project: Project, simulator: SimulatorThread, cache_dir: Path
) -> Iterator[StartCaller]:
    started: list[subprocess.Popen[str]] = []

    def start(calls: int) -> Caller:
        process = subprocess.Popen(
            [sys.executable, "-c", _CALLER, str(cache_dir), simulator.base_url, str(calls)],
            env={**os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return Caller(process)

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def unhurried() -> Scenario:
    """The API takes a third of a second for an answer."""
    return UNHURRIED


class Eventually(Protocol):
    async def __call__(self, condition: Callable[[], object]) -> None: ...


@pytest.fixture
def eventually() -> Eventually:
    """Waits on an event loop for something that happens elsewhere; fails after 30 seconds."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - what is waited for tells no loop
                await asyncio.sleep(0.005)

    return wait
