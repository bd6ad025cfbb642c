"""Runs and commands of several machines with one Redis server, each machine with folders of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import BlockBuster

from claude_force.domain.errors import BudgetExceededError, ConfigError
from claude_force.simulator import Latency, Scenario
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import (
        Cli,
        MakeAsync,
        MakeBlocking,
        Process,
        Project,
        RedisServer,
        Spawn,
        Until,
    )

    from claude_force.simulator import SimulatorThread

# No call ends before all have asked for their share of the budget.
HELD = Scenario(
    latency=Latency(
        distribution="fixed", first_event_median_seconds=3.0, output_tokens_per_second=1e9
    )
)
# 25 single calls: unlike those of a run, none of them waits for what the others do not use.
AT_ONCE = """
import asyncio, sys
from claude_force import AsyncAgentOrchestrator

async def main(first):
    async with AsyncAgentOrchestrator(enable_cache=False) as force:
        calls = [force.run_agent("alpha", f"question {n:02}") for n in range(first, first + 25)]
        for end in await asyncio.gather(*calls, return_exceptions=True):
            print(getattr(end, "kind", "ok"))

asyncio.run(main(int(sys.argv[1])))
"""
BRISK = Scenario(
    latency=Latency(
        distribution="fixed", first_event_median_seconds=0.05, output_tokens_per_second=1e9
    )
)


@pytest.fixture
def environments(redis_server: RedisServer, tmp_path: Path) -> list[dict[str, str]]:
    """Of four machines."""
    return [
        {
            "CLAUDE_FORCE_REDIS_URL": redis_server.url,
            "CLAUDE_FORCE_REDIS_SHARES": "limits",
            "XDG_STATE_HOME": str(tmp_path / f"machine-{number}" / "state"),
            "XDG_CACHE_HOME": str(tmp_path / f"machine-{number}" / "cache"),
        }
        for number in range(4)
    ]


def keys_of(server: RedisServer) -> set[str]:
    import redis

    with redis.Redis.from_url(server.url) as client:
        return {key.decode() for key in client.keys("*")}


def test_hundred_first_calls_of_four_machines_against_a_budget_of_the_day_for_three_make_three(
    project: Project,
    simulator: SimulatorThread,
    make_blocking: MakeBlocking,
    environments: list[dict[str, str]],
) -> None:
    with make_blocking(budget_usd=0) as force, pytest.raises(BudgetExceededError) as refused:
        force.run_agent("alpha", "question 00")
    worst = Decimal(str(refused.value).split("up to $")[1].split(",")[0])
    project.config(
        budgets={"per_day_usd": str(worst * Decimal("3.5"))},
        performance={"max_concurrent_agents": 25, "max_retries": 0},
    )
    simulator.use_scenario(HELD)
    key = {"ANTHROPIC_API_KEY": "key-of-the-tests", "ANTHROPIC_BASE_URL": simulator.base_url}
    machines = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, str(25 * machine)],
            env={**os.environ, **key, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        for machine, environment in enumerate(environments)
    ]
    try:
        ended = " ".join(machine.communicate(timeout=60)[0] for machine in machines).split()
    finally:
        for machine in machines:
            machine.kill()
    assert Counter(ended) == {"ok": 3, "budget_exceeded": 97}
    assert simulator.stats.requests == 3


def test_a_pause_on_one_machine_stops_the_runs_of_another_until_it_ends(
    *,
    project: Project,
    simulator: SimulatorThread,
    spawn: Spawn,
    process: Process,
    until: Until,
    environments: list[dict[str, str]],
) -> None:
    simulator.use_scenario(BRISK)
    project.items(*({"id": n, "task": f"item {n}"} for n in range(300)))
    here, there = environments[:2]
    run = spawn(
        *("run", "map", "alpha", "--no-cache", "--items", "items.jsonl", "--out", "out.jsonl"),
        env=here | {"CLAUDE_FORCE_REDIS_SHARES": ""} | {"CLAUDE_CACHE_SECRET": "of all machines"},
    )
    until(lambda: simulator.stats.requests > 10)
    assert process("ctl", "pause", env=there).out.startswith("paused: yes\n")

    def is_quiet() -> bool:
        state = process("ctl", "limits", "--json", env=there).json
        return [one["in_flight"] for one in state["processes"]] == [0]

    until(is_quiet)
    shown = process("ctl", "limits", "--json", env=there).json
    assert shown["paused"] is True
    assert shown["processes"][0]["pid"] == run.pid
    assert shown["processes"][0]["host"]
    sent = simulator.stats.requests
    assert sent < 300
    text = process("ctl", "limits", "--max-concurrent", "4", "--rpm", "60000", env=there).out
    assert "max concurrent, all processes: 4\nrequests a minute, all processes: 60000\n" in text
    assert f"process {run.pid} on " in text
    assert simulator.stats.requests == sent
    # The machine's own limits are others.
    alone = {name: "" for name in here if name.startswith("CLAUDE")} | {
        "XDG_STATE_HOME": here["XDG_STATE_HOME"]
    }
    assert process("ctl", "limits", env=alone).out.startswith("paused: no\n")
    assert process("ctl", "resume", env=there).out.startswith("paused: no\n")
    run.communicate(timeout=60)
    assert simulator.stats.answers == 300


def test_a_breaker_that_opens_on_one_machine_is_open_on_all(
    simulator: SimulatorThread,
    process: Process,
    environments: list[dict[str, str]],
) -> None:
    simulator.use_scenario("outage")
    task = ("run", "agent", "alpha", "--task", "x", "--no-cache")
    failed = process(*task, "--max-retries", "4", env=environments[0])
    assert failed.code == 5
    sent = simulator.stats.requests
    refused = process(*task, "--max-retries", "0", env=environments[1])
    assert refused.code == 5
    assert "it has failed 5 times in a row, the circuit breaker is open since" in refused.err
    assert simulator.stats.requests == sent == 5
    health = process("health", "--check", "--json", env=environments[2])
    assert health.code == 1
    (breaker,) = health.json["breakers"].values()
    assert breaker["open"] is True
    assert [one["kind"] for one in health.json["errors"]] == ["service"]
    assert "NOT healthy\nbreaker  claude-" in process("health", env=environments[3]).out


def test_a_run_without_the_server_answers_and_warns_once(
    simulator: SimulatorThread,
    process: Process,
    redis_server: RedisServer,
    environments: list[dict[str, str]],
) -> None:
    redis_server.stop()
    run = process("run", "agent", "alpha", "--task", "x", "--no-cache", env=environments[0])
    assert run.code == 0, run.err
    warnings = [line for line in run.err.splitlines() if line.startswith("Warning")]
    expected = "redis failed (ConnectionError); each machine goes on with its part of the limits"
    assert warnings == [f"Warning: {expected} until the server is back"]
    asked = process("ctl", "pause", env=environments[0])
    assert asked.code != 0
    assert "does not answer" in asked.err
    assert process("health", env=environments[0]).code != 0


def test_what_others_wrote_at_the_server_steers_no_terminal_and_stops_no_run(
    process: Process, redis_server: RedisServer, environments: list[dict[str, str]]
) -> None:
    import redis

    prefix = "claude-force:{shared}:1:"
    with redis.Redis.from_url(redis_server.url) as client:
        client.hset(f"{prefix}breakers", "\x1b[2Jm", '{"failures":5,"opened_at":1.0}')
        health = process("health", env=environments[0])
        assert "breaker  [2Jm: open since 1970-01-01 00:00:01 UTC" in health.out
        assert "\x1b" not in health.out
        client.set(f"{prefix}pools", "of another kind")
        run = process("run", "agent", "alpha", "--task", "x", "--no-cache", env=environments[0])
    assert run.code == 0
    assert "Warning: redis failed (ResponseError); each machine goes on" in run.err


def test_what_the_server_shares_can_be_chosen(
    cli: Cli, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_FORCE_REDIS_URL", redis_server.url)
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", "of the tests")
    limits, answers = "claude-force:{shared}:1:", "claude-force:cache:1:"
    for shares, prefixes in (
        ("answers", {answers}),
        ("limits", {limits}),
        ("", {limits, answers}),
    ):
        monkeypatch.setenv("CLAUDE_FORCE_REDIS_SHARES", shares)
        assert cli("run", "agent", "alpha", "--task", f"with {shares}").code == 0
        found = {
            next((p for p in (limits, answers) if key.startswith(p)), key)
            for key in keys_of(redis_server)
        }
        assert found == prefixes
        redis_server.stop()
        redis_server.start()
    # Limits need no secret.
    monkeypatch.delenv("CLAUDE_CACHE_SECRET")
    assert cli("run", "agent", "alpha", "--task", "without a secret").code == 3
    monkeypatch.setenv("CLAUDE_FORCE_REDIS_SHARES", "limits")
    assert cli("run", "agent", "alpha", "--task", "without a secret").code == 0
    monkeypatch.setenv("CLAUDE_FORCE_REDIS_SHARES", "nothing")
    refused = cli("run", "agent", "alpha", "--task", "x")
    assert refused.code == 3
    assert (
        "CLAUDE_FORCE_REDIS_SHARES is 'nothing'; it has to be all, answers or limits."
        in refused.err
    )


def test_simulated_runs_share_nothing(
    cli: Cli, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_FORCE_REDIS_URL", redis_server.url)
    assert cli("run", "agent", "alpha", "--task", "x", "--simulate").code == 0
    assert cli("ctl", "pause", "--simulated").out.startswith("paused: yes")
    assert cli("health", "--simulated").code == 0
    assert keys_of(redis_server) == set()


def test_an_argument_names_the_server_in_python(
    make_blocking: MakeBlocking, redis_server: RedisServer, simulator: SimulatorThread
) -> None:
    with make_blocking(limits_redis_url=redis_server.url, enable_cache=False) as force:
        assert force.execute_agent("alpha", "x")
    assert "claude-force:{shared}:1:pools" in keys_of(redis_server)
    with (
        make_blocking(limits_redis_url="http://127.0.0.1:1") as force,
        pytest.raises(ConfigError, match="redis://"),
    ):
        force.execute_agent("alpha", "x")


def test_nothing_that_waits_for_the_server_runs_on_the_event_loop(
    project: Project, make_force: MakeAsync, redis_server: RedisServer, simulator: SimulatorThread
) -> None:
    project.config(budgets={"per_day_usd": 100})
    force = make_force(limits_redis_url=redis_server.url, enable_cache=False)
    # What is read once, at the first use, is another matter.
    assert force.settings.budgets.per_day_usd == 100
    assert force.registry.get("alpha").name == "alpha"

    async def main() -> list[Any]:
        async with force:
            calls = (force.run_agent("alpha", f"task {n}") for n in range(3))
            results = await asyncio.gather(*calls)
            # Also while the server is gone: the call is refused before it is sent, and the ledger closes.
            redis_server.stop()
            with pytest.raises(
                StorageError, match="the budget of the day of all machines does not"
            ):
                await force.run_agent("alpha", "one more")
            return results

    blockbuster = BlockBuster()
    for function in blockbuster.functions.values():
        function.can_block_in("claude_force/agents/registry.py", "get")
    blockbuster.activate()
    try:
        assert len(asyncio.run(main())) == 3
    finally:
        blockbuster.deactivate()
    assert simulator.stats.requests == 3
