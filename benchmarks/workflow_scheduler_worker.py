"""One contender in one process: runs a graph whose steps do nothing, and prints CPU microseconds a node as JSON.

python benchmarks/workflow_scheduler_worker.py CONTENDER SHAPE NODES RUNS
"""

from __future__ import annotations

import asyncio
import graphlib
import json
import sys
import tempfile
import time
from collections import deque
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workflow_contenders

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Build = Callable[[], Any]
    Run = Callable[[Any], Awaitable[None]]
    Needs = Callable[[int], tuple[str, ...]]

WIDTH = 10
SHAPES: dict[str, Needs] = {
    "chain": lambda n: (f"s{n - 1}",) if n else (),
    "fan-out": lambda n: ("s0",) if n else (),
    "layered": lambda n: (
        tuple(f"s{(n // WIDTH - 1) * WIDTH + k}" for k in (n % WIDTH, (n + 3) % WIDTH))
        if n >= WIDTH
        else ()
    ),
}


async def nothing(_: str = "") -> str:
    return ""


def scheduler(graph: dict[str, tuple[str, ...]]) -> tuple[Build, Run]:
    """Our scheduler with steps that do nothing at all."""
    from claude_force.workflows.scheduler import WorkflowRun
    from claude_force.workflows.step_run import StepOutcome

    answer = _answer()

    async def run_step(_step: Any, _ended: Any) -> StepOutcome:
        return StepOutcome(answer=answer)

    async def run(workflow: Any) -> None:
        done = await WorkflowRun(
            workflow, run_id="r", run_step=run_step, is_fatal=lambda _: False
        ).execute()
        assert done.ok

    return lambda: _workflow(graph), run


def steps(graph: dict[str, tuple[str, ...]], *, journal: bool = False) -> tuple[Build, Run]:
    """The same with the calls of the steps put together, which nobody answers; and with the journal of answers."""
    from claude_force.assembly.call_journal import CallJournal
    from claude_force.domain.messages import Message, MessageRequest, TextBlock
    from claude_force.workflows.inputs import RunInputs
    from claude_force.workflows.journal import RunJournal
    from claude_force.workflows.journal_tables import RunHeader
    from claude_force.workflows.scheduler import WorkflowRun
    from claude_force.workflows.step_run import StepRun

    answer = _answer()

    async def send(_: object) -> Any:
        return answer

    async def run(workflow: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            held = None
            if journal:
                header = RunHeader(run_id="r", workflow=workflow, by_name=False)
                held = await asyncio.to_thread(RunJournal.start, Path(folder), header, now=0.0)

            async def make_call(call: Any, place: Any) -> Any:
                if held is not None:
                    request = MessageRequest(
                        model="m",
                        messages=(Message("user", (TextBlock(f"{place.step_id} {call.task}"),)),),
                        max_tokens=call.max_tokens,
                    )
                    return await CallJournal(held, "origin").answered(call, place, request, send)
                return answer

            def is_fatal(_: object) -> bool:
                return False

            on_event = None if held is None else held.take
            run_step = StepRun(
                run_id="r",
                inputs=RunInputs(),
                make_call=make_call,
                is_fatal=is_fatal,
                sequential=False,
                on_event=on_event,
            )
            done = await WorkflowRun(
                workflow, run_id="r", run_step=run_step, is_fatal=is_fatal, on_event=on_event
            ).execute()
            assert done.ok
            if held is not None:
                await asyncio.to_thread(held.close)

    return lambda: _workflow(graph), run


def tasks(graph: dict[str, tuple[str, ...]]) -> tuple[Build, Run]:
    """In-degree counting, and one asyncio task a node."""

    def build() -> tuple[dict[str, int], dict[str, list[str]]]:
        behind: dict[str, list[str]] = {name: [] for name in graph}
        for name, needs in graph.items():
            for needed in needs:
                behind[needed].append(name)
        return {name: len(needs) for name, needs in graph.items()}, behind

    async def run(built: tuple[dict[str, int], dict[str, list[str]]]) -> None:
        counts, behind = dict(built[0]), built[1]
        ended: deque[str] = deque()
        wake = asyncio.Event()

        async def node(name: str) -> None:
            await nothing(name)
            ended.append(name)
            wake.set()

        running = {asyncio.create_task(node(n)) for n, count in counts.items() if not count}
        left = len(counts)
        while left:
            await wake.wait()
            wake.clear()
            while ended:
                left -= 1
                for name in behind[ended.popleft()]:
                    counts[name] -= 1
                    if not counts[name]:
                        task = asyncio.create_task(node(name))
                        running.add(task)
                        task.add_done_callback(running.discard)

    return build, run


def graphlib_and_tasks(graph: dict[str, tuple[str, ...]]) -> tuple[Build, Run]:
    """The standard library's sorter, and one asyncio task a node."""

    async def run(sorter: graphlib.TopologicalSorter[str]) -> None:
        sorter.prepare()
        running: set[asyncio.Task[str]] = set()
        while sorter.is_active():
            running |= {asyncio.create_task(_named(name)) for name in sorter.get_ready()}
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                sorter.done(task.result())

    return lambda: graphlib.TopologicalSorter(graph), run


async def _named(name: str) -> str:
    await nothing(name)
    return name


def langgraph(graph: dict[str, tuple[str, ...]]) -> tuple[Build, Run]:
    """LangGraph; its limit on supersteps is lifted."""

    async def run(compiled: Any) -> None:
        await compiled.ainvoke({"answers": {}}, {"recursion_limit": len(graph) + 10})

    return lambda: workflow_contenders.compile_langgraph(graph, nothing), run


def _workflow(graph: dict[str, tuple[str, ...]]) -> Any:
    from claude_force.workflows.definition import Step, Workflow

    return Workflow(
        name="bench",
        steps=tuple(
            Step(step_id=name, agent_name="a", task="x", dependencies=needs)
            for name, needs in graph.items()
        ),
    )


def _answer() -> Any:
    from claude_force.domain.results import AgentResult
    from claude_force.domain.usage import Usage

    return AgentResult(
        agent_name="a",
        text="An answer of some length. " * 40,
        stop_reason="end_turn",
        model="m",
        requested_model="m",
        usage=Usage(input_tokens=900, output_tokens=300),
        cost_usd=Decimal("0.0072"),
    )


CONTENDERS: dict[str, Callable[[dict[str, tuple[str, ...]]], tuple[Build, Run]]] = {
    "claude-force, scheduler": scheduler,
    "claude-force, steps": steps,
    "claude-force, steps and journal": lambda graph: steps(graph, journal=True),
    "asyncio, a task a node": tasks,
    "graphlib, a task a node": graphlib_and_tasks,
    "LangGraph": langgraph,
}


def main() -> None:
    name, shape, nodes, runs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    needs = SHAPES[shape]
    build, run = CONTENDERS[name]({f"s{n}": needs(n) for n in range(nodes)})
    found: dict[str, list[float]] = {"build": [], "run": []}

    async def on_loop(built: Any) -> float:
        # Of this thread alone: what the loop is kept from by, not what the journal's own thread does meanwhile.
        began = time.thread_time()
        await run(built)
        return time.thread_time() - began

    for number in range(runs + 1):
        began = time.thread_time()
        built = build()
        ended = time.thread_time()
        seconds = asyncio.run(on_loop(built))
        if number:
            found["build"].append((ended - began) / nodes * 1e6)
            found["run"].append(seconds / nodes * 1e6)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
