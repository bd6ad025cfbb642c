"""The disk tier against a model, over any sequence of writes, reads, clearings, reopenings and crashes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from claude_force.cache.disk_tier import DATABASE_FILE, DiskTier
from claude_force.cache.entries import CacheEntry, EntrySigner
from claude_force.cache.fingerprint import CacheKey

MAX_BYTES = 400 * 1024
_numbers = st.integers(0, 30)


class DiskTierMachine(RuleBasedStateMachine):
    def __init__(self, tmp_path: Path) -> None:
        super().__init__()
        self.tmp_path = tmp_path
        self.folder = Path(tempfile.mkdtemp(dir=tmp_path))
        self.path = self.folder / DATABASE_FILE
        self.put_last: dict[CacheKey, CacheEntry] = {}
        # What may have been lost by a crash: the version before stays allowed.
        self.older: dict[CacheKey, list[CacheEntry]] = {}
        self.newest: CacheEntry | None = None
        self.version = 0
        self.tier = self._open()

    def _open(self) -> DiskTier:
        return DiskTier(self.path, signer=EntrySigner(b"machine"), max_bytes=MAX_BYTES)

    @rule(number=_numbers, size=st.sampled_from([10, 3_000, 9_000, 60_000]))
    def put(self, number: int, size: int) -> None:
        self.version += 1
        entry = CacheEntry(
            key=CacheKey(f"{number:032x}"),
            agent_name="a",
            model="m",
            created_at=float(self.version),
            body=bytes(size),
        )
        if entry.key in self.put_last:
            self.older.setdefault(entry.key, []).append(self.put_last[entry.key])
        self.put_last[entry.key] = self.newest = entry
        self.tier.put(entry)

    @rule(number=_numbers)
    def get(self, number: int) -> None:
        key = CacheKey(f"{number:032x}")
        found = self.tier.get(key)
        allowed = [None, self.put_last.get(key), *self.older.get(key, [])]
        assert found in allowed

    @rule()
    def flush(self) -> None:
        self.tier.flush()
        self.older.clear()
        # The newest entry is never the victim.
        if self.newest is not None:
            assert self.tier.get(self.newest.key) == self.newest

    @rule()
    def reopen(self) -> None:
        self.tier.close()
        self.older.clear()
        self.tier = self._open()
        if self.newest is not None:
            assert self.tier.get(self.newest.key) == self.newest

    @rule()
    def crash(self) -> None:
        """Files as they are in the middle of a run, opened by a process that knows nothing of the first."""
        copy = Path(tempfile.mkdtemp(dir=self.tmp_path))
        for file in self.folder.iterdir():
            # A crash of the machine or a kill leaves the file and its log; the shared index is rebuilt.
            if not file.name.endswith("-shm"):
                shutil.copy(file, copy / file.name)
        self.tier.close()
        shutil.rmtree(self.folder)
        self.folder, self.path = copy, copy / DATABASE_FILE
        self.tier = self._open()
        for key, entry in self.put_last.items():
            self.older.setdefault(key, []).append(entry)
        self.newest = None

    @rule()
    def clear(self) -> None:
        self.tier.clear()
        self.put_last.clear()
        self.older.clear()
        self.newest = None
        assert self.tier.stats().entries == 0
        assert self.tier.stats().size_bytes == 0

    @invariant()
    def bytes_stay_within_the_bound(self) -> None:
        sizes = [
            file.stat().st_size
            for file in self.folder.iterdir()
            if file.name in {DATABASE_FILE, f"{DATABASE_FILE}-wal"}
        ]
        assert sum(sizes) <= MAX_BYTES + 61_000 + 4096

    def teardown(self) -> None:
        stats = self.tier.stats()
        records = list(self.tier.records())
        assert None not in records
        assert stats.entries == len(records)
        assert (stats.failures, stats.integrity_failures) == (0, 0)
        self.tier.close()
        shutil.rmtree(self.folder)


def test_no_sequence_of_operations_breaks_the_tier(tmp_path: Path) -> None:
    run_state_machine_as_test(
        lambda: DiskTierMachine(tmp_path),  # type: ignore[arg-type] # hypothesis takes any factory
        settings=settings(max_examples=25, stateful_step_count=30, deadline=None),
    )
