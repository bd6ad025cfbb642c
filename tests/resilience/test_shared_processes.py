"""Limits that real processes share: live changes, kill -9, and what commands see of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_force.domain.errors import InputError, RateLimitError
from claude_force.domain.rate_limits import LimitReading, RateSnapshot
from claude_force.domain.usage import Usage
from claude_force.resilience.breaker import BreakerState
from claude_force.resilience.governor import Governor
from claude_force.resilience.rate_class import Estimate
from claude_force.resilience.shared_breakers import SharedBreakers
from claude_force.resilience.shared_database import SharedDatabase
from claude_force.resilience.shared_limits import SharedLimits
from claude_force.resilience.shared_view import SharedState, change_limits, read_state
from claude_force.resilience.sharing import UserLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKER = Path(__file__).with_name("holding_worker.py")
PATIENCE_SECONDS = 20.0
CLASS = "sonnet at https://api"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.db"


@pytest.fixture
def start(path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts processes that hold places; whatever is left of them ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        arguments = json.dumps({"database": str(path), "tasks": 20})
        started.append(subprocess.Popen([sys.executable, str(WORKER), arguments]))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def wait_for(path: Path, condition: Callable[[SharedState], bool]) -> float:
    """Seconds until the shared state is as wanted."""
    started = time.monotonic()
    state = None
    while time.monotonic() - started < PATIENCE_SECONDS:
        state = read_state(path)
        if state is not None and condition(state):
            return time.monotonic() - started
        time.sleep(0.05)
    raise AssertionError(state)


def under_way(state: SharedState) -> list[int]:
    return sorted(process.in_flight for process in state.processes)


def test_four_processes_share_places_and_a_killed_one_leaves_its_to_the_others(
    path: Path, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    change_limits(path, max_concurrent=12)
    workers = [start() for _ in range(4)]
    wait_for(path, lambda state: sum(under_way(state)) == 12 and len(state.processes) == 4)
    workers[0].kill()
    workers[0].wait()
    seconds = wait_for(
        path, lambda state: sum(under_way(state)) == 12 and len(state.processes) == 3
    )
    assert seconds <= 10
    # A lower limit holds for what comes; a higher one is used at once.
    change_limits(path, max_concurrent=30)
    wait_for(path, lambda state: sum(under_way(state)) == 30)


def test_what_a_killed_process_had_taken_from_a_limit_goes_back_to_the_others(
    path: Path,
) -> None:
    script = (
        "import sys, os, signal; from pathlib import Path\n"
        "from claude_force.resilience.shared_database import SharedDatabase\n"
        "from claude_force.resilience.shared_limits import SharedLimits\n"
        "from claude_force.resilience.sharing import *\n"
        "limits = SharedLimits(SharedDatabase(Path(sys.argv[1])))\n"
        "def ask(kind, **more): return Ask(held=0, claim=0, wanted=40, **more)\n"
        "def visit(**more):\n"
        "    asks = {kind: ask(kind, **more) for kind in KINDS}\n"
        "    told = ClassReport(asks=asks, demand=5)\n"
        f"    return limits.exchange(Report(in_flight=0, waiting=5, classes={{'{CLASS}': told}}))\n"
        "visit(); standing = visit(limit=60.0, error=50.0)\n"
        f"print(standing.classes['{CLASS}'].shares['requests'].held, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (killed.returncode, killed.stdout.strip()) == (-9, "40")
    before = read_state(path)
    assert before is not None
    assert before.processes == ()
    assert [limit.free for limit in before.limits] == [10.0] * 3

    async def main() -> None:
        governor = Governor(shared=SharedLimits(SharedDatabase(path)))
        async with governor.slot("https://api", "claude-sonnet-5-5", "run", Estimate(1, 1)):
            pass
        await governor.aclose()

    asyncio.run(main())
    after = read_state(path)
    assert after is not None
    # 50 were there, one was used, and some have come in meanwhile.
    assert {limit.kind: limit.free for limit in after.limits}["requests"] >= 49
    assert not list(path.with_name("limits.db.leases").iterdir())


def test_pausing_and_limiting_from_another_process_act_on_calls_that_wait(path: Path) -> None:
    change_limits(path, paused=True)

    async def main() -> None:
        governor = Governor(max_concurrent=5, shared=SharedLimits(SharedDatabase(path)))

        async def call() -> None:
            async with governor.slot(
                "https://api", "claude-sonnet-5-5", "run", Estimate(1, 1)
            ) as slot:
                slot.settle(Usage(input_tokens=1, output_tokens=1))

        calls = asyncio.gather(*(call() for _ in range(10)))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not governor.statistics().paused:  # noqa: ASYNC110 - the governor tells nobody
                await asyncio.sleep(0.01)
        assert governor.statistics().waiting == 10
        await asyncio.to_thread(change_limits, path, paused=False, max_concurrent=2)
        await asyncio.wait_for(calls, PATIENCE_SECONDS)
        assert governor.statistics().user_limits == UserLimits(max_concurrent=2)
        assert governor.statistics().max_concurrent == 2
        await governor.aclose()

    asyncio.run(main())


def test_the_shared_state_tells_limits_errors_and_pauses(path: Path) -> None:
    async def main() -> None:
        governor = Governor(shared=SharedLimits(SharedDatabase(path)))
        slot = governor.slot("https://api", "claude-sonnet-5-5", "run", Estimate(100, 10))
        async with slot:
            slot.observe(RateSnapshot(requests=LimitReading(1_000, 900)))
            slot.settle(Usage(input_tokens=90, output_tokens=5))
        error = RateLimitError("slow down", status=429, retry_after_seconds=60)
        with pytest.raises(RateLimitError):
            async with governor.slot("https://api", "claude-haiku-5-5", "run", Estimate(100, 10)):
                raise error
        await governor.aclose()

    asyncio.run(main())
    state = read_state(path)
    assert state is not None
    assert state.healthy is False
    assert [
        (limit.class_key, limit.kind, limit.per_minute, 895 < limit.free <= 905)
        for limit in state.limits
    ] == [(CLASS, "requests", 1_000, True)]
    assert [(seen.class_key, seen.kind, seen.message, seen.count) for seen in state.errors] == [
        ("haiku at https://api", "rate_limit", "slow down", 1)
    ]
    assert list(state.blocked_until_epoch_seconds) == ["haiku at https://api"]
    assert state.processes == ()


def test_a_probe_of_a_killed_process_does_not_keep_the_breaker_open(path: Path) -> None:
    script = (
        "import sys, os, signal; from pathlib import Path\n"
        "from dataclasses import replace\n"
        "from claude_force.resilience.shared_database import SharedDatabase\n"
        "from claude_force.resilience.shared_breakers import SharedBreakers\n"
        "from claude_force.resilience.breaker import BreakerState\n"
        "breakers = SharedBreakers(SharedDatabase(Path(sys.argv[1])))\n"
        "breakers.change('m at https://api', lambda state: BreakerState(\n"
        "    failures=5, opened_at=0.0, probed_at=60.0, probe_by='mine'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], timeout=60, check=False)
    assert killed.returncode == -9
    database = SharedDatabase(path)
    seen: list[BreakerState] = []
    after = SharedBreakers(database).change(
        "m at https://api", lambda state: seen.append(state) or state
    )
    database.close()
    assert seen == [BreakerState(failures=5, opened_at=0.0, probed_at=60.0)]
    assert after.probe_by is None


def test_a_negative_limit_is_refused_and_zero_removes_one(path: Path) -> None:
    with pytest.raises(InputError, match="max_concurrent is -1"):
        change_limits(path, max_concurrent=-1)
    assert change_limits(path, max_concurrent=5, requests_per_minute=60) == UserLimits(
        max_concurrent=5, requests_per_minute=60
    )
    assert change_limits(path, max_concurrent=0) == UserLimits(requests_per_minute=60)


def test_without_a_file_there_is_no_state_and_none_is_made(path: Path) -> None:
    assert read_state(path) is None
    assert not path.exists()
