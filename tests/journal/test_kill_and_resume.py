"""A run that is killed at any point goes on where it was: nothing that was answered is asked again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from claude_force.simulator import Latency, Scenario, SimulatorThread
from claude_force.workflows.run_store import RunStore

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

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
        folders: list[Path] = []
        kills = 0

        @settings(max_examples=POINTS, phases=[Phase.generate], deadline=None, database=None)
        @seed(20261123)
        @given(
            after=st.integers(1, len(wanted) - 1),
            delay_seconds=st.floats(0, 0.01),
            share=st.floats(0, 1),
        )
        def killed_twice(after: int, delay_seconds: float, share: float) -> None:
            """Killed after so many requests, resumed, killed once more in what is left, and resumed to its end."""
            nonlocal kills
            folder = tmp_path / f"point-{len(folders)}"
            folders.append(folder)
            sent: Counter[str] = Counter()
            for resume in (False, True):
                left = len(wanted) - len(kept_of(folder)) if resume else len(wanted)
                quick.reset()
                pid = worker.start(folder, resume=resume)
                wait_for_requests(quick, round(share * (left - 1)) if resume else after)
                time.sleep(delay_seconds)
                os.kill(pid, signal.SIGKILL)
                kills += worker.wait() == -signal.SIGKILL
                sent += bodies(quick)
                assert_in_flight(sent, kept_of(folder), kills=1 + resume)
            kept = kept_of(folder)
            quick.reset()
            worker.start(folder, resume=True)
            assert worker.wait() == 0
            last = bodies(quick)
            assert read(folder) == whole
            # What was answered and kept is not sent again; what was on its way at a kill is.
            assert sum(last.values()) == len(last) == len(wanted) - len(kept)
            assert (sent | last).keys() == wanted.keys()
            assert_in_flight(sent + last, wanted.keys(), kills=2)
            assert RunStore(folder).load(RunStore(folder).find("last")).state == "succeeded"

        killed_twice()
        assert len(folders) >= POINTS
        # A second kill may come too late; the first one never does.
        assert kills > POINTS
    finally:
        worker.close()


def wait_for_requests(simulator: SimulatorThread, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(simulator.requests) < count and time.monotonic() < deadline:
        time.sleep(0.001)


def kept_of(folder: Path) -> set[str]:
    """Keys of the answers that a run has on disk."""
    record = RunStore(folder).load(RunStore(folder).find("last"))
    return {call.key for step in record.steps for call in step.calls if call.text is not None}


def assert_in_flight(sent: Counter[str], kept: Collection[str], *, kills: int) -> None:
    """Beyond what is kept, no more was paid than what was on its way at a kill: sent, or answered and not yet on disk."""
    assert 0 <= sum(sent.values()) - len(kept) <= kills * 2 * MAX_CONCURRENT
