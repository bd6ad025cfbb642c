"""What `health` says before, during and after an outage."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import KEY

from claude_force.domain.errors import CircuitOpenError, ServiceError
from claude_force.domain.messages import Message, MessageRequest, TextBlock
from claude_force.provider.messages_api import MessagesApiClient
from claude_force.provider.resilient import ResilientClient
from claude_force.resilience.circuit_breakers import CircuitBreakers
from claude_force.resilience.governor import Governor
from claude_force.resilience.retries import RetryPolicy
from claude_force.resilience.shared_breakers import SharedBreakers
from claude_force.resilience.shared_database import SharedDatabase
from claude_force.resilience.shared_limits import SharedLimits
from claude_force.resilience.shared_view import read_state

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli, Project

    from claude_force.simulator import SimulatorThread


@pytest.fixture
def limits_path(project: Project) -> Path:
    """Where the runs of the project share what they know."""
    return project.home / "state" / "claude-force" / "limits.db"


def ask(
    simulator: SimulatorThread, path: Path, times: int, *, later_seconds: float = 0
) -> list[Any]:
    """How calls one after the other end, in a process whose clock is so much later."""

    def clock() -> float:
        return time.time() + later_seconds

    async def main() -> list[Any]:
        database = SharedDatabase(path)
        client = ResilientClient(
            MessagesApiClient(api_key=KEY, base_url=simulator.base_url),
            governor=Governor(shared=SharedLimits(database)),
            breakers=CircuitBreakers(shared=SharedBreakers(database), wall_clock=clock),
            origin=simulator.base_url,
            policy=RetryPolicy(max_retries=0),
            timeout_seconds=30,
        )
        message = Message("user", (TextBlock("Say something."),))
        request = MessageRequest(model="claude-sonnet-5-5", messages=(message,), max_tokens=4096)
        found = [
            (await asyncio.gather(client.send(request), return_exceptions=True))[0]
            for _ in range(times)
        ]
        await client.aclose()
        return found

    return asyncio.run(main())


def test_outage_is_told_with_its_last_error_and_when_the_next_probe_is_due(
    simulator: SimulatorThread, limits_path: Path, cli: Cli
) -> None:
    simulator.use_scenario("outage")
    began = time.time()
    ask(simulator, limits_path, 5)
    sent = simulator.stats.requests
    shown = cli("health", "--check", "--json")
    assert (shown.code, shown.json["healthy"]) == (1, False)
    (breaker,) = shown.json["breakers"].values()
    assert breaker["phase"] == "open"
    assert 60 <= breaker["next_probe_at"] - began < 90
    assert breaker["last_error"].startswith("The API reports an error (status")
    said = cli("health", "--check")
    assert said.code == 1
    assert "NOT healthy" in said.out
    assert "next probe at " in said.out
    assert simulator.stats.requests == sent == 5


def test_probe_that_fails_keeps_it_unhealthy_for_another_interval(
    simulator: SimulatorThread, limits_path: Path
) -> None:
    simulator.use_scenario("outage")
    ask(simulator, limits_path, 5)
    (probe, refused) = ask(simulator, limits_path, 2, later_seconds=61)
    assert type(probe) is ServiceError
    assert type(refused) is CircuitOpenError
    state = read_state(limits_path, wall_clock=lambda: time.time() + 65)
    assert state is not None
    assert [state.phase(key) for key in state.breakers] == ["open"]
    assert not state.healthy


def test_breaker_that_nobody_has_probed_keeps_no_script_from_trying(
    simulator: SimulatorThread, limits_path: Path
) -> None:
    """The run that met the outage has ended; an hour later `health --check && run` has to run."""
    simulator.use_scenario("outage")
    ask(simulator, limits_path, 5)
    state = read_state(limits_path, wall_clock=lambda: time.time() + 3600)
    assert state is not None
    assert [state.phase(key) for key in state.breakers] == ["probe_due"]
    assert state.healthy


def test_recovery_is_told_and_the_errors_stay_to_be_looked_at(
    simulator: SimulatorThread, limits_path: Path, cli: Cli
) -> None:
    simulator.use_scenario("outage")
    ask(simulator, limits_path, 5)
    assert cli("health", "--check").code == 1
    simulator.use_scenario("instant")
    answers = ask(simulator, limits_path, 3, later_seconds=61)
    assert [answer.complete for answer in answers] == [True] * 3
    shown = cli("health", "--check", "--json")
    assert (shown.code, shown.json["healthy"], shown.json["breakers"]) == (0, True, {})
    assert [(one["kind"], one["count"]) for one in shown.json["errors"]] == [("service", 5)]
    assert cli("health").out.startswith("healthy\n")
