"""The tier that machines share: signed entries in a Redis server."""

from __future__ import annotations

import os
import time
import weakref
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Final

from claude_force.cache.tier import TierStats
from claude_force.cache.writer import BatchWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from claude_force.cache.entries import CacheEntry, EntrySigner
    from claude_force.cache.fingerprint import CacheKey
    from claude_force.cache.writer import Batch
    from claude_force.domain.messages import CacheTier
    from claude_force.storage.redis_link import RedisClient, RedisLink

# The number is that of the record's form.
_PREFIX: Final = "claude-force:cache:1:"
_KEYS_AT_ONCE: Final = 200


class RedisTier:
    """Signed entries in Redis; a ``Tier``.

    Lifetimes are set at the server, which drops what has expired; how much it keeps, and what goes first, is its
    ``maxmemory`` and ``maxmemory-policy`` (an LRU policy is right for a cache). Bytes are served only when their
    signature holds, so the machines that share a server have to share ``CLAUDE_CACHE_SECRET``, and whoever can
    write to the server can make misses, not answers.

    ``records`` come in the order of the server, which keeps none. A server that is slow or gone is left alone
    (`RedisLink`): lookups are misses and writes are lost, both counted.
    """

    name: ClassVar[CacheTier] = "redis"

    def __init__(
        self,
        link: RedisLink,
        *,
        signer: EntrySigner,
        max_entry_bytes: int,
        keep_seconds: float | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._link = link
        self._signer = signer
        self._max_entry_bytes = max_entry_bytes
        self._keep_seconds = keep_seconds
        self._wall_clock = wall_clock
        self._writer = BatchWriter(self._commit)
        self._hits = self._misses = self._refused = self._integrity_failures = self._expired = 0
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _start_over(reference))

    def get(self, key: CacheKey) -> CacheEntry | None:
        """The entry of ``key``, or None. Waits for the network unless the entry is still to be written."""
        entry = self._writer.pending(key) or self._read(key)
        if entry is None:
            self._misses += 1
        else:
            self._hits += 1
        return entry

    def put(self, entry: CacheEntry, on_settled: Callable[[], object] | None = None) -> None:
        """Write ``entry`` soon; never waits."""
        if entry.size_bytes > self._max_entry_bytes:
            self._refused += 1
            if on_settled is not None:
                on_settled()
        elif not self._writer.put(entry, on_settled):
            self._refused += 1

    def touch(self, key: CacheKey) -> None:
        """Note that ``key`` was used; told to the server within a second."""
        self._writer.touch(key)

    def clear(self, *, agent_name: str | None = None, created_before: float | None = None) -> int:
        """Remove the entries of an agent, older than a moment, or all; how many."""

        def work() -> int:
            return (
                self._link.call(lambda client: self._clear(client, agent_name, created_before)) or 0
            )

        return self._writer.exclusively(work)

    def records(self) -> Iterator[CacheEntry | None]:
        """Every record of the server: its entry, or None where it is not valid."""
        self.flush()
        for names in self._pages():
            for record in self._link.call(partial(_records, names=names)) or ():
                if record is not None:
                    yield self._signer.unseal(record)

    def stats(self) -> TierStats:
        """The tier in numbers; counting asks for every key."""
        self.flush()
        entries = size_bytes = 0
        for names in self._pages():
            sizes = self._link.call(partial(_sizes, names=names)) or []
            entries += len(sizes)
            size_bytes += sum(sizes)
        bound = self._link.call(lambda client: int(client.info("memory").get("maxmemory", 0))) or 0
        return TierStats(
            name=self.name,
            entries=entries,
            size_bytes=size_bytes,
            max_bytes=bound,
            hits=self._hits,
            misses=self._misses,
            evictions=0,
            expired=self._expired,
            integrity_failures=self._integrity_failures,
            failures=self._link.failures,
            refused=self._refused,
        )

    def flush(self) -> None:
        """Wait until everything that was put is written or lost."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is waiting, and close the connections."""
        self._writer.close()
        self._link.close()

    def start_over_after_fork(self) -> None:
        """Leave the parent's writes to the parent; the library makes connections of its own for a child."""
        self._writer.start_over_after_fork()

    def _read(self, key: CacheKey) -> CacheEntry | None:
        record = self._link.call(lambda client: client.get(_PREFIX + key))
        if not isinstance(record, bytes):
            return None
        entry = self._signer.unseal(record)
        # A record that was moved to another key is as wrong as one that was edited.
        if entry is None or entry.key != key:
            self._integrity_failures += 1
            return None
        return entry

    def _commit(self, batch: Batch) -> None:
        used = [_PREFIX + key for key in batch.recency if key not in batch.entries]
        if batch.entries or used:
            self._link.call(lambda client: self._write(client, batch.entries.values(), used))

    def _write(self, client: RedisClient, entries: Iterable[CacheEntry], used: list[str]) -> bool:
        with client.pipeline(transaction=False) as pipeline:
            if used:
                pipeline.touch(*used)
            for entry in entries:
                life_ms = self._life_ms(entry)
                if life_ms is None or life_ms > 0:
                    pipeline.set(_PREFIX + entry.key, self._signer.seal(entry), px=life_ms)
                else:
                    self._expired += 1
            pipeline.execute()
        return True

    def _life_ms(self, entry: CacheEntry) -> int | None:
        """Milliseconds that the entry still has; None for ever."""
        if self._keep_seconds is None:
            return None
        return int((entry.created_at + self._keep_seconds - self._wall_clock()) * 1000)

    def _clear(
        self, client: RedisClient, agent_name: str | None, created_before: float | None
    ) -> int:
        removed = 0
        for names in _pages(client):
            doomed = names
            if agent_name is not None or created_before is not None:
                entries = [
                    None if record is None else self._signer.unseal(record)
                    for record in client.mget(names)
                ]
                doomed = [
                    name
                    for name, entry in zip(names, entries, strict=True)
                    if entry is not None
                    and (agent_name is None or entry.agent_name == agent_name)
                    and (created_before is None or entry.created_at < created_before)
                ]
            if doomed:
                removed += client.unlink(*doomed)
        return removed

    def _pages(self) -> list[list[bytes]]:
        return self._link.call(lambda client: list(_pages(client))) or []


def _pages(client: RedisClient) -> Iterator[list[bytes]]:
    # A scan may name a key twice.
    names = iter(set(client.scan_iter(match=f"{_PREFIX}*", count=_KEYS_AT_ONCE)))
    while page := list(islice(names, _KEYS_AT_ONCE)):
        yield page


def _records(client: RedisClient, names: list[bytes]) -> list[bytes | None]:
    found: list[bytes | None] = client.mget(names)
    return found


def _sizes(client: RedisClient, names: list[bytes]) -> list[int]:
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.strlen(name)
        return [size for size in pipeline.execute() if size]


def _start_over(reference: weakref.ref[RedisTier]) -> None:
    tier = reference()
    if tier is not None:
        tier.start_over_after_fork()
