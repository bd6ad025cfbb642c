"""Keeps the answers of whole runs: past their lifetime, and when others make room."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from claude_force.cache.disk_pins import pin, pin_mark, pinned_runs, unpin
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from claude_force.cache.disk_commit import DiskCommit
    from claude_force.cache.disk_pins import PinnedRun
    from claude_force.cache.disk_tier import DiskTier
    from claude_force.cache.entries import EntrySigner
    from claude_force.cache.fingerprint import CacheKey

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PinReport:
    """What became of a pin."""

    run_id: str
    # Answers that stay from now on.
    pinned: int
    # Answers of the run that the cache does not hold: never kept, or gone already.
    missing: int


class Pins:
    """The pins in the file of a disk tier. Any number of processes may change them; every method waits for the disk.

    A pinned entry is served whatever its age, unless a caller asks for a younger one; it is signed and checked like any
    other. The pins themselves are signed too: nobody can put off the end of an answer by editing the file.

    Raises:
        StorageError: by every method, when the file cannot be used.
    """

    def __init__(
        self,
        tier: DiskTier,
        path: Path,
        *,
        signer: EntrySigner,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.tier = tier
        self._path = path
        self._signer = signer
        self._wall_clock = wall_clock

    def pin(self, run_id: str, keys: Iterable[CacheKey]) -> PinReport:
        """Keep the entries of these keys for a run, all that are there or none.

        Raises:
            InputError: they do not fit beside what is pinned already.
        """
        wanted = list(dict.fromkeys(keys))
        held = [key for key in wanted if self.tier.get(key) is not None]
        if held:
            marks = [(key, self._signer.mark(pin_mark(key, run_id))) for key in held]
            now = self._wall_clock()

            def work(commit: DiskCommit) -> bool:
                commit.change_pins(
                    lambda connection, budget: pin(connection, budget, run_id, marks, now=now),
                    len(marks),
                )
                return True

            self._changed(work)
        return PinReport(run_id=run_id, pinned=len(held), missing=len(wanted) - len(held))

    def unpin(self, run_id: str) -> int:
        """Let go of what a run keeps; how many entries it had."""
        pins = sum(run.entries for run in self.runs())
        if not pins:
            # Pins of entries that are gone, at most.
            pins = 1
        return self._changed(
            lambda commit: commit.change_pins(lambda one, _: unpin(one, run_id), pins), default=0
        )

    def runs(self) -> tuple[PinnedRun, ...]:
        """Every run that keeps something, the one pinned last first."""
        return self._changed(
            lambda commit: commit.change_pins(lambda one, _: pinned_runs(one), 0), default=()
        )

    def holds(self, key: CacheKey) -> bool:
        """Whether a run keeps the entry of this key."""
        return self.tier.is_pinned(key)

    def _changed(self, work: Callable[[DiskCommit], T], *, default: T | None = None) -> T:
        found = self.tier.change(work)
        if found is not None:
            return found
        if default is not None and not self._path.exists():
            return default
        raise StorageError(
            "The cache's file cannot be used, so its pins cannot be changed or read."
        )
