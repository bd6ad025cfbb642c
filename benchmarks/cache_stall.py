"""How long the response cache holds an event loop up, with a full store and another process writing into it.

Run as ``.venv/bin/python benchmarks/cache_stall.py [--json] [--entries 100000] [--seconds 4] [--rounds 3]``.

A ticker on the loop sleeps for a millisecond and notes by how much it wakes too late, while callers run agents
through the public API. The model is a script that answers at once, so what is measured is the loop and the cache:

    idle            nothing but the ticker
    without cache   the same calls, enable_cache=False
    memory hits     the same few questions again and again
    disk hits       questions that an earlier process asked, each for the first time in this one
    sets            new questions, each stored
    mixed           all three in turns

All of them run beside the writer and in turns, so that a busy machine delays all. A stall is the delay beyond what
``idle`` shows at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from claude_force import AsyncAgentOrchestrator

GOAL_MS = 5.0
TICK_SECONDS = 0.001
CALLERS = 4
# Between two calls of a caller: about a thousand calls a second altogether.
PAUSE_SECONDS = 0.004
ANSWER = "An answer of four kilobytes. " * 140
AGENT = "---\nname: alpha\ndescription: Answers\n---\nYou answer.\n"
SECRET = "a secret of the benchmark"
WRITES_A_SECOND = 200
MAX_MB = 2048


def entries(numbers: Iterator[int], *, size: int) -> Iterator[Any]:
    from claude_force.cache.entries import CacheEntry
    from claude_force.cache.fingerprint import CacheKey

    for number in numbers:
        yield CacheEntry(
            key=CacheKey(f"{number:032x}"[::-1]),
            agent_name="other",
            model="claude-sonnet-5-5",
            created_at=time.time(),
            body=os.urandom(size),
        )


def open_answers(folder: Path) -> Any:
    from claude_force.cache.policy import Lifetimes
    from claude_force.cache.store import open_store

    return open_store(
        folder,
        lifetimes=Lifetimes(ttl_seconds=86_400),
        max_bytes=MAX_MB * 1_048_576,
        secret=SECRET,
    )


def fill(folder: Path, number_of_entries: int) -> None:
    store = open_answers(folder)
    for done, entry in enumerate(entries(iter(range(number_of_entries)), size=1000), 1):
        store.put(entry)
        if done % 5000 == 0:
            store.flush()
    store.close()


def write_forever(folder: Path) -> None:
    """The process beside: entries of 4 and of 50 KB in turns until stdin ends."""
    store = open_answers(folder)
    print("writing", flush=True)
    for number in count(10**9):
        for entry in entries(iter([number]), size=50_000 if number % 10 == 0 else 4000):
            store.put(entry)
        time.sleep(1 / WRITES_A_SECOND)


def make_force(folder: Path, *, enable_cache: bool = True) -> AsyncAgentOrchestrator:
    from claude_force import AsyncAgentOrchestrator
    from claude_force.testing import ScriptedClient

    return AsyncAgentOrchestrator(
        client=ScriptedClient(default=ANSWER),
        cache_origin="script",
        cache_dir=folder,
        cache_secret=SECRET,
        config_path=folder / "claude.json",
        agents_dir=folder / "agents",
        enable_cache=enable_cache,
    )


async def ask_before(folder: Path, tasks: list[str]) -> None:
    async with make_force(folder) as force:
        await force.execute_multiple([("alpha", task) for task in tasks])


async def lateness_ms(
    force: AsyncAgentOrchestrator | None, tasks: Iterator[str], seconds: float
) -> tuple[list[float], Counter[str]]:
    """By how much each tick was late, and where the answers of the calls made meanwhile came from."""
    calls: Counter[str] = Counter()
    late = []
    ends_at = time.perf_counter() + seconds

    async def ask() -> None:
        assert force is not None
        while time.perf_counter() < ends_at:
            task = next(tasks, None)
            if task is None:
                return
            result = await force.run_agent("alpha", task)
            calls[result.cached.tier if result.cached else "asked"] += 1
            await asyncio.sleep(PAUSE_SECONDS)

    callers = [asyncio.create_task(ask()) for _ in range(CALLERS if force else 0)]
    while time.perf_counter() < ends_at:
        before = time.perf_counter()
        await asyncio.sleep(TICK_SECONDS)
        late.append((time.perf_counter() - before - TICK_SECONDS) * 1000)
    await asyncio.gather(*callers)
    return late, calls


def mixed(*kinds: Iterator[str]) -> Iterator[str]:
    while True:
        for kind in kinds:
            yield next(kind)


def measure(folder: Path, seconds: float, rounds: int, old_tasks: list[str]) -> dict[str, Any]:
    new = (f"Never asked before {number}" for number in count())
    often = (f"Asked often {number % 5}" for number in count())
    old = iter(old_tasks)
    contenders: dict[str, tuple[bool | None, Callable[[], Iterator[str]]]] = {
        "idle": (None, lambda: often),
        "without cache": (False, lambda: often),
        "memory hits": (True, lambda: often),
        "disk hits": (True, lambda: old),
        "sets": (True, lambda: new),
        "mixed": (True, lambda: mixed(often, old, new)),
    }
    late: dict[str, list[float]] = {name: [] for name in contenders}
    made: dict[str, Counter[str]] = {name: Counter() for name in contenders}

    async def turn(name: str, enabled: bool | None, tasks: Iterator[str]) -> None:
        if enabled is None:
            ticks, calls = await lateness_ms(None, tasks, seconds)
        else:
            async with make_force(folder, enable_cache=enabled) as force:
                # What is read and imported once is not what is measured.
                await force.run_agent("alpha", "Asked often 0")
                ticks, calls = await lateness_ms(force, tasks, seconds)
        late[name] += ticks
        made[name] += calls

    for _ in range(rounds):
        for name, (enabled, tasks) in contenders.items():
            asyncio.run(turn(name, enabled, tasks()))
    return {
        name: {
            "calls": dict(made[name]),
            "ticks": len(samples),
            "median_ms": statistics.median(samples),
            "p90_ms": quantile(samples, 0.9),
            "p99_ms": quantile(samples, 0.99),
            "p999_ms": quantile(samples, 0.999),
            "max_ms": max(samples),
            "over_goal": sum(sample > GOAL_MS for sample in samples),
        }
        for name, samples in late.items()
    }


def quantile(samples: list[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def facts(number_of_entries: int) -> dict[str, object]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "entries": number_of_entries,
        "writer": f"{WRITES_A_SECOND} entries a second of 4 KB, every tenth of 50 KB",
        "cpus": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "sqlite": sqlite3.sqlite_version,
        "commit": commit.stdout.strip() or "unknown",
    }


def print_table(machine: dict[str, object], rows: dict[str, Any]) -> None:
    print(json.dumps(machine))
    print(f"\nmilliseconds by which a tick of the event loop is late   [goal: < {GOAL_MS:g}]")
    for name, row in rows.items():
        print(
            f"  {name:<14} median {row['median_ms']:6.2f}  p90 {row['p90_ms']:6.2f}  p99 {row['p99_ms']:6.2f}"
            f"  p99.9 {row['p999_ms']:6.2f}  max {row['max_ms']:6.2f}"
            f"  over goal {row['over_goal']:>4} of {row['ticks']:,}  {row['calls']}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--write-into", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write_into:
        write_forever(Path(arguments.write_into))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "agents").mkdir()
        (folder / "agents" / "alpha.md").write_text(AGENT)
        (folder / "claude.json").write_text(json.dumps({"cache": {"max_size_mb": MAX_MB}}))
        # As many as can be asked for at most, so that a turn of disk hits does not run dry.
        number_of_old = int(CALLERS / PAUSE_SECONDS * arguments.seconds * arguments.rounds * 4 / 3)
        old_tasks = [f"Asked before {number}" for number in range(number_of_old)]
        asyncio.run(ask_before(folder, old_tasks))
        fill(folder, max(arguments.entries - number_of_old, 0))
        command = [sys.executable, __file__, "--write-into", str(folder)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        try:
            writer.stdout.readline()
            rows = measure(folder, arguments.seconds, arguments.rounds, old_tasks)
        finally:
            writer.kill()
            writer.wait()
        machine = facts(arguments.entries)
    if arguments.json:
        print(json.dumps({"machine": machine, "rows": rows}, indent=2))
    else:
        print_table(machine, rows)


if __name__ == "__main__":
    main()
