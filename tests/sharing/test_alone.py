"""What a machine does while the server is gone, and what it tells a server that comes back empty."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from claude_force.resilience.redis_view import change_redis_limits, read_redis_state
from claude_force.resilience.shared_view import change_limits
from claude_force.resilience.sharing import (
    KINDS,
    Ask,
    ClassReport,
    Report,
    Standing,
    UserLimits,
)
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RedisServer
    from tests.sharing.conftest import MakeMachine

KEY = "sonnet at https://api"


def report(
    *, held: float = 0.0, limit: float | None = None, error: float | None = None, source: str = ""
) -> Report:
    """A process that wants a lot."""
    ask = Ask(
        held=held, claim=held, wanted=1e6, needed=1.0, limit=limit, error=error, source=source
    )
    told = ClassReport(asks=dict.fromkeys(KINDS, ask), demand=10)
    return Report(in_flight=0, waiting=10, classes={KEY: told})


def held(standing: Standing) -> float:
    return standing.classes[KEY].shares["requests"].held


def source(standing: Standing) -> str:
    return standing.classes[KEY].shares["requests"].source


def limit(standing: Standing) -> float | None:
    return standing.classes[KEY].shares["requests"].limit


def test_two_machines_go_on_with_half_of_everything_each_and_start_from_nothing(
    make_machine: MakeMachine, redis_server: RedisServer
) -> None:
    change_redis_limits(redis_server.url, max_concurrent=7, requests_per_minute=90)
    one, two = make_machine("one"), make_machine("two")
    before = one.limits.exchange(report())
    two.limits.exchange(report())
    first = one.limits.exchange(report(limit=600.0, error=600.0, source=source(before)))
    assert held(first) == 300.0
    assert held(two.limits.exchange(report())) == 150.0
    redis_server.stop()
    for machine in (one, two):
        alone = machine.limits.exchange(report(held=300.0, limit=600.0, error=50.0, source="x"))
        # What was held is void, and what the API says of all machines is not this one's.
        assert limit(alone) == 300.0
        assert 0.0 <= held(alone) < 20.0
        assert alone.limits == UserLimits(max_concurrent=3, requests_per_minute=45)
        assert alone.places == 3
    # Nothing was there, and half of ten a second come in.
    time.sleep(0.5)
    more = held(one.limits.exchange(report()))
    assert 1.0 < more < 60.0


def test_a_pause_holds_on_while_the_server_is_gone_and_when_it_is_back(
    make_machine: MakeMachine, redis_server: RedisServer
) -> None:
    machine = make_machine("one")
    change_redis_limits(redis_server.url, paused=True, max_concurrent=5)
    assert machine.limits.exchange(report()).limits.paused is True
    redis_server.stop()
    assert machine.limits.exchange(report()).limits == UserLimits(max_concurrent=5, paused=True)
    redis_server.start()
    deadline = time.monotonic() + 20
    while not read_redis_state(redis_server.url).processes:
        machine.limits.exchange(report())
        assert time.monotonic() < deadline
        time.sleep(0.1)
    state = read_redis_state(redis_server.url)
    assert state.user_limits == UserLimits(max_concurrent=5, paused=True)


def test_what_is_set_for_the_machine_holds_while_it_is_alone(
    make_machine: MakeMachine, redis_server: RedisServer, tmp_path: Path
) -> None:
    machine = make_machine("one")
    change_redis_limits(redis_server.url, max_concurrent=5, requests_per_minute=60)
    change_limits(
        tmp_path / "one" / "limits.db", max_concurrent=3, requests_per_minute=90, paused=True
    )
    shared = UserLimits(max_concurrent=5, requests_per_minute=60)
    assert machine.limits.exchange(report()).limits == shared
    redis_server.stop()
    alone = UserLimits(max_concurrent=3, requests_per_minute=60, paused=True)
    assert machine.limits.exchange(report()).limits == alone


def test_a_server_that_comes_back_empty_is_told_the_limits_and_fills_them_from_nothing(
    make_machine: MakeMachine, redis_server: RedisServer
) -> None:
    machine = make_machine("one")
    before = machine.limits.exchange(report())
    full = machine.limits.exchange(report(limit=600.0, error=600.0, source=source(before)))
    assert held(full) == 600.0
    redis_server.stop()
    redis_server.start()
    # Without a failure in between: what is held is from an earlier life of the server, and void.
    again = machine.limits.exchange(report(held=600.0, source=source(full)))
    assert limit(again) == 600.0
    assert held(again) == 0.0
    time.sleep(0.3)
    assert 1.0 < held(machine.limits.exchange(report())) < 100.0


def test_a_server_that_hangs_holds_a_visit_up_once_and_briefly(
    make_machine: MakeMachine, tmp_path: Path
) -> None:
    from claude_force.assembly.meeting import open_limits

    with socket.create_server(("127.0.0.1", 0)) as silent:
        limits, _ = open_limits(tmp_path / "hung", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        began = time.monotonic()
        for _ in range(50):
            limits.exchange(report())
        assert time.monotonic() - began < 5
        limits.close()


def test_without_server_and_disk_a_visit_is_an_error(
    make_machine: MakeMachine, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.stop()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "limits.db").write_bytes(b"no database" * 100)
    machine = make_machine("one")
    with pytest.raises(StorageError):
        machine.limits.exchange(report())
