"""Ways to run the same graph of calls. Each is run in a process of its own.

A graph is a mapping from each step to the steps it depends on. A step sends one request and reads its answer as it
arrives; what it asks holds the number of its run, so that nothing which remembers requests has an advantage.
``claude-force`` needs our environment, the rest that of the rivals.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import contenders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Graph = dict[str, tuple[str, ...]]
    RunGraph = Callable[[Graph], Awaitable[None]]

_runs = count(1)


@asynccontextmanager
async def claude_force(base_url: str, agents: Path, *, journal: bool) -> AsyncIterator[RunGraph]:
    """execute_workflow with everything on but the response cache."""
    from claude_force.orchestrator import AsyncAgentOrchestrator

    async with AsyncAgentOrchestrator(
        api_key=contenders.KEY,
        base_url=base_url,
        max_concurrent=64,
        agents_dir=agents,
        enable_cache=False,
    ) as force:

        async def run(graph: Graph) -> None:
            steps = [
                {"id": step, "agent": contenders.AGENT, "task": f"Step {step}.", "needs": [*needs]}
                for step, needs in graph.items()
            ]
            definition = {"name": "bench", "steps": steps}
            result = await force.execute_workflow(
                definition, task=f"Run {next(_runs)}.", journal=journal
            )
            assert result.ok, result

        yield run


def ours(base_url: str, agents: Path) -> AbstractAsyncContextManager[RunGraph]:
    return claude_force(base_url, agents, journal=False)


def ours_journaled(base_url: str, agents: Path) -> AbstractAsyncContextManager[RunGraph]:
    return claude_force(base_url, agents, journal=True)


async def _in_order(graph: Graph, call: Callable[[], Awaitable[object]]) -> None:
    """The least that can run a graph: a task a step, which waits for those of its dependencies."""
    tasks: dict[str, asyncio.Task[None]] = {}

    async def step(name: str) -> None:
        for dependency in graph[name]:
            await tasks[dependency]
        await call()

    for name in graph:
        tasks[name] = asyncio.create_task(step(name))
    await asyncio.gather(*tasks.values())


@asynccontextmanager
async def tasks_and_aiohttp(base_url: str, agents: Path) -> AsyncIterator[RunGraph]:
    async with contenders.aiohttp(base_url, agents, 64) as call:
        yield lambda graph: _in_order(graph, call)


@asynccontextmanager
async def tasks_and_sdk(base_url: str, agents: Path) -> AsyncIterator[RunGraph]:
    async with contenders.RIVALS["SDK stream"](base_url, agents, 64) as call:
        yield lambda graph: _in_order(graph, call)


def _merged(left: dict[str, str], right: dict[str, str]) -> dict[str, str]:
    return left | right


class _State(TypedDict):
    answers: Annotated[dict[str, str], _merged]


@asynccontextmanager
async def langgraph(base_url: str, agents: Path) -> AsyncIterator[RunGraph]:
    """LangGraph over bare aiohttp; each graph is compiled once."""
    compiled: dict[int, Any] = {}
    async with contenders.aiohttp(base_url, agents, 64) as call:

        async def run(graph: Graph) -> None:
            if id(graph) not in compiled:
                compiled[id(graph)] = compile_langgraph(graph, lambda _: call())
            await compiled[id(graph)].ainvoke({"answers": {}})

        yield run


def compile_langgraph(graph: Graph, call: Callable[[str], Awaitable[object]]) -> Any:
    from langgraph.graph import (  # type: ignore[import-not-found]  # in the rivals' environment
        END,
        START,
        StateGraph,
    )

    builder = StateGraph(_State)

    def node(name: str) -> Callable[[_State], Awaitable[dict[str, Any]]]:
        async def run_step(_: _State) -> dict[str, Any]:
            return {"answers": {name: str(await call(name))}}

        return run_step

    for name in graph:
        builder.add_node(name, node(name))
    needed = {dependency for needs in graph.values() for dependency in needs}
    for name, needs in graph.items():
        builder.add_edge(list(needs) if needs else START, name)
        if name not in needed:
            builder.add_edge(name, END)
    return builder.compile()


OURS = {"claude-force": ours, "claude-force, journal": ours_journaled}
RIVALS = {
    "tasks and aiohttp": tasks_and_aiohttp,
    "tasks and the SDK": tasks_and_sdk,
    "LangGraph and aiohttp": langgraph,
}
