"""Limits that orchestrators and processes share, the commands that change them, and Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.domain.errors import ServiceError
from claude_force.simulator import Latency, Scenario, SimulatorThread

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.conftest import Cli, MakeAsync, Process, Project, Spawn, Until

ITEMS = [{"id": f"i{n}", "task": f"item {n}"} for n in range(12)]
MAP = ("run", "map", "alpha", "--items", "items.jsonl", "--out", "results.jsonl", "--no-cache")


def taking(seconds: float) -> Scenario:
    """Every answer takes that long."""
    return Scenario(
        latency=Latency(
            distribution="fixed",
            first_event_median_seconds=seconds,
            output_tokens_per_second=1e9,
        )
    )


def test_map_does_not_starve_a_small_workflow_beside_it(
    make_force: MakeAsync,
    project: Project,
    simulator: SimulatorThread,
    tasks_sent: Callable[[], list[str]],
) -> None:
    simulator.use_scenario(taking(0.01))

    async def main() -> None:
        async with make_force(max_concurrent=2) as force:
            calls = [("alpha", f"item {n}") for n in range(300)]
            started = asyncio.Event()

            async def many() -> None:
                async for outcome in force.run_many(calls):
                    assert outcome.ok
                    started.set()

            running = asyncio.create_task(many())
            await started.wait()
            result = await force.execute_workflow(["beta", "gamma", "beta"], task="small")
            assert result.ok
            await running

    asyncio.run(main())
    names = ["item" if "item " in task else "step" for task in tasks_sent()]
    assert (names.count("item"), names.count("step")) == (300, 3)
    first = names.index("step")
    last = len(names) - 1 - names[::-1].index("step")
    # Every step has its turn after a few items, not after those that were asked before.
    assert first < 40
    assert last - first < 40


def test_two_orchestrators_share_a_limit_through_their_state_folder(
    make_force: MakeAsync, simulator: SimulatorThread, cli: Cli
) -> None:
    assert cli("ctl", "limits", "--max-concurrent", "2").code == 0
    simulator.use_scenario(taking(0.05))

    async def main() -> None:
        async with make_force(max_concurrent=20) as one, make_force(max_concurrent=20) as two:

            async def run(force: Any, name: str) -> None:
                async for outcome in force.run_many((name, f"item {n}") for n in range(20)):
                    assert outcome.ok

            await asyncio.gather(run(one, "alpha"), run(two, "beta"))

    asyncio.run(main())
    assert simulator.stats.answers == 40
    assert simulator.stats.max_concurrent_requests <= 2


def test_limit_of_the_command_holds_over_two_processes(
    project: Project, simulator: SimulatorThread, spawn: Spawn, cli: Cli
) -> None:
    assert cli("ctl", "limits", "--max-concurrent", "1").code == 0
    project.items(*ITEMS[:6], name="items.jsonl")
    simulator.use_scenario(taking(0.05))
    runs = [
        spawn(*MAP[:6], f"results-{name}.jsonl", "--no-cache", "--max-concurrent", "8")
        for name in ("a", "b")
    ]
    for run in runs:
        _, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
    assert simulator.stats.answers == 12
    assert simulator.stats.max_concurrent_requests == 1


def test_limit_that_is_lowered_acts_on_a_run_in_another_process(
    project: Project, simulator: SimulatorThread, spawn: Spawn, cli: Cli, until: Until
) -> None:
    project.items(*({"task": f"item {n}"} for n in range(150)), name="items.jsonl")
    simulator.use_scenario(taking(0.1))
    running = spawn(*MAP, "--max-concurrent", "16")
    until(lambda: simulator.stats.answers >= 10)
    assert simulator.stats.max_concurrent_requests > 1
    shown = cli("ctl", "limits", "--max-concurrent", "1", "--json").json
    assert shown["max_concurrent"] == 1
    assert [one["pid"] for one in shown["processes"]] == [running.pid]
    # Within some seconds one request at a time is under way, for as long as one looks.
    until(lambda: _most_at_once(simulator, answers=4) == 1)
    cli("ctl", "limits", "--max-concurrent", "0")
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert len(project.lines("results.jsonl")) == 150


def _most_at_once(simulator: SimulatorThread, *, answers: int) -> int:
    simulator.reset()
    end = time.monotonic() + 20
    while simulator.stats.answers < answers and time.monotonic() < end:
        time.sleep(0.02)
    return simulator.stats.max_concurrent_requests


def test_pause_stops_a_run_in_another_process_and_resume_lets_it_go_on(
    project: Project, simulator: SimulatorThread, spawn: Spawn, cli: Cli, until: Until
) -> None:
    project.items(*({"task": f"item {n}"} for n in range(60)), name="items.jsonl")
    simulator.use_scenario(taking(0.1))
    running = spawn(*MAP, "--max-concurrent", "2")
    until(lambda: simulator.stats.answers >= 3)
    assert cli("ctl", "pause").code == 0
    assert "paused by `claude-force ctl pause`" in cli("health").out
    until(lambda: _requests_within(simulator, seconds=1.0) == 0)
    before = simulator.stats.answers
    assert before < 60
    assert running.poll() is None
    assert cli("ctl", "resume", "--json").json["paused"] is False
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert simulator.stats.answers == 60


def test_run_that_is_started_in_a_pause_says_why_nothing_happens(
    project: Project, simulator: SimulatorThread, spawn: Spawn, cli: Cli
) -> None:
    assert cli("ctl", "pause").code == 0
    running = spawn("run", "agent", "alpha", "--task", "x")
    assert running.stderr is not None
    assert running.stderr.readline() == (
        "Warning: paused by `claude-force ctl pause`: nothing is sent until `claude-force ctl resume` "
        "(--simulated for simulated runs)\n"
    )
    assert simulator.stats.requests == 0
    assert cli("ctl", "resume").code == 0
    out, err = running.communicate(timeout=30)
    assert running.returncode == 0, err
    assert "[simulated answer" in out
    assert "paused" not in err


def _requests_within(simulator: SimulatorThread, *, seconds: float) -> int:
    before = simulator.stats.requests
    time.sleep(seconds)
    return simulator.stats.requests - before


def test_health_tells_and_checks_an_open_breaker(
    make_force: MakeAsync, simulator: SimulatorThread, cli: Cli
) -> None:
    unknown = cli("health", "--check", "--json")
    assert (unknown.code, unknown.json) == (0, {"healthy": True, "seen": False})

    async def main(times: int) -> None:
        async with make_force(max_retries=0, enable_cache=False) as force:
            for _ in range(times):
                with pytest.raises(ServiceError):
                    await force.run_agent("alpha", "x")

    simulator.use_scenario("outage")
    asyncio.run(main(2))
    assert cli("health", "--check").code == 0
    asyncio.run(main(5))
    sent = simulator.stats.requests
    shown = cli("health", "--check", "--json")
    assert (shown.code, shown.json["healthy"]) == (1, False)
    (breaker,) = shown.json["breakers"].values()
    assert (breaker["open"], breaker["failures"]) == (True, 5)
    assert {one["kind"] for one in shown.json["errors"]} >= {"service"}
    assert cli("health").code == 0
    assert "NOT healthy" in cli("health").out
    assert simulator.stats.requests == sent


def interrupted(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = running.communicate(timeout=30)
    return running.returncode, out, err


def test_one_interrupt_keeps_what_is_in_flight_and_a_rerun_does_the_rest_once(
    project: Project, simulator: SimulatorThread, spawn: Spawn, process: Process, until: Until
) -> None:
    project.items(*ITEMS)
    simulator.use_scenario(taking(1.0))
    running = spawn(*MAP, "--max-concurrent", "3")
    until(lambda: simulator.stats.requests >= 5)
    running.send_signal(signal.SIGINT)
    code, _, err = interrupted(running)
    assert code == 130
    assert "Interrupted: nothing more is sent" in err
    assert "Traceback" not in err
    kept = project.lines("results.jsonl")
    sent = simulator.stats.requests
    assert len(kept) == sent == simulator.stats.answers
    assert 5 <= sent < 12
    assert all(line["ok"] for line in kept)
    simulator.use_scenario("instant")
    rerun = process(*MAP)
    assert rerun.code == 0, rerun.err
    assert {line["id"] for line in project.lines("results.jsonl")} == {f"i{n}" for n in range(12)}
    assert simulator.stats.requests == 12
    assert set(simulator.stats.answers_by_fingerprint.values()) == {1}


def test_second_interrupt_stops_at_once(
    project: Project, simulator: SimulatorThread, spawn: Spawn, until: Until
) -> None:
    project.items(*ITEMS)
    simulator.use_scenario(taking(60))
    running = spawn(*MAP)
    until(lambda: simulator.stats.requests >= 1)
    assert running.stderr is not None
    running.send_signal(signal.SIGINT)
    seen = ""
    while "Interrupted" not in seen:
        seen += running.stderr.readline()
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    code, _, err = interrupted(running)
    assert code == 130
    # The grace time is ten seconds, an answer takes a minute.
    assert time.monotonic() - began < 8
    assert "Traceback" not in err


def test_interrupted_workflow_keeps_its_finished_steps_in_the_cache(
    project: Project, simulator: SimulatorThread, spawn: Spawn, process: Process, until: Until
) -> None:
    project.config(workflows={"chain": ["alpha", "beta", "gamma"]})
    simulator.use_scenario(taking(1.5))
    command = ("run", "workflow", "chain", "--task", "x", "--json")
    running = spawn(*command)
    until(lambda: simulator.stats.requests == 2)
    running.send_signal(signal.SIGINT)
    code, out, err = interrupted(running)
    assert code == 130, err
    assert "Traceback" not in err
    states = [step["state"] for step in json.loads(out)["steps"]]
    assert states == ["succeeded", "succeeded", "failed"]
    assert simulator.stats.requests == simulator.stats.answers == 2
    simulator.use_scenario("instant")
    rerun = process(*command)
    assert rerun.code == 0, rerun.err
    assert simulator.stats.requests == 3


def test_interrupted_single_call_ends_with_its_answer(
    project: Project, simulator: SimulatorThread, spawn: Spawn, until: Until
) -> None:
    simulator.use_scenario(taking(1.5))
    running = spawn("run", "agent", "alpha", "--task", "x", "--json")
    until(lambda: simulator.stats.requests == 1)
    running.send_signal(signal.SIGINT)
    code, out, err = interrupted(running)
    assert json.loads(out)["ok"] is True
    assert code == 0, err
