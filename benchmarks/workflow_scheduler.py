"""The scheduler of workflows alone: graphs of steps that do nothing, by shape and size.

Run as ``benchmarks/run workflow_scheduler [--json] [--rounds N]``. Microseconds of CPU a node, on the thread of the event
loop. What a graph costs with calls over HTTP is measured by ``workflow``.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from contest import clean_environment
from reporting import OUR_PYTHON, RIVALS_PYTHON, Goal, Report, Row, arguments, progress
from workflow_scheduler_worker import CONTENDERS, SHAPES

HERE = Path(__file__).resolve().parent
SIZES = (100, 1_000, 10_000)
RUNS = 3
# Larger ones take minutes.
LANGGRAPH_SIZES = (100,)
# Each of its answers waits for the disk.
JOURNAL_SIZES = (100, 1_000)

WORKLOAD = (
    "Steps that do nothing and end at once. Layered: rows of ten, each step behind two of the row before. The first run "
    "of each process warms up and is not counted.\nscheduler: the graph alone. steps: with the call of each step put "
    "together. steps and journal: with each answer on disk before the next step; the journal's own thread is not "
    "counted, it does not hold the loop up."
)


def _sizes(contender: str) -> tuple[int, ...]:
    if contender == "LangGraph":
        return LANGGRAPH_SIZES
    return JOURNAL_SIZES if contender.endswith("journal") else SIZES


def _measure(contender: str, shape: str, nodes: int, folder: Path) -> dict[str, list[float]]:
    python = RIVALS_PYTHON if contender == "LangGraph" else OUR_PYTHON
    done = subprocess.run(
        [
            *(str(python), str(HERE / "workflow_scheduler_worker.py")),
            *(contender, shape, str(nodes), str(RUNS)),
        ],
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{contender} {shape} {nodes} failed:\n{done.stderr[-2000:]}")
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def main() -> None:
    options = arguments(__doc__ or "", rounds=2)
    samples: dict[tuple[str, str], list[float]] = {}
    with TemporaryDirectory() as name:
        for number in range(1, options.rounds + 1):
            for contender in CONTENDERS:
                progress(f"round {number}/{options.rounds}: {contender}")
                for shape in SHAPES:
                    for nodes in _sizes(contender):
                        found = _measure(contender, shape, nodes, Path(name))
                        for kind, values in found.items():
                            samples.setdefault(
                                (contender, f"{kind}: {shape} of {nodes:,}"), []
                            ).extend(values)
    rows = [
        Row(contender=contender, measure=measure, unit="µs/node", samples=tuple(values))
        for (contender, measure), values in samples.items()
    ]
    Report(
        name="workflow_scheduler",
        workload=WORKLOAD,
        rows=tuple(rows),
        goals=tuple(_goals({(row.contender, row.measure): row.median for row in rows})),
        reference="claude-force, scheduler",
    ).print(as_json=options.json)


def _goals(medians: dict[tuple[str, str], float]) -> list[Goal]:
    alone, journaled = "claude-force, scheduler", "claude-force, steps and journal"
    runs = {
        measure: value
        for (contender, measure), value in medians.items()
        if contender == alone and measure.startswith("run")
    }
    builds = [
        value
        for (contender, measure), value in medians.items()
        if contender == alone and measure.startswith("build") and measure[-3:] != "100"
    ]
    on_journal = [
        value - medians["claude-force, steps", measure]
        for (contender, measure), value in medians.items()
        if contender == journaled and measure.startswith("run")
    ]
    flat = max(
        runs[f"run: {shape} of {SIZES[-1]:,}"] / runs[f"run: {shape} of {SIZES[0]:,}"]
        for shape in SHAPES
    )
    return [
        Goal(claim="the dearest run, µs a node", measured=max(runs.values()), at_most=10),
        Goal(claim="10,000 nodes ÷ 100 nodes, per node", measured=flat, at_most=1.2),
        Goal(
            claim="the dearest build of 1,000 and more, µs a node", measured=max(builds), at_most=5
        ),
        Goal(claim="the journal, µs a step on the loop", measured=max(on_journal), at_most=60),
    ]


if __name__ == "__main__":
    main()
