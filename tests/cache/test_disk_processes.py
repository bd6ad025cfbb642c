"""The tier on disk under several processes, and under `kill -9`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from claude_force.cache.disk_tier import DATABASE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from claude_force.cache.disk_tier import DiskTier
    from claude_force.cache.entries import CacheEntry

MAX_BYTES = 2 * 1024 * 1024
LARGEST_BYTES = 60_000

WRITER = """
import random, sys
from pathlib import Path
from claude_force.cache.disk_tier import DiskTier
from claude_force.cache.entries import CacheEntry, EntrySigner
path, seed, max_bytes, largest, count = Path(sys.argv[1]), *map(int, sys.argv[2:6])
random.seed(seed)
tier = DiskTier(path, signer=EntrySigner(b"shared"), max_bytes=max_bytes)
for index in range(count):
    number = seed * 1_000_000 + index
    body = random.randbytes(random.choice([50, 400, 4_000, largest]))
    tier.put(CacheEntry(key=f"{number:032x}", agent_name="a", model="m", created_at=1.0, body=body))
    if index % 7 == 0:
        tier.get(f"{number - 3:032x}")
    if index % 20 == 19:
        tier.flush()
        print(index, flush=True)
tier.close()
stats = tier.stats()
print("failures", stats.failures, stats.integrity_failures, flush=True)
"""


def _start(
    path: Path, seed: int, *, count: int, max_bytes: int = MAX_BYTES
) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-c",
        WRITER,
        str(path),
        str(seed),
        str(max_bytes),
        str(LARGEST_BYTES),
        str(count),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _bytes_on_disk(path: Path) -> int:
    total = 0
    for name in (path.name, f"{path.name}-wal"):
        try:
            total += path.with_name(name).stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_four_writing_processes_stay_within_the_bound_and_do_not_drift(
    tmp_path: Path, open_tier: Callable[..., DiskTier]
) -> None:
    path = tmp_path / DATABASE_FILE
    processes = [_start(path, seed, count=300) for seed in range(1, 5)]
    largest_seen = 0
    while any(process.poll() is None for process in processes):
        largest_seen = max(largest_seen, _bytes_on_disk(path))
        time.sleep(0.002)
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert output.splitlines()[-1] == "failures 0 0"
    assert largest_seen <= MAX_BYTES + LARGEST_BYTES + 4096
    # Near the bound, or nothing was tested.
    assert largest_seen > MAX_BYTES // 2
    tier = open_tier(secret=b"shared", max_bytes=MAX_BYTES)
    records = list(tier.records())
    assert None not in records
    assert tier.stats().entries == len(records)
    assert _bytes_on_disk(path) <= MAX_BYTES


def test_a_killed_writer_leaves_whole_entries_and_right_sums(
    tmp_path: Path, open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry]
) -> None:
    path = tmp_path / DATABASE_FILE
    for seed in range(1, 4):
        process = _start(path, seed, count=100_000)
        assert process.stdout is not None
        # At work, with some batches behind it.
        for _ in range(3):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        tier = open_tier(secret=b"shared", max_bytes=MAX_BYTES)
        tier.put(make_entry(seed))
        tier.flush()
        records = list(tier.records())
        assert None not in records
        assert tier.stats().entries == len(records)
        assert tier.get(make_entry(seed).key) == make_entry(seed)
        assert _bytes_on_disk(path) <= MAX_BYTES + LARGEST_BYTES
        tier.close()


def test_what_a_process_was_told_is_settled_survives_its_kill(
    tmp_path: Path, open_tier: Callable[..., DiskTier]
) -> None:
    script = """
import sys, threading, time
from pathlib import Path
from claude_force.cache.disk_tier import DiskTier
from claude_force.cache.entries import CacheEntry, EntrySigner
tier = DiskTier(Path(sys.argv[1]), signer=EntrySigner(b"shared"), max_bytes=4_000_000)
settled = threading.Event()
tier.put(CacheEntry(key=f"{7:032x}", agent_name="a", model="m", created_at=1.0, body=b"kept"), settled.set)
settled.wait(30)
print("settled", flush=True)
time.sleep(60)
"""
    path = tmp_path / DATABASE_FILE
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "settled\n"
    process.kill()
    process.communicate(timeout=60)
    found = open_tier(secret=b"shared").get(f"{7:032x}")  # type: ignore[arg-type] # a key as text
    assert found is not None
    assert found.body == b"kept"


def test_what_was_put_is_written_at_the_exit_of_the_process(
    tmp_path: Path, open_tier: Callable[..., DiskTier]
) -> None:
    script = """
import sys
from pathlib import Path
from claude_force.cache.disk_tier import DiskTier
from claude_force.cache.entries import CacheEntry, EntrySigner
tier = DiskTier(Path(sys.argv[1]), signer=EntrySigner(b"shared"), max_bytes=4_000_000)
for number in range(50):
    tier.put(CacheEntry(key=f"{number:032x}", agent_name="a", model="m", created_at=1.0, body=b"kept"))
"""
    path = tmp_path / DATABASE_FILE
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    assert open_tier(secret=b"shared").stats().entries == 50
