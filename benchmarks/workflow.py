"""Workflows against their critical path: graphs over HTTP, a skewed graph of timers, a real speed-up, a fresh process.

Run as ``benchmarks/run workflow [--json] [--rounds N]``. Every step of the graphs over HTTP is one request to a server
that answers after 200 ms, so the critical path is known. The scheduler alone is measured by ``workflow_scheduler``.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import contenders
import workflow_contenders
from contest import clean_environment, served
from programs import CLAUDE_FORCE
from reporting import OUR_PYTHON, RIVALS_PYTHON, Goal, Report, Row, arguments, progress, quantile
from server import SLOW_SECONDS

HERE = Path(__file__).resolve().parent
RUNS = 3

GRAPHS: dict[str, dict[str, tuple[str, ...]]] = {
    **{f"{wide} agents": {f"s{n}": () for n in range(wide)} for wide in (3, 10, 50)},
    "diamond": {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")},
}
LEVELS = {"3 agents": 1, "10 agents": 1, "50 agents": 1, "diamond": 3}

# Two chains that are slow at different depths. Each takes 400 ms; in waves, they take 760.
SKEWED = {
    f"{chain}{depth}": {"ms": ms, "needs": [f"{chain}{depth - 1}"] if depth else []}
    for chain, durations in (("a", (10, 190, 10, 190)), ("b", (190, 10, 190, 10)))
    for depth, ms in enumerate(durations)
}
SKEWED_SECONDS = 0.4

WORKLOAD = (
    f"Graphs over HTTP: every step is one request that is answered after {SLOW_SECONDS * 1000:.0f} ms; the first run of "
    "each graph warms up and is not counted.\nSkewed: timers of 10 and 190 ms in two chains whose longest path takes "
    "400 ms.\nSpeed-up: 12 steps in three layers on the simulator's scenario calm (lognormal latency), one after the "
    "other and in parallel; the limit is the sum of the steps' seconds ÷ their critical path.\nFresh process: the "
    "command line with 10 agents beside the command line with one, both over the same server."
)


def over_http(rounds: int, folder: Path) -> list[Row]:
    samples: dict[tuple[str, str], list[float]] = {}
    names = [*workflow_contenders.OURS, *workflow_contenders.RIVALS]
    with served() as (origin, _):
        for number in range(1, rounds + 1):
            for name in names:
                progress(f"round {number}/{rounds}: {name}")
                python = OUR_PYTHON if name in workflow_contenders.OURS else RIVALS_PYTHON
                done = _worker(
                    python, folder, (name, f"{origin}/slow", str(folder), str(RUNS)), GRAPHS
                )
                for graph, seconds in done.items():
                    samples.setdefault((name, graph), []).extend(seconds)
    return [
        Row(
            contender=name,
            measure=f"{graph}: over the critical path",
            unit="ms",
            samples=tuple((value - LEVELS[graph] * SLOW_SECONDS) * 1000 for value in values),
        )
        for (name, graph), values in samples.items()
    ]


def skewed(rounds: int, folder: Path) -> list[Row]:
    rows = []
    for name, python in (("claude-force", OUR_PYTHON), ("LangGraph", RIVALS_PYTHON)):
        progress(f"skewed graph: {name}")
        seconds = _worker(python, folder, ("timers", name, str(RUNS * rounds)), SKEWED)
        rows.append(
            Row(
                contender=name,
                measure="skewed: over the critical path",
                unit="ms",
                samples=tuple((value - SKEWED_SECONDS) * 1000 for value in seconds),
            )
        )
    return rows


def _worker(python: Path, folder: Path, options: tuple[str, ...], given: object) -> Any:
    done = subprocess.run(
        [str(python), str(HERE / "workflow_worker.py"), *options],
        input=json.dumps(given),
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{options} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


async def speed_up(rounds: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of the same 12 steps one after the other and in parallel, and the limit of each parallel run."""
    from claude_force import AsyncAgentOrchestrator
    from claude_force.simulator import SimulatorThread

    layers = [[f"l{layer}s{number}" for number in range(4)] for layer in range(3)]
    steps = [
        {
            "id": step,
            "agent": contenders.AGENT,
            "task": f"Part {step}.",
            "needs": layers[layer - 1][:2] if layer else [],
        }
        for layer, row in enumerate(layers)
        for step in row
    ]
    needs = {str(step["id"]): step["needs"] for step in steps}
    found: dict[str, list[float]] = {"sequential": [], "parallel": [], "limit": []}
    with SimulatorThread(scenario="calm", seed=1) as simulator:
        async with AsyncAgentOrchestrator(
            api_key="x",
            base_url=simulator.base_url,
            agents_dir=folder,
            enable_cache=False,
            state_dir=folder / "state",
        ) as force:
            for number in range(rounds):
                progress(f"speed-up: round {number + 1}/{rounds}")
                for name in ("sequential", "parallel"):
                    began = time.perf_counter()
                    result = await force.execute_workflow(
                        {"name": "twelve", "steps": steps},
                        task=f"{name} {number}",
                        sequential=name == "sequential",
                    )
                    found[name].append(time.perf_counter() - began)
                    alone = {
                        step_id: step.result.seconds
                        for step_id, step in result.steps.items()
                        if step.result is not None
                    }
                    if name == "parallel":
                        found["limit"].append(sum(alone.values()) / _critical(alone, needs))
    return found


