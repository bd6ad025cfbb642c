from __future__ import annotations

import json
import signal
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess

    from tests.conftest import Process, Project, Spawn


def greeting(server: subprocess.Popen[str]) -> Any:
    assert server.stdout is not None
    return json.loads(server.stdout.readline())


def control(server: Any, name: str, body: object = None) -> Any:
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{server['base_url']}/_simulator/{name}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"x-simulator-token": server["control_token"]},
    )
    with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - loopback
        return json.load(response)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_server_serves_other_processes_until_it_is_told_to_stop(
    spawn: Spawn, process: Process, project: Project, number: int
) -> None:
    server = spawn("simulate", "--port", "0", "--scenario", "instant", "--json")
    told = greeting(server)
    assert told.keys() == {"base_url", "control_token", "scenario"}
    assert told["base_url"].startswith("http://127.0.0.1:")
    address = {"ANTHROPIC_BASE_URL": told["base_url"]}
    assert process("run", "agent", "alpha", "-t", "x", env=address).code == 0
    control(told, "faults", [{"kind": "billing"}])
    assert process("run", "agent", "alpha", "-t", "y", env=address).code == 8
    stats = control(told, "stats")
    assert (stats["requests"], stats["answers"]) == (2, 1)
    server.send_signal(number)
    _, err = server.communicate(timeout=30)
    assert server.returncode == 0
    assert err == "The simulator has stopped.\n"


def test_greeting_for_people_can_be_pasted(spawn: Spawn) -> None:
    server = spawn("simulate", "--port", "0", "--scenario", "flaky", "--api-key", "only-this")
    assert server.stdout is not None
    lines = [server.stdout.readline() for _ in range(5)]
    assert lines[0].startswith("Simulator of the Messages API, scenario 'flaky'. No model runs")
    assert "export ANTHROPIC_BASE_URL=http://127.0.0.1:" in lines[2]
    assert "ANTHROPIC_API_KEY=only-this" in lines[2]
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=30)
    assert server.returncode == 0


def test_required_key_is_required(spawn: Spawn, process: Process) -> None:
    told = greeting(
        spawn("simulate", "--port", "0", "--scenario", "instant", "--api-key", "good", "--json")
    )
    address = {"ANTHROPIC_BASE_URL": told["base_url"]}
    assert (
        process(
            "run", "agent", "alpha", "-t", "x", env={**address, "ANTHROPIC_API_KEY": "bad"}
        ).code
        == 4
    )
    assert (
        process(
            "run", "agent", "alpha", "-t", "x", env={**address, "ANTHROPIC_API_KEY": "good"}
        ).code
        == 0
    )
