"""What one process has seen of a prefix, the next one goes by; each run here is one that knows nothing of its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import KEY

from claude_force.provider.prompt_cache import prefix_store
from claude_force.provider.prompt_cache.outlook import GapCounts
from claude_force.provider.prompt_cache.prefix_store import PrefixStore, seen_in
from claude_force.provider.prompt_cache.prefixes import PrefixKey
from claude_force.provider.prompt_cache.shared_history import SharedHistory
from claude_force.provider.prompt_cache.sightings import Seen, Sighting, with_sighting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cli, MakeAsync, Project

    from claude_force.simulator import SimulatorThread

SHARED = "word " * 4560
# `claude-force` in a process of its own whose wall clock is so many seconds ahead.
AHEAD = """
import sys, time, time_machine
from claude_force.cli.main import run
from claude_force.provider.prompt_cache.shared_history import SharedHistory
SharedHistory.__init__.__kwdefaults__["patience_seconds"] = 10.0
with time_machine.travel(float(sys.argv[1]), tick=True):
    sys.exit(run(sys.argv[2:]))
"""


@pytest.fixture
def told() -> list[str]:
    """What each command of `ask` has said on stderr."""
    return []


@pytest.fixture
def ask(cli: Cli, project: Project, told: list[str]) -> Callable[..., float]:
    """One call over the shared file by a command; the dollars that it cost."""
    project.write("conventions.md", SHARED)

    def call(task: str, *options: str) -> float:
        asked = cli(*_ask(task), *options)
        assert asked.code == 0, asked.err
        told.append(asked.err)
        return float(asked.json["cost_usd"])

    return call


def _ask(task: str) -> tuple[str, ...]:
    return (
        *("run", "agent", "alpha", "--task", task, "-f", "conventions.md"),
        *("--json", "--no-cache"),
    )


def lifetimes(simulator: SimulatorThread) -> list[str | None]:
    """The lifetime of the mark on the shared file, request by request."""
    found = []
    for request in simulator.requests:
        blocks = [*request.body.get("system", ()), *request.body["messages"][0]["content"]]
        controls = [block["cache_control"] for block in blocks if "cache_control" in block]
        found.append(controls[0].get("ttl", "5m") if controls else None)
    return found


def database(project: Project) -> Path:
    return project.home / "state" / "claude-force" / "prompt_cache.db"


def rows(project: Project) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(database(project))) as opened:
        opened.row_factory = sqlite3.Row
        return [dict(row) for row in opened.execute("SELECT * FROM prefixes ORDER BY asked_at")]


def test_commands_twenty_minutes_apart_keep_their_prefix_for_an_hour_once_it_is_known_to_pay(
    ask: Callable[..., float],
    told: list[str],
    simulator: SimulatorThread,
    project: Project,
    later: Callable[[float], None],
) -> None:
    costs = {}
    for setting in ("never", "auto"):
        project.config(prompt_cache={"one_hour": setting})
        simulator.reset()
        costs[setting] = 0.0
        for number in range(8):
            costs[setting] += ask(f"Question {number}.")
            later(1200)
        if setting == "never":
            assert lifetimes(simulator) == [None] * 8
            # The gaps are known now to whoever may use an hour.
            database(project).unlink()
    assert lifetimes(simulator) == [None, None, *["1h"] * 6]
    usage = simulator.stats.usage
    assert usage.cache_write_5m_tokens == 0
    assert usage.cache_read_tokens == 5 * usage.cache_write_1h_tokens > 5 * 6000
    # Of eight prefixes two are plain, one costs twice and five a twentieth: 4.25 in the place of 8.
    assert costs["auto"] < 0.6 * costs["never"]
    assert ["not read yet" in one for one in told[-6:-4]] == [True, False]
    assert "The prompt cache saved $" in told[-1]


@pytest.mark.parametrize(
    ("gap_seconds", "expected"),
    [(120, [None, "5m", "5m", "5m", "5m"]), (5400, [None] * 5)],
    ids=["minutes", "longer than an hour"],
)
def test_gaps_that_an_hour_does_not_pay_for_get_none(
    ask: Callable[..., float],
    simulator: SimulatorThread,
    later: Callable[[float], None],
    gap_seconds: float,
    expected: list[str | None],
) -> None:
    for number in range(5):
        ask(f"Question {number}.")
        later(gap_seconds)
    assert lifetimes(simulator) == expected
    assert simulator.stats.usage.cache_write_1h_tokens == 0


def test_maps_twenty_minutes_apart_count_the_gaps_between_them_and_not_those_within(
    cli: Cli, simulator: SimulatorThread, project: Project, later: Callable[[float], None]
) -> None:
    project.agent("alpha", SHARED)
    for run in range(4):
        simulator.reset()
        project.items(*({"task": f"Question {run} {number}"} for number in range(5)))
        out = f"out{run}.jsonl"
        assert cli("run", "map", "alpha", "--items", "items.jsonl", "--out", out).code == 0
        # All that is in the database of more than one call: the definition.
        (definition,) = [row for row in rows(project) if row["asked_at"] and row["saved"] > 1]
        assert (definition["within_5m"], definition["within_1h"]) == (0, run)
        expected = "5m" if run < 2 else "1h"
        assert lifetimes(simulator) == [expected] * 5
        later(1200)


def test_processes_go_by_each_others_gaps(project: Project, simulator: SimulatorThread) -> None:
    project.write("conventions.md", SHARED)
    environment = {**os.environ, "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": simulator.base_url}
    now = time.time()
    for number in range(3):
        at = str(now + number * 1200)
        subprocess.run(
            [sys.executable, "-c", AHEAD, at, *_ask(f"Question {number}.")],
            env=environment,
            check=True,
            capture_output=True,
        )
    assert lifetimes(simulator) == [None, None, "1h"]


def test_processes_at_the_same_time_lose_nothing_that_another_one_has_seen(
    project: Project, simulator: SimulatorThread
) -> None:
    project.write("conventions.md", SHARED)
    environment = {**os.environ, "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": simulator.base_url}
    now = str(time.time())
    running = [
        subprocess.Popen(
            [sys.executable, "-c", AHEAD, now, *_ask(f"Question {number}.")],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(4)
    ]
    assert [process.wait(60) for process in running] == [0] * 4
    assert [row["within_5m"] for row in rows(project) if row["within_5m"]] == [3]


def test_digests_times_and_counts_are_kept_and_nothing_else(
    ask: Callable[..., float], project: Project
) -> None:
    ask("A secret question.", "--simulate")
    assert not database(project).exists()
    simulated = database(project).parent / "simulated" / "prompt_cache.db"
    assert simulated.exists()
    ask("A secret question.")
    assert database(project).stat().st_mode & 0o777 == 0o600
    # The file, and the whole prompt.
    assert [len(row["key"]) for row in rows(project)] == [16, 16]
    assert {type(value) for row in rows(project) for value in row.values()} == {
        bytes,
        float,
        int,
        str,
    }
    kept = b"".join(path.read_bytes() for path in database(project).parent.glob("prompt_cache.db*"))
    for text in (b"secret", b"conventions", b"word", b"alpha"):
        assert text not in kept


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database, and longer than a header of one hundred bytes " * 9)


def _folder(path: Path) -> None:
    path.mkdir()


def _newer(path: Path) -> None:
    PrefixStore(path, "").__exit__(None, None, None)
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("broken", [_garbage, _folder, _newer])
def test_a_store_that_cannot_be_used_costs_no_call_and_is_told_of_once(
    make_force: MakeAsync,
    simulator: SimulatorThread,
    project: Project,
    caplog: pytest.LogCaptureFixture,
    broken: Callable[[Path], None],
) -> None:
    database(project).parent.mkdir(parents=True)
    broken(database(project))

    async def main() -> None:
        async with make_force(enable_cache=False) as force:
            for _ in range(3):
                await force.run_agent("alpha", SHARED)

    asyncio.run(main())
    # It goes on by what it has seen itself.
    assert lifetimes(simulator) == [None, "5m", "5m"]
    told = [one for one in caplog.records if "this process only" in one.message]
    assert len(told) == 1
    assert "prompt_cache.db" in told[0].message


def test_a_store_that_another_process_holds_makes_nobody_wait(
    project: Project, simulator: SimulatorThread, make_force: MakeAsync
) -> None:
    database(project).parent.mkdir(parents=True)
    PrefixStore(database(project), "").__exit__(None, None, None)

    async def main() -> float:
        async with make_force(enable_cache=False) as force:
            before = time.monotonic()
            # Reads go on beside the one who writes, and writing waits in a thread of its own.
            for _ in range(2):
                await force.run_agent("alpha", SHARED)
            return time.monotonic() - before

    with closing(sqlite3.connect(database(project), isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        asyncio.run(main())
    assert lifetimes(simulator) == [None, "5m"]


def test_a_double_leaves_nothing_behind(project: Project) -> None:
    from claude_force import AsyncAgentOrchestrator
    from claude_force.testing import ScriptedClient

    async def main() -> None:
        async with AsyncAgentOrchestrator(client=ScriptedClient()) as force:
            await force.run_agent("alpha", SHARED)

    asyncio.run(main())
    assert not database(project).exists()


def test_rows_are_bounded_and_what_was_asked_once_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_store, "MOST_ROWS", 100)
    again = PrefixKey(b"again")
    with PrefixStore(tmp_path / "p.db", "here") as store:
        store.write((Sighting(key=again, at=at, asked=True) for at in (1.0, 2.0)), now=2.0)
        for first in range(0, 300, 60):
            keys = (PrefixKey(b"%d" % number) for number in range(first, first + 60))
            store.write((Sighting(key=key, at=3.0, asked=True) for key in keys), now=3.0)
        with closing(sqlite3.connect(tmp_path / "p.db")) as opened:
            (count,) = opened.execute("SELECT COUNT(*) FROM prefixes").fetchone()
        assert count <= 100
        known = {key: seen_in(row) for key, row in store.read(now=9e3).items()}
        assert known == {again: Seen(asked_at=2.0, gaps=GapCounts(1))}
        # What nobody asks for a week goes too, once room is needed.
        store.write(
            (Sighting(key=PrefixKey(b"n%d" % number), at=9e5, asked=True) for number in range(120)),
            now=9e5,
        )
        assert again not in store.read(now=9e5)
    with PrefixStore(tmp_path / "p.db", "there") as other:
        assert other.read(now=0.0) == {}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_tells_and_hears_on_its_own(tmp_path: Path) -> None:
    key = PrefixKey(b"k" * 16)

    async def see(history: SharedHistory, *, close: bool = False) -> int:
        await history.ready()
        history.asked(key, time.monotonic(), expected=False)
        if close:
            await history.aclose()
        seen = history.find(key)
        return -1 if seen is None else seen.gaps.within_5m

    history = SharedHistory(tmp_path / "p.db", origin="here")
    asyncio.run(see(history))
    asyncio.run(see(history))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(see(history, close=True))
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    asyncio.run(see(history, close=True))
    with PrefixStore(tmp_path / "p.db", "here") as store:
        assert seen_in(store.read(now=time.time())[key]).gaps == GapCounts(within_5m=3)


@given(st.lists(st.tuples(st.sampled_from([20.0, 1200.0, 7200.0]), st.floats(-2, 1)), max_size=30))
def test_what_many_tell_is_what_one_would_have_counted(told: list[tuple[float, float]]) -> None:
    at, gaps, saved, seen = 0.0, GapCounts(), 0.0, None
    seen = with_sighting(None, Sighting(key=PrefixKey(b""), at=at, asked=True))
    for gap, more in told:
        at += gap
        gaps, saved = gaps.after(gap), saved + more
        seen = with_sighting(seen, Sighting(key=PrefixKey(b""), at=at, asked=True))
        seen = with_sighting(
            seen, Sighting(key=PrefixKey(b""), at=at, saved=more, warm_until=at + 300)
        )
    assert (seen.asked_at, seen.gaps) == (at, gaps)
    assert seen.saved == pytest.approx(saved)
    assert seen.warm_until == (at + 300 if told else 0.0)
