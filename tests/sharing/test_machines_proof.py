"""Processes with nothing in common but a Redis server obey one limit, also while some of them and the server die."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.resilience.redis_view import read_redis_state
from claude_force.simulator import Latency, RateLimits, Scenario, SimulatorThread

if TYPE_CHECKING:
    from tests.conftest import RedisServer, Until

WORKER = Path(__file__).parents[1] / "resilience" / "governed_worker.py"
MACHINES = 4
# A minute of the limits lasts so much less.
TIME_SCALE = 8.0
REQUESTS_PER_MINUTE = 600
INPUT_TOKENS_PER_MINUTE = 140_000

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def limited() -> Iterator[SimulatorThread]:
    """A service that enforces its limits."""
    scenario = Scenario(
        latency=Latency(
            distribution="fixed", first_event_median_seconds=0.05, output_tokens_per_second=100_000
        ),
        min_output_tokens=5,
        max_output_tokens=10,
        rate_limits=RateLimits(
            requests_per_minute=REQUESTS_PER_MINUTE,
            input_tokens_per_minute=INPUT_TOKENS_PER_MINUTE,
            time_scale=TIME_SCALE,
        ),
    )
    with SimulatorThread(scenario=scenario) as simulator:
        yield simulator


@pytest.fixture
def start(limited: SimulatorThread, redis_server: RedisServer, tmp_path: Path) -> Iterator[Start]:
    """Starts one process of one machine; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(number: int, calls: int) -> subprocess.Popen[str]:
        arguments = {
            "url": limited.base_url,
            "redis": redis_server.url,
            "database": str(tmp_path / f"machine-{number}" / "limits.db"),
            "first": number * calls,
            "calls": calls,
            "window_seconds": 60 / TIME_SCALE,
            "max_concurrent": 20,
        }
        started.append(
            subprocess.Popen(
                [sys.executable, str(WORKER), json.dumps(arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    report: dict[str, Any] = json.loads(out)
    assert report["sharing_failure"] is None
    assert report["in_flight"] == 0
    return report


def dictated_seconds(amount: int, per_minute: int) -> float:
    """The shortest time in which a full bucket gives ``amount``."""
    return (amount - per_minute) / per_minute * 60 / TIME_SCALE


def test_four_machines_obey_one_limit_and_use_all_of_it(
    start: Start, limited: SimulatorThread
) -> None:
    calls = 250
    reports = [ended(process) for process in [start(n, calls) for n in range(MACHINES)]]
    stats = limited.stats
    assert [report["outcomes"] for report in reports] == [{"answered": calls}] * MACHINES
    assert stats.answers == MACHINES * calls
    assert stats.rate_limited <= 0.02 * stats.requests, stats.rate_limited
    seconds = max(one["ended"] for one in reports) - min(one["started"] for one in reports)
    dictated = max(
        dictated_seconds(stats.answers, REQUESTS_PER_MINUTE),
        dictated_seconds(stats.usage.input_tokens, INPUT_TOKENS_PER_MINUTE),
    )
    assert seconds <= 1.3 * dictated, (seconds, dictated)


def test_a_machine_that_is_killed_leaves_its_share_to_the_others(
    start: Start, limited: SimulatorThread, redis_server: RedisServer, until: Until
) -> None:
    calls = 225
    processes = [start(n, calls) for n in range(MACHINES)]
    until(lambda: limited.stats.answers > 100)
    processes[0].kill()
    killed_at = time.monotonic()
    until(lambda: len(read_redis_state(redis_server.url).processes) == MACHINES - 1)
    assert time.monotonic() - killed_at < 10
    reports = [ended(process) for process in processes[1:]]
    assert [report["outcomes"] for report in reports] == [{"answered": calls}] * (MACHINES - 1)
    stats = limited.stats
    assert stats.rate_limited <= 0.02 * stats.requests, stats.rate_limited


def test_a_server_that_is_killed_and_comes_back_empty_costs_no_call_and_no_limit(
    start: Start, limited: SimulatorThread, redis_server: RedisServer, until: Until
) -> None:
    outlast(
        fail=redis_server.stop,
        recover=redis_server.start,
        start=start,
        limited=limited,
        redis_server=redis_server,
        until=until,
    )


def test_a_server_that_hangs_for_a_while_costs_no_call_and_no_limit(
    start: Start, limited: SimulatorThread, redis_server: RedisServer, until: Until
) -> None:
    outlast(
        fail=redis_server.freeze,
        recover=redis_server.thaw,
        start=start,
        limited=limited,
        redis_server=redis_server,
        until=until,
    )


def outlast(
    *,
    fail: Callable[[], None],
    recover: Callable[[], None],
    start: Start,
    limited: SimulatorThread,
    redis_server: RedisServer,
    until: Until,
) -> None:
    """Four machines go on while the server is away, and are back with it before they end."""
    calls = 275
    processes = [start(n, calls) for n in range(MACHINES)]
    until(lambda: limited.stats.answers > 150)
    fail()
    answers = limited.stats.answers
    until(lambda: limited.stats.answers > answers + 150)
    recover()
    until(lambda: len(read_redis_state(redis_server.url).processes) == MACHINES)
    reports = [ended(process) for process in processes]
    assert [report["outcomes"] for report in reports] == [{"answered": calls}] * MACHINES
    stats = limited.stats
    assert stats.answers == MACHINES * calls
    assert stats.rate_limited <= 0.02 * stats.requests, stats.rate_limited
