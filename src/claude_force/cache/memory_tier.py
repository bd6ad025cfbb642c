"""The tier in the memory of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from claude_force.cache.lru import ByteLru
from claude_force.cache.tier import TierStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from claude_force.cache.entries import CacheEntry
    from claude_force.cache.fingerprint import CacheKey
    from claude_force.domain.messages import CacheTier


class MemoryTier:
    """Entries in memory, bounded in bytes; a ``Tier``. Nothing in it waits, so it may be used on an event loop."""

    name: ClassVar[CacheTier] = "memory"

    def __init__(self, max_bytes: int) -> None:
        self._lru: ByteLru[CacheKey, CacheEntry] = ByteLru(max_bytes)
        self._closed = False
        self._hits = 0
        self._misses = 0
        self._refused = 0

    def get(self, key: CacheKey) -> CacheEntry | None:
        """The entry of ``key``, or None."""
        entry = self._lru.get(key)
        if entry is None:
            self._misses += 1
        else:
            self._hits += 1
        return entry

    def put(self, entry: CacheEntry, on_settled: Callable[[], object] | None = None) -> None:
        """Keep ``entry``; it is settled at once."""
        if not self._closed and not self._lru.put(entry.key, entry, entry.size_bytes):
            self._refused += 1
        if on_settled is not None:
            on_settled()

    def touch(self, key: CacheKey) -> None:
        """Note that ``key`` was used."""
        self._lru.get(key)

    def discard(self, key: CacheKey) -> None:
        """Forget ``key`` if it is there."""
        self._lru.discard(key)

    def clear(self, *, agent_name: str | None = None, created_before: float | None = None) -> int:
        """Remove the entries of an agent, older than a moment, or all; how many."""
        return self._lru.discard_if(
            lambda entry: (
                (agent_name is None or entry.agent_name == agent_name)
                and (created_before is None or entry.created_at < created_before)
            )
        )

    def records(self) -> Iterator[CacheEntry | None]:
        """Every entry, the most recently used first."""
        return reversed(self._lru.values())

    def stats(self) -> TierStats:
        """The tier in numbers."""
        return TierStats(
            name=self.name,
            entries=len(self._lru),
            size_bytes=self._lru.size_bytes,
            max_bytes=self._lru.max_bytes,
            hits=self._hits,
            misses=self._misses,
            evictions=self._lru.evictions,
            expired=0,
            integrity_failures=0,
            failures=0,
            refused=self._refused,
        )

    def flush(self) -> None:
        """Return at once: everything is settled."""

    def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self.clear()
