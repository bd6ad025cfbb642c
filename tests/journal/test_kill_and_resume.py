"""A run that is killed at any point goes on where it was: nothing that was answered is asked again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.simulator import Latency, Scenario, SimulatorThread
from claude_force.workflows.run_store import RunStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project

POINTS = 30
MAX_CONCURRENT = 6

# 40 steps in layers, of which one fans out over eight items, one over an upstream list, and one branch is not taken.
LAYERS = [[f"l{layer}s{number}" for number in range(6)] for layer in range(6)]
COLOURS = {
    "type": "object",
    "properties": {"colours": {"type": "array", "items": {"type": "string"}}},
    "required": ["colours"],
    "additionalProperties": False,
}


def forty_steps() -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    for layer, row in enumerate(LAYERS):
        for number, step in enumerate(row):
            before = LAYERS[layer - 1] if layer else []
            needs = [before[number], before[(number + 1) % 6]] if before else []
            steps.append({"id": step, "agent": "worker", "task": f"Do {step}.", "needs": needs})
    steps += [
        {
            "id": "each-number",
            "agent": "worker",
            "task": "Look at {{ item }}.",
            "for_each": [f"number {number}" for number in range(8)],
            "needs": ["l0s0"],
        },
        {
            "id": "colours",
            "agent": "worker",
            "task": "Name colours.",
            "output_schema": COLOURS,
            "needs": ["l1s1"],
        },
        {
            "id": "each-colour",
            "agent": "worker",
            "task": "Describe {{ item }}.",
            "for_each": {"step": "colours", "key": "colours"},
            "needs": ["colours"],
        },
        {
            "id": "not-taken",
            "agent": "worker",
            "task": "Never.",
            "when": "steps.colours.data.colours | length > 100",
            "needs": ["colours"],
        },
    ]
    return {"steps": steps}


@pytest.fixture(scope="module")
def quick() -> Iterator[SimulatorThread]:
    """Answers after some 15 ms, so that a kill finds calls under way."""
    latency = Latency(
        distribution="lognormal",
        first_event_median_seconds=0.015,
        output_tokens_per_second=20_000,
    )
    scenario = Scenario(name="quick", summary="some 15 ms", latency=latency)
    with SimulatorThread(scenario=scenario, keep_requests=2000) as simulator:
        yield simulator


class Worker:
    """The process that forks runs."""

    def __init__(self, base_url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forking_worker.py")), "forty", base_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, folder: Path, *, resume: bool = False) -> int:
        assert self._process.stdin is not None
        job = {"folder": str(folder), "resume": resume, "max_concurrent": MAX_CONCURRENT}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def wait(self) -> int:
        return int(self._line())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def bodies(simulator: SimulatorThread) -> Counter[str]:
    """How often each request was sent: every one of these is paid."""
    return Counter(json.dumps(request.body, sort_keys=True) for request in simulator.requests)


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def test_a_run_that_is_killed_at_any_of_thirty_points_pays_for_nothing_twice(
    project: Project, quick: SimulatorThread, tmp_path: Path
) -> None:
    project.agent("worker")
    project.config(workflows={"forty": forty_steps()})
    worker = Worker(quick.base_url)
    try:
        quick.reset()
        worker.start(tmp_path / "whole")
        assert worker.wait() == 0
        whole, wanted = read(tmp_path / "whole"), bodies(quick)
        assert set(wanted.values()) == {1}
        assert whole["states"]["not-taken"] == "skipped"
        draw = random.Random(20261123)  # noqa: S311 - which points are tried, no secret
        killed = 0
        for point in range(POINTS):
            folder = tmp_path / f"point-{point}"
            quick.reset()
            after = draw.randrange(1, len(wanted))
            pid = worker.start(folder)
            deadline = time.monotonic() + 30
            while len(quick.requests) < after and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(draw.random() * 0.01)
            os.kill(pid, signal.SIGKILL)
            killed += worker.wait() == -signal.SIGKILL
            first = bodies(quick)
            record = RunStore(folder).load(RunStore(folder).find("last"))
            kept = {
                call.key for step in record.steps for call in step.calls if call.text is not None
            }
            assert record.state == "interrupted"
            quick.reset()
            worker.start(folder, resume=True)
            assert worker.wait() == 0
            second = bodies(quick)
            assert read(folder) == whole
            assert first | second == wanted
            # What was answered and kept is not sent again; what was on its way at the kill is.
            assert sum(second.values()) == len(wanted) - len(kept)
            assert sum((first & second).values()) == sum(first.values()) - len(kept)
            # That is what was sent and not yet answered, and what was answered and not yet on disk.
            assert sum((first & second).values()) <= 2 * MAX_CONCURRENT
            assert RunStore(folder).load(record.run_id).state == "succeeded"
        assert killed == POINTS
    finally:
        worker.close()
