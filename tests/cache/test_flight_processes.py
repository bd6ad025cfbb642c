"""Single flight over the processes of a machine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx

from claude_force.cache.fingerprint import CacheKey
from claude_force.cache.machine_lock import LOCK_FILE, MachineLock
from claude_force.cache.single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = CacheKey("00ff" * 8)
OTHER = CacheKey("11ff" * 8)

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="locks between processes are those of Unix"
)

# Every call appends a line to a log; the answer is stored on disk as the lead wires it.
CALLER = """
import asyncio, sys
from pathlib import Path
from claude_force.cache.entries import CacheEntry
from claude_force.cache.machine_lock import MachineLock
from claude_force.cache.policy import Lifetimes
from claude_force.cache.single_flight import SingleFlight
from claude_force.cache.store import open_store
folder, equal_calls, call_seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
KEY = "00ff" * 8

async def main():
    store = open_store(folder, lifetimes=Lifetimes(ttl_seconds=3600), max_bytes=4_000_000)
    flight = SingleFlight(machine_lock=MachineLock(folder / "flights.lock"))
    async def find():
        return await store.lookup_async(KEY)
    async def fetch():
        with (folder / "calls").open("a") as log:
            log.write("call\\n")
        print("leading", flush=True)
        await asyncio.sleep(call_seconds)
        return CacheEntry(key=KEY, agent_name="a", model="m", created_at=__import__("time").time(), body=b"answer")
    def keep(entry, settled):
        store.put(entry, settled)
    landings = await asyncio.gather(*[flight.run(KEY, find=find, fetch=fetch, keep=keep) for _ in range(equal_calls)])
    bodies = {getattr(landing.value, "entry", landing.value).body for landing in landings}
    assert bodies == {b"answer"}, bodies
    await store.aclose()
    flight.close()

sys.stdin.read(1)
asyncio.run(main())
print("done", flush=True)
"""


def _start(folder: Path, *, equal_calls: int, call_seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CALLER, str(folder), str(equal_calls), str(call_seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("g")
    process.stdin.flush()


def test_fifty_equal_calls_in_each_of_four_processes_make_one_request(tmp_path: Path) -> None:
    processes = [_start(tmp_path, equal_calls=50, call_seconds=0.5) for _ in range(4)]
    for process in processes:
        _go(process)
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert output.endswith("done\n")
    assert (tmp_path / "calls").read_text() == "call\n"


def test_a_killed_leader_hands_over_within_seconds(tmp_path: Path) -> None:
    leader = _start(tmp_path, equal_calls=1, call_seconds=3600)
    _go(leader)
    assert leader.stdout is not None
    assert leader.stdout.readline() == "leading\n"
    follower = _start(tmp_path, equal_calls=2, call_seconds=0)
    _go(follower)
    leader.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    leader.communicate(timeout=60)
    output, _ = follower.communicate(timeout=60)
    assert output == "leading\ndone\n"
    assert time.monotonic() - killed_at < 20
    assert (tmp_path / "calls").read_text() == "call\ncall\n"


def test_two_locks_of_one_process_exclude_each_other_by_key(tmp_path: Path) -> None:
    one, two = MachineLock(tmp_path / LOCK_FILE), MachineLock(tmp_path / LOCK_FILE)
    assert one.acquire(KEY)
    assert not two.acquire(KEY)
    assert two.acquire(OTHER)
    one.release(KEY)
    assert two.acquire(KEY)
    two.close()
    assert one.acquire(OTHER)
    one.close()
    assert (tmp_path / LOCK_FILE).stat().st_size == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_keep_its_parents_lock(tmp_path: Path) -> None:
    holder, other = MachineLock(tmp_path / LOCK_FILE), MachineLock(tmp_path / LOCK_FILE)
    flight = SingleFlight[str](machine_lock=holder)
    assert holder.acquire(KEY)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        # Lives until the parent is through.
        os.read(read_end, 1)
        os._exit(0)
    os.close(read_end)
    flight.close()
    deadline = time.monotonic() + 20
    while not other.acquire(KEY):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.close(write_end)
    os.waitpid(child, 0)
    other.close()


def test_the_event_loop_does_not_wait_for_the_file_of_locks(tmp_path: Path) -> None:
    flight = SingleFlight[str](machine_lock=MachineLock(tmp_path / "new" / LOCK_FILE))

    async def find() -> str | None:
        return "found"

    async def fetch() -> str:
        return "fetched"

    async def main() -> None:
        landing = await flight.run(KEY, find=find, fetch=fetch, keep=lambda _, settled: settled())
        assert landing.value == "found"

    with blockbuster_ctx():
        asyncio.run(main())
    assert (tmp_path / "new" / LOCK_FILE).exists()
    flight.close()


def test_without_a_place_for_locks_calls_are_made_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    lock = MachineLock(tmp_path / "file" / LOCK_FILE)
    assert lock.acquire(KEY)
    lock.release(KEY)
    lock.close()


def test_a_waiter_that_lost_patience_calls_without_the_lock_and_leaves_it_to_its_holder(
    tmp_path: Path,
) -> None:
    holder, third = MachineLock(tmp_path / LOCK_FILE), MachineLock(tmp_path / LOCK_FILE)
    assert holder.acquire(KEY)
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    async def find() -> str | None:
        return None

    async def fetch() -> str:
        return "answer"

    def keep(_: str, settled: Callable[[], None]) -> None:
        settled()

    flight = SingleFlight[str](
        machine_lock=MachineLock(tmp_path / LOCK_FILE),
        patience_seconds=30.0,
        monotonic=lambda: now[0],
        sleep=sleep,
    )
    landing = asyncio.run(flight.run(KEY, find=find, fetch=fetch, keep=keep))
    assert landing.value == "answer"
    assert now[0] >= 30.0
    assert not third.acquire(KEY)
    for lock in (holder, third):
        lock.close()
    flight.close()
