"""What a cache hit is worth: beside the same call to the simulator, and as a whole process beside a bare command.

Run as ``.venv/bin/python benchmarks/hits.py [--json] [--rounds N]``. Calls go to the simulator's scenario ``calm``:
a lognormal latency with a median of 0.25 s to the first event, and some more for the text. That latency stands for a
model that answers quickly; a real one takes seconds, so the ratio says little and the distribution of the hit says
what matters. Each round asks one new task, then the same again from memory and, by another orchestrator, from disk.
Then the command line answers a task that is stored, as a whole process, in turns with a bare click program.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from claude_force import AsyncAgentOrchestrator
from claude_force.simulator import SimulatorThread
from programs import CLAUDE_FORCE, write_programs
from reporting import OUR_PYTHON, Goal, Report, Row, arguments, progress, quantile

AGENT = "---\nname: reviewer\ndescription: reviews\n---\nYou review what you are given.\n"
TASK = "Review this function. " * 90
CLI_ROUNDS = 10


async def calls(base_url: str, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of calls, hits from memory and hits from disk."""
    found: dict[str, list[float]] = {"call": [], "memory": [], "disk": []}
    shared = {"api_key": "x", "base_url": base_url, "agents_dir": folder / "agents"}
    for number in range(rounds):
        progress(f"round {number + 1}/{rounds}")
        for name in ("first", "second"):
            async with AsyncAgentOrchestrator(
                **shared, cache_dir=folder / "cache", state_dir=folder / "state"
            ) as force:
                for expected in ("call", "memory") if name == "first" else ("disk",):
                    began = time.perf_counter()
                    result = await force.run_agent("reviewer", f"{number}: {TASK}")
                    seconds = time.perf_counter() - began
                    tier = "call" if result.cached is None else result.cached.tier
                    assert tier == expected, (tier, expected)
                    found[expected].append(seconds)
    return found


def processes(base_url: str, folder: Path) -> dict[str, list[float]]:
    """Seconds of whole processes: the command line with a hit, and a bare click program's help."""
    environment = {
        **os.environ,
        "HOME": str(folder / "home"),
        "ANTHROPIC_API_KEY": "x",
        "ANTHROPIC_BASE_URL": base_url,
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    (folder / "home").mkdir(exist_ok=True)
    ours = [
        str(CLAUDE_FORCE),
        "run",
        "agent",
        "reviewer",
        "--task",
        TASK,
        "--agents",
        str(folder / "agents"),
    ]
    launcher, _ = write_programs(folder)
    programs = {
        "claude-force, a hit": ours,
        "bare click --help": [str(OUR_PYTHON), str(launcher), "--help"],
    }
    found: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(CLI_ROUNDS + 2):
        for name, command in programs.items():
            began = time.perf_counter()
            subprocess.run(command, env=environment, check=True, capture_output=True)
            if number > 1:
                found[name].append(time.perf_counter() - began)
    return found


def _row(contender: str, measure: str, seconds: list[float]) -> Row:
    samples = tuple(1000 * value for value in seconds)
    return Row(contender=contender, measure=measure, unit="ms", samples=samples)


def main() -> None:
    options = arguments(__doc__ or "", rounds=20)
    with TemporaryDirectory() as name, SimulatorThread(scenario="calm") as simulator:
        folder = Path(name)
        (folder / "agents").mkdir()
        (folder / "agents" / "reviewer.md").write_text(AGENT, encoding="utf-8")
        found = asyncio.run(calls(simulator.base_url, folder, options.rounds))
        started = processes(simulator.base_url, folder)
    names = {"call to the simulator": "call", "hit from disk": "disk", "hit from memory": "memory"}
    rows = [_row(contender, "start to answer", found[key]) for contender, key in names.items()] + [
        _row(name, "whole process", samples) for name, samples in started.items()
    ]
    ours, bare = (quantile(started[name], 0.5) for name in started)
    Report(
        name="hits",
        workload=(__doc__ or "").split("\n\n", 1)[1].strip(),
        rows=tuple(rows),
        goals=(
            Goal(claim="claude-force with a hit ÷ bare click", measured=ours / bare, at_most=2.5),
        ),
        reference="call to the simulator",
    ).print(as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
