"""One contender in one process: runs graphs and prints seconds of each run as JSON.

python benchmarks/workflow_worker.py CONTENDER BASE_URL AGENTS_DIR RUNS < graphs.json
python benchmarks/workflow_worker.py timers CONTENDER RUNS < durations.json
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workflow_contenders

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def _timed(run: Callable[[], Awaitable[object]], runs: int) -> list[float]:
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        await run()
        seconds.append(time.perf_counter() - began)
    return seconds


async def over_http(
    contender: str, base_url: str, agents: Path, runs: int, graphs: dict[str, Any]
) -> dict[str, list[float]]:
    """Seconds by graph; the first run of each warms the connections and is not counted."""
    made = workflow_contenders.OURS | workflow_contenders.RIVALS
    found = {}
    async with made[contender](base_url, agents) as run:
        for name, graph in graphs.items():
            seconds = await _timed(lambda graph=graph: run(graph), runs + 1)
            found[name] = seconds[1:]
    return found


async def with_timers(contender: str, runs: int, durations: dict[str, Any]) -> list[float]:
    """Seconds of a graph whose steps only wait: ``durations`` has milliseconds and dependencies of each."""
    graph = {name: tuple(step["needs"]) for name, step in durations.items()}

    async def wait(name: str) -> str:
        await asyncio.sleep(durations[name]["ms"] / 1000)
        return name

    if contender == "LangGraph":
        compiled = workflow_contenders.compile_langgraph(graph, wait)
        return (await _timed(lambda: compiled.ainvoke({"answers": {}}), runs + 1))[1:]
    return (await _timed(lambda: _our_timers(graph, wait), runs + 1))[1:]


async def _our_timers(
    graph: workflow_contenders.Graph, wait: Callable[[str], Awaitable[str]]
) -> None:
    from claude_force.domain.results import AgentResult
    from claude_force.domain.usage import NO_USAGE
    from claude_force.workflows.definition import Step, Workflow
    from claude_force.workflows.inputs import RunInputs
    from claude_force.workflows.scheduler import WorkflowRun
    from claude_force.workflows.step_run import StepRun

    async def make_call(call: Any, place: Any) -> AgentResult:
        text = await wait(place.step_id)
        return AgentResult(
            agent_name=call.agent_name,
            text=text,
            stop_reason="end_turn",
            model="none",
            requested_model="none",
            usage=NO_USAGE,
        )

    steps = tuple(
        Step(step_id=name, agent_name="timer", task="wait", dependencies=needs)
        for name, needs in graph.items()
    )
    result = await WorkflowRun(
        Workflow(name="timers", steps=steps),
        run_id="bench",
        run_step=StepRun(
            run_id="bench",
            inputs=RunInputs(task="wait", root=Path.cwd()),
            make_call=make_call,
            is_fatal=lambda _: False,
            sequential=False,
            on_event=None,
        ),
        is_fatal=lambda _: False,
    ).execute()
    assert result.ok


if __name__ == "__main__":
    given = json.load(sys.stdin)
    if sys.argv[1] == "timers":
        done: object = asyncio.run(with_timers(sys.argv[2], int(sys.argv[3]), given))
    else:
        name, address, folder, count = sys.argv[1:]
        done = asyncio.run(over_http(name, address, Path(folder), int(count), given))
    print(json.dumps(done))
