"""Two machines with one Redis server, from the command line and from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli, MakeBlocking, Process, Project, RedisServer

    from claude_force.simulator import SimulatorThread


def test_what_one_machine_paid_for_is_a_hit_on_another(
    project: Project,
    simulator: SimulatorThread,
    process: Process,
    redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    project.agent("writer")
    shared = {"CLAUDE_FORCE_REDIS_URL": redis_server.url, "CLAUDE_CACHE_SECRET": "of both machines"}
    results = []
    for name in ("one", "two"):
        machine = shared | {
            "XDG_CACHE_HOME": str(tmp_path / name),
            "XDG_STATE_HOME": str(tmp_path / name),
        }
        run = process("run", "agent", "writer", "--task", "Name a colour.", "--json", env=machine)
        assert run.code == 0, run.err
        results.append(run.json)
    assert len(simulator.requests) == 1
    assert results[0]["cached"] is None
    assert results[1]["cached"]["tier"] == "redis"
    assert results[0]["text"] == results[1]["text"]


def test_the_commands_of_the_cache_reach_the_server_only_when_asked_to(
    project: Project, cli: Cli, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.agent("writer")
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", "of the tests")
    monkeypatch.setenv("CLAUDE_FORCE_REDIS_URL", redis_server.url)
    assert cli("run", "agent", "writer", "--task", "Name a colour.").code == 0
    assert cli("cache", "stats", "--redis", "--json").json["redis"]["entries"] == 1
    assert cli("cache", "clear").code == 0
    assert cli("cache", "stats", "--redis", "--json").json["redis"]["entries"] == 1
    assert "redis: 1 entries" in cli("cache", "stats", "--redis").out
    assert cli("cache", "verify", "--redis").code == 0
    assert cli("cache", "clear", "--redis").code == 0
    assert cli("cache", "stats", "--redis", "--json").json["redis"]["entries"] == 0
    monkeypatch.delenv("CLAUDE_FORCE_REDIS_URL")
    refused = cli("cache", "stats", "--redis")
    assert refused.code == 3
    assert "CLAUDE_FORCE_REDIS_URL" in refused.err


def test_an_address_without_a_secret_stops_the_run_before_anything_is_sent(
    project: Project, simulator: SimulatorThread, make_blocking: MakeBlocking
) -> None:
    project.agent("writer")
    with (
        make_blocking(cache_redis_url="redis://127.0.0.1:1/0") as force,
        pytest.raises(ConfigError, match="CLAUDE_CACHE_SECRET"),
    ):
        force.run_agent("writer", "Name a colour.")
    assert len(simulator.requests) == 0


def test_an_answer_comes_also_when_the_server_is_gone(
    project: Project,
    simulator: SimulatorThread,
    make_blocking: MakeBlocking,
    redis_server: RedisServer,
) -> None:
    project.agent("writer")
    options = {"cache_redis_url": redis_server.url, "cache_secret": "of the tests"}
    redis_server.stop()
    with make_blocking(**options) as force:
        first = force.run_agent("writer", "Name a colour.")
        second = force.run_agent("writer", "Name a colour.")
    assert first.text == second.text
    assert second.cached is not None
    assert second.cached.tier == "memory"
    assert len(simulator.requests) == 1
