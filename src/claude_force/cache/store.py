"""The tiers as one: memory first, then what is slower; a hit below fills what is above."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final

from claude_force.cache.count_down import CountDown
from claude_force.cache.disk_layout import DEFAULT_PINNED_SHARE
from claude_force.cache.disk_tier import DATABASE_FILE, DiskTier
from claude_force.cache.entries import EntrySigner
from claude_force.cache.exchange import export_entries, imported_entries
from claude_force.cache.memory_tier import MemoryTier
from claude_force.cache.pins import Pins
from claude_force.cache.policy import Freshness
from claude_force.cache.secret import given_secret, kept_secret
from claude_force.cache.why import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from claude_force.cache.entries import CacheEntry
    from claude_force.cache.fingerprint import CacheKey
    from claude_force.cache.policy import Lifetimes
    from claude_force.cache.tier import Tier, TierStats
    from claude_force.cache.why import Explanation
    from claude_force.domain.messages import CacheTier

# Entries of memory are also on disk; more than this is better left to other programs.
DEFAULT_MEMORY_BYTES: Final = 32 * 1024 * 1024
# `why` looks at the entries that were used last; older ones are hardly what the user thinks of.
_COMPARED: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An entry that may be served, if only in need."""

    entry: CacheEntry
    tier: CacheTier
    age_seconds: float
    # Never EXPIRED: such an entry is not found.
    freshness: Freshness

    @property
    def stale(self) -> bool:
        """Past its life, or older than the caller asked for."""
        return self.freshness is not Freshness.FRESH


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a check of every stored record found."""

    valid: int
    # Edited, cut off, or signed with another secret. They are misses, and go when room is needed.
    invalid: int


class CacheStore:
    """Entries by key over several tiers, with one rule for their life. Safe in any thread and loop.

    Methods that can wait for a disk have an async twin, or say so. Nothing raises for the sake of a disk.
    """

    def __init__(
        self,
        *,
        memory: MemoryTier,
        lower: Sequence[Tier],
        signer: EntrySigner,
        lifetimes: Lifetimes,
        pins: Pins | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._memory = memory
        # None where nothing is kept on disk.
        self.pins = pins
        self._lower = tuple(lower)
        self._signer = signer
        self._lifetimes = lifetimes
        self._wall_clock = wall_clock
        # One thread reads for all loops: SQLite reads one at a time anyway.
        self._reader: ThreadPoolExecutor | None = None
        self._starting = Lock()
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _start_over(reference))

    def lookup_memory(self, key: CacheKey, *, max_age_seconds: float | None = None) -> Found | None:
        """What memory holds of ``key``. Waits for nothing, so it is the first look on an event loop."""
        entry = self._memory.get(key)
        if entry is None:
            return None
        found = self._found(entry, "memory", max_age_seconds)
        if found is None:
            # Too old for this caller is not too old for every one.
            if max_age_seconds is None:
                self._memory.discard(key)
            return None
        for tier in self._lower:
            tier.touch(key)
        return found

    def lookup(self, key: CacheKey, *, max_age_seconds: float | None = None) -> Found | None:
        """What any tier holds of ``key``, the quickest first. Waits for a disk, so it is not for an event loop.

        A stale entry does not hide a younger one below it, which another process may have written.
        """
        best = self.lookup_memory(key, max_age_seconds=max_age_seconds)
        for tier in self._lower:
            if best is not None and not best.stale:
                break
            entry = tier.get(key)
            found = None if entry is None else self._found_in(tier, entry, max_age_seconds)
            if found is not None and (best is None or _is_better(found, best)):
                self._fill_above(tier, found.entry)
                best = found
        return best

    async def lookup_async(
        self, key: CacheKey, *, max_age_seconds: float | None = None
    ) -> Found | None:
        """``lookup`` with the disk read on a thread of the store."""
        found = self.lookup_memory(key, max_age_seconds=max_age_seconds)
        if not self._lower or (found is not None and not found.stale):
            return found
        return await asyncio.get_running_loop().run_in_executor(
            self._reading_thread(), lambda: self.lookup(key, max_age_seconds=max_age_seconds)
        )

    def put(self, entry: CacheEntry, on_settled: Callable[[], object] | None = None) -> None:
        """Keep ``entry``: found here at once, by other processes when ``on_settled`` is called. Never waits.

        Whether an answer may be stored at all is the caller's to decide (``policy.may_store``).
        """
        self._memory.put(entry)
        if on_settled is not None:
            on_settled = CountDown(len(self._lower), on_settled)
        for tier in self._lower:
            tier.put(entry, on_settled)

    def _fill_above(self, source: Tier, entry: CacheEntry) -> None:
        """Keep what a lower tier had in those that are asked before it."""
        self._memory.put(entry)
        for tier in self._lower:
            if tier is source:
                break
            tier.put(entry)

    def clear(
        self, *, agent_name: str | None = None, older_than_seconds: float | None = None
    ) -> int:
        """Remove the entries of an agent, older than an age, or all; how many the largest tier had. Waits."""
        created_before = (
            None if older_than_seconds is None else self._wall_clock() - older_than_seconds
        )
        tiers = (self._memory, *self._lower)
        return max(
            tier.clear(agent_name=agent_name, created_before=created_before) for tier in tiers
        )

    def verify(self) -> Verification:
        """Check the signature of every record in the lower tiers. Waits."""
        valid = invalid = 0
        for tier in self._lower:
            for entry in tier.records():
                valid, invalid = (valid, invalid + 1) if entry is None else (valid + 1, invalid)
        return Verification(valid=valid, invalid=invalid)

    def entries(self) -> Iterator[CacheEntry]:
        """Every valid entry of the largest tier, the one used last first. Waits."""
        tier: Tier = self._lower[0] if self._lower else self._memory
        return (entry for entry in tier.records() if entry is not None)

    def export_to(self, path: Path) -> int:
        """Write every valid entry to a new file, for a machine with the same secret; how many. Waits.

        Raises:
            InputError: the file exists already, or cannot be made.
        """
        return export_entries(path, self.entries(), self._signer)

    def import_from(self, path: Path) -> tuple[int, int]:
        """Take the entries of an exported file: how many were taken, and how many refused. Waits.

        Refused are lines that are damaged or signed with another secret. Entries keep their age, and one that is
        here already is replaced only by a younger one.

        Raises:
            InputError: the file cannot be read.
        """
        taken = refused = 0
        for entry in imported_entries(path, self._signer):
            if entry is None:
                refused += 1
                continue
            present = self.lookup(entry.key)
            if present is None or present.entry.created_at < entry.created_at:
                self.put(entry)
            taken += 1
        self.flush()
        return taken, refused

    def why(
        self, fields: Mapping[str, str], *, except_key: CacheKey | None = None
    ) -> Explanation | None:
        """How a request (``fingerprint.request_fields``) compares with the nearest entry. Waits.

        ``except_key`` leaves out the entry that the request itself has left since.
        """
        recent = (entry for entry, _ in zip(self.entries(), range(_COMPARED), strict=False))
        return explain(fields, (entry for entry in recent if entry.key != except_key))

    def stats(self) -> tuple[TierStats, ...]:
        """Every tier in numbers, the quickest first. Waits."""
        return tuple(tier.stats() for tier in (self._memory, *self._lower))

    def flush(self) -> None:
        """Wait until everything that was put is settled."""
        for tier in self._lower:
            tier.flush()

    def close(self) -> None:
        """Write what is waiting and give resources back. Waits."""
        with self._starting:
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.shutdown(wait=True)
        for tier in (*self._lower, self._memory):
            tier.close()

    async def aclose(self) -> None:
        """``close`` beside the event loop."""
        await asyncio.to_thread(self.close)

    def start_over_after_fork(self) -> None:
        """Let go of the thread that stayed in the parent process."""
        self._reader = None
        self._starting = Lock()

    def _found(
        self, entry: CacheEntry, tier: CacheTier, max_age_seconds: float | None
    ) -> Found | None:
        # A clock that was set back does not make an answer younger than new.
        age_seconds = max(0.0, self._wall_clock() - entry.created_at)
        freshness = self._lifetimes.freshness(age_seconds, max_age_seconds=max_age_seconds)
        if freshness is Freshness.EXPIRED:
            return None
        return Found(entry=entry, tier=tier, age_seconds=age_seconds, freshness=freshness)

    def _found_in(
        self, tier: Tier, entry: CacheEntry, max_age_seconds: float | None
    ) -> Found | None:
        found = self._found(entry, tier.name, max_age_seconds)
        pins = self.pins
        if (found is not None and not found.stale) or pins is None or tier is not pins.tier:
            return found
        age_seconds = max(0.0, self._wall_clock() - entry.created_at)
        # A pin takes the place of the lifetime, not of what the caller asks for.
        if (max_age_seconds is None or age_seconds < max_age_seconds) and pins.holds(entry.key):
            fresh = Freshness.FRESH
            return Found(entry=entry, tier=tier.name, age_seconds=age_seconds, freshness=fresh)
        return found

    def _reading_thread(self) -> ThreadPoolExecutor:
        reader = self._reader
        if reader is None:
            with self._starting:
                reader = self._reader = self._reader or _new_thread()
        return reader


def open_store(
    folder: Path,
    *,
    lifetimes: Lifetimes,
    max_bytes: int,
    pinned_share: float = DEFAULT_PINNED_SHARE,
    secret: str | bytes | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    use_integrity_check: bool = True,
    redis_url: str | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> CacheStore:
    """A store over memory, a database in ``folder``, and Redis where ``redis_url`` names a server.

    Nothing is opened or made before the first use. Without ``secret`` a random one is made in ``folder``, once;
    machines that share a server have to be given the same.

    Raises:
        ConfigError: the secret is empty, or the address of Redis cannot be used.
        OptionalDependencyError: Redis is asked for, and its library is not installed.
    """
    signer = EntrySigner((lambda: kept_secret(folder)) if secret is None else given_secret(secret))
    disk = DiskTier(
        folder / DATABASE_FILE,
        signer=signer,
        max_bytes=max_bytes,
        pinned_share=pinned_share,
        keep_seconds=lifetimes.keep_seconds,
        use_integrity_check=use_integrity_check,
        wall_clock=wall_clock,
    )
    lower: tuple[Tier, ...] = (disk,)
    if redis_url is not None:
        from claude_force.cache.redis_tier import RedisTier  # noqa: PLC0415 - as above
        from claude_force.storage.redis_link import RedisLink  # noqa: PLC0415 - few use it: start-up time

        link = RedisLink(redis_url)
        link.check()
        shared = RedisTier(
            link,
            signer=signer,
            max_entry_bytes=max_bytes,
            keep_seconds=lifetimes.keep_seconds,
            wall_clock=wall_clock,
        )
        lower = (disk, shared)
    return CacheStore(
        memory=MemoryTier(min(memory_bytes, max_bytes)),
        lower=lower,
        signer=signer,
        lifetimes=lifetimes,
        pins=Pins(disk, folder / DATABASE_FILE, signer=signer, wall_clock=wall_clock),
        wall_clock=wall_clock,
    )


def _new_thread() -> ThreadPoolExecutor:
    # Imported where it is needed: a run without a cache does without it.
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - start-up time

    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="claude-force-cache-reader")


def _is_better(found: Found, best: Found) -> bool:
    return found.age_seconds < best.age_seconds or (best.stale and not found.stale)


def _start_over(reference: weakref.ref[CacheStore]) -> None:
    store = reference()
    if store is not None:
        store.start_over_after_fork()