def _critical(seconds: dict[str, float], needs: dict[str, Any]) -> float:
    """Seconds of the longest path; ``needs`` lists dependencies before dependants."""
    ends: dict[str, float] = {}
    for step, dependencies in needs.items():
        ends[step] = seconds[step] + max((ends[name] for name in dependencies), default=0.0)
    return max(ends.values())


def fresh(rounds: int, folder: Path) -> list[Row]:
    """Seconds of whole processes."""
    config = folder / "claude.json"
    steps = [{"id": f"s{n}", "agent": contenders.AGENT, "task": f"Step {n}."} for n in range(10)]
    agents = {contenders.AGENT: {"file": f"{contenders.AGENT}.md"}}
    config.write_text(json.dumps({"agents": agents, "workflows": {"ten": {"steps": steps}}}))
    found: dict[str, list[float]] = {"run agent": [], "run workflow": []}
    with served() as (origin, _):
        shared = ["--task", "Go.", "--config", str(config), "--base-url", f"{origin}/slow"]
        for number in range(3 * rounds + 1):
            for name, what in (("run agent", contenders.AGENT), ("run workflow", "ten")):
                command = [str(CLAUDE_FORCE), *name.split(), what, *shared, "--no-cache"]
                began = time.perf_counter()
                subprocess.run(
                    command, check=True, capture_output=True, env=clean_environment(folder)
                )
                if number:
                    found[name].append((time.perf_counter() - began) * 1000)
    return [
        Row(contender=name, measure="fresh process", unit="ms", samples=tuple(values))
        for name, values in found.items()
    ]


def main() -> None:
    options = arguments(__doc__ or "", rounds=3)
    with TemporaryDirectory() as name:
        folder = Path(name)
        contenders.write_agent(folder)
        rows = [*over_http(options.rounds, folder), *skewed(options.rounds, folder)]
        rows += fresh(options.rounds, folder)
        speed = asyncio.run(speed_up(options.rounds, folder))
    rows += [
        Row(contender="claude-force", measure=f"12 steps, {kind}", unit="s", samples=tuple(values))
        for kind, values in speed.items()
        if kind != "limit"
    ]
    ratio = quantile(speed["sequential"], 0.5) / quantile(speed["parallel"], 0.5)
    medians = {(row.contender, row.measure): row.median for row in rows}
    goals = [
        Goal(
            claim=f"{graph}: wall ÷ critical path, {contender}",
            measured=1
            + medians[contender, f"{graph}: over the critical path"]
            / (levels * SLOW_SECONDS * 1000),
            at_most=1.05,
        )
        for graph, levels in LEVELS.items()
        for contender in workflow_contenders.OURS
    ]
    goals += [
        Goal(
            claim="skewed graph: ms over the critical path",
            measured=medians["claude-force", "skewed: over the critical path"],
            at_most=5,
        ),
        Goal(
            claim="fresh process: 10 agents ÷ one",
            measured=medians["run workflow", "fresh process"]
            / medians["run agent", "fresh process"],
            at_most=1.05,
        ),
        Goal(
            claim=f"12 steps: speed-up (the limit was {quantile(speed['limit'], 0.5):.2f}) ÷ limit",
            measured=ratio / quantile(speed["limit"], 0.5),
            at_least=0.9,
        ),
    ]
    Report(
        name="workflow",
        workload=WORKLOAD,
        rows=tuple(rows),
        goals=tuple(goals),
        reference="claude-force",
    ).print(as_json=options.json)


if __name__ == "__main__":
    main()
