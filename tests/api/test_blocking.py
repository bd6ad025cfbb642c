from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import (
    AgentNotFoundError,
    CallFinished,
    ClosedError,
    Event,
    MissingCredentialsError,
    PartialFailureError,
)
from claude_force.simulator import Fault, FaultKind, SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import MakeAsync, MakeBlocking, Project

    from claude_force import AgentOrchestrator

NEVER_ENDS = Fault(kind=FaultKind.STALL, after_bytes=1_000)


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = {
        thread for thread in threading.enumerate() if thread not in before and thread.is_alive()
    }
    assert not {thread.name for thread in left if thread.name.startswith("claude-force")} - {
        "claude-force-simulator"
    }


def test_every_blocking_method_answers(make_blocking: MakeBlocking) -> None:
    with make_blocking() as force:
        assert "> one" in force.execute_agent("alpha", "one")
        assert force.run_agent("alpha", "two").ok
        assert len(force.execute_multiple([("alpha", "three"), ("beta", "four")])) == 2
        assert sorted(one.index for one in force.run_many([("alpha", "5"), ("beta", "6")])) == [
            0,
            1,
        ]
        assert list(force.execute_workflow(["alpha", "beta"], "seven").results) == ["alpha", "beta"]


def test_errors_are_those_of_the_async_api(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.NOT_FOUND, match="bad"))
    with make_blocking() as force:
        with pytest.raises(AgentNotFoundError, match="not found"):
            force.execute_agent("nobody", "x")
        with pytest.raises(PartialFailureError) as caught:
            force.execute_multiple([("alpha", "good"), ("alpha", "bad")])
        assert [outcome.ok for outcome in caught.value.outcomes] == [True, False]


def test_config_and_limits_are_those_of_the_project(
    make_blocking: MakeBlocking, project: Project
) -> None:
    project.config(performance={"max_concurrent_agents": 2, "max_retries": 1, "timeout_seconds": 9})
    with make_blocking() as force:
        assert force.config.performance.max_concurrent_agents == 2
        assert force.config is force.settings
        assert (force.max_concurrent, force.max_retries, force.timeout_seconds) == (2, 1, 9)
        force.timeout_seconds = 30
        assert force.timeout_seconds == 30
        assert [agent.name for agent in force.registry.list()] == ["alpha", "beta", "gamma"]


def test_nothing_is_started_before_the_first_call(make_blocking: MakeBlocking) -> None:
    before = threading.active_count()
    force = make_blocking()
    assert force.max_retries == 3
    assert threading.active_count() == before
    force.close()
    force.close()


def test_missing_key_is_an_error_here_too(project: Project) -> None:
    from claude_force import AgentOrchestrator

    with AgentOrchestrator() as force, pytest.raises(MissingCredentialsError):
        force.execute_agent("alpha", "x")


def test_call_within_a_running_loop_answers_as_in_a_notebook(make_blocking: MakeBlocking) -> None:
    async def cell() -> str:
        with make_blocking() as force:
            return force.execute_agent("alpha", "from a notebook")

    assert "> from a notebook" in asyncio.run(cell())


def test_eight_threads_share_one_orchestrator(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    with make_blocking(max_concurrent=3) as force, ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda n: force.execute_agent("alpha", f"task {n}"), range(40)))
    assert all(f"> task {n}" in text for n, text in enumerate(texts))
    assert simulator.stats.answers == 40
    assert simulator.stats.max_concurrent_requests <= 3


def test_async_twins_answer_from_several_loops(make_blocking: MakeBlocking) -> None:
    async def ask(force: AgentOrchestrator, number: int) -> tuple[str, list[str], list[str]]:
        return (
            await force.execute_agent_async("alpha", f"one {number}"),
            await force.execute_multiple_async([("alpha", f"two {number}")]),
            list((await force.execute_workflow_async(["beta"], f"three {number}")).results),
        )

    with make_blocking() as force:
        for number in range(3):
            one, two, three = asyncio.run(ask(force, number))
            assert f"> one {number}" in one
            assert f"> two {number}" in two[0]
            assert three == ["beta"]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda n: asyncio.run(ask(force, n)), range(10, 18)))
        assert len(answers) == 8


def test_cancelled_async_twin_cancels_the_request(
    make_blocking: MakeBlocking, simulator: SimulatorThread, until: Callable[[Any], None]
) -> None:
    simulator.queue_fault(NEVER_ENDS)

    async def main(force: AgentOrchestrator) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await force.execute_agent_async("alpha", "x")

    with make_blocking(max_concurrent=1) as force:
        asyncio.run(main(force))
        until(lambda: simulator.stats.open_connections == 0)
        assert force.run_agent("alpha", "the place is free again").ok


def test_async_orchestrator_serves_several_loops_one_after_the_other(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    force = make_force()
    for number in range(3):
        assert asyncio.run(force.run_agent("alpha", f"loop {number}")).ok
    asyncio.run(force.aclose())
    assert simulator.stats.answers == 3


def test_items_are_read_as_places_become_free(make_blocking: MakeBlocking) -> None:
    read = 0

    def calls() -> Iterator[tuple[str, str]]:
        nonlocal read
        while True:
            read += 1
            yield "alpha", f"item {read}"

    with make_blocking(max_concurrent=2) as force:
        outcomes = force.run_many(calls())
        for _, outcome in zip(range(5), outcomes, strict=False):
            assert outcome.ok
        outcomes.close()  # type: ignore[attr-defined] # a generator
        assert read <= 5 + 12


def test_outcomes_left_open_do_not_outlive_the_orchestrator(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.STALL, after_bytes=1_000, match="slow"))
    force = make_blocking()
    outcomes = force.run_many([("alpha", "quick"), ("alpha", "slow")])
    assert next(outcomes).index == 0
    force.close()
    with pytest.raises(ClosedError):
        next(outcomes)


def test_outcomes_that_are_never_asked_for_cost_nothing(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    with make_blocking() as force:
        force.run_many([("alpha", "x")])
    assert simulator.stats.requests == 0


def test_close_makes_a_call_of_another_thread_fail(
    make_blocking: MakeBlocking, simulator: SimulatorThread, until: Callable[[Any], None]
) -> None:
    simulator.queue_fault(NEVER_ENDS)
    force = make_blocking()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(force.execute_agent, "alpha", "x")
        until(lambda: simulator.stats.requests == 1)
        force.close()
        with pytest.raises(ClosedError):
            call.result(timeout=20)
    with pytest.raises(ClosedError, match="make a new one"):
        force.execute_agent("alpha", "x")


def test_listeners_hear_everything(make_blocking: MakeBlocking) -> None:
    events: list[Event] = []
    with make_blocking(listeners=[events.append]) as force:
        force.execute_agent("alpha", "x")
    assert isinstance(events[-1], CallFinished)


SCRIPT = """
import sys
from claude_force import AgentOrchestrator, AsyncAgentOrchestrator

force = AgentOrchestrator(api_key="k", base_url=sys.argv[1])
print(force.execute_agent("alpha", "plain script").splitlines()[0])
if sys.argv[2] == "close":
    force.close()
"""


@pytest.mark.parametrize("ending", ["close", "leave"])
def test_plain_script_ends_whether_or_not_it_closes(
    project: Project, simulator: SimulatorThread, tmp_path: Path, ending: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-W", "error", script, simulator.base_url, ending],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "[simulated answer: no model ran]\n")
    assert ended.stderr == ""
