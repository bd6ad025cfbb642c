"""What a store of entries promises, whatever it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from claude_force.cache.entries import CacheEntry
    from claude_force.cache.fingerprint import CacheKey
    from claude_force.domain.messages import CacheTier


@dataclass(frozen=True, slots=True, kw_only=True)
class TierStats:
    """A tier in numbers. Entries and sizes are of now; the rest counts what this object did since it was made."""

    name: CacheTier
    entries: int
    # Bytes of the entries.
    size_bytes: int
    max_bytes: int
    hits: int
    misses: int
    # Entries that made room for others, and entries that were past their life.
    evictions: int
    expired: int
    # Lookups that met bytes which are not what was written, or were signed with another secret.
    integrity_failures: int
    # Reads and writes that the medium failed.
    failures: int
    # Entries that are larger than the bound, or came faster than they can be written.
    refused: int


class Tier(Protocol):
    """A store of entries by key. The suite in ``tests/cache/test_tier_contract.py`` holds for every tier.

    * Any method may be called from any thread, and at the same time as any other.
    * No method raises for the sake of the medium: what cannot be read is a miss, what cannot be written is lost
      to this tier, and both are counted and logged once.
    * ``get`` gives back exactly what was put, or None. It makes the entry the most recently used one.
    * ``put`` never waits for a medium. The entry is found by this object at once, and by others once it is
      settled. An entry larger than the tier is refused and leaves the others.
    * The bytes that a tier holds stay within its bound; the least recently used entry goes first.
    """

    @property
    def name(self) -> CacheTier:
        """The word for it in results and statistics."""

    def get(self, key: CacheKey) -> CacheEntry | None:
        """The entry of ``key``, or None. May wait for the medium, so it does not belong on an event loop."""

    def put(self, entry: CacheEntry, on_settled: Callable[[], object] | None = None) -> None:
        """Keep ``entry`` and call ``on_settled`` when others can find it, or when it is clear that they never will.

        ``on_settled`` runs on any thread and must return at once.
        """

    def touch(self, key: CacheKey) -> None:
        """Note that ``key`` was used, as ``get`` does; never waits."""

    def clear(self, *, agent_name: str | None = None, created_before: float | None = None) -> int:
        """Remove the entries of an agent, older than a moment, or all; how many. May wait for the medium."""

    def records(self) -> Iterator[CacheEntry | None]:
        """What is held, the most recently used first: an entry, or None for one that is not as it was written.

        May wait for the medium.
        """

    def stats(self) -> TierStats:
        """The tier in numbers. May wait for the medium."""

    def flush(self) -> None:
        """Wait until everything that was put is settled."""

    def close(self) -> None:
        """Flush and give resources back. Afterwards every ``get`` is a miss and every ``put`` is lost."""
