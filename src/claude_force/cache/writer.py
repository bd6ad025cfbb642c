"""Writing behind: what is put is found at once and written soon, many entries in one transaction."""

from __future__ import annotations

import atexit
import math
import time
import weakref
from dataclasses import dataclass, field
from threading import Condition, RLock, Thread
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.cache.entries import CacheEntry
    from claude_force.cache.fingerprint import CacheKey

T = TypeVar("T")

# Long enough to gather a burst into one transaction, short enough to be durable within 100 ms.
_LINGER_SECONDS: Final = 0.01
# The order of use is worth less than an entry: a crash may lose the last second of it.
_TOUCH_LINGER_SECONDS: Final = 1.0
# A thread without work ends, so that a store which nobody closed can be collected.
_IDLE_SECONDS: Final = 2.0
# Entries that arrive faster than a disk can take them; what exceeds this is refused rather than kept in memory.
_MAX_PENDING_BYTES: Final = 64 * 1024 * 1024


@dataclass(slots=True)
class Batch:
    """What one transaction writes."""

    # By key, each once: the last one put.
    entries: dict[CacheKey, CacheEntry] = field(default_factory=dict)
    # Every key that was put or used, the last used last. Changed without a lock while the batch is being gathered.
    recency: dict[CacheKey, None] = field(default_factory=dict)
    # To be called when the batch is written or lost.
    on_settled: list[Callable[[], object]] = field(default_factory=list)
    size_bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.entries or self.recency or self.on_settled)

    def order(self) -> list[CacheKey]:
        """Every key once, the last used last."""
        # A use can be under way between taking its key out and putting it back.
        return list(dict.fromkeys([*self.recency, *self.entries]))


class BatchWriter:
    """Gathers entries and hands them to ``commit`` in batches, on one thread that starts when there is work.

    ``commit`` is never called twice at once. It must not raise for what a disk can do; whatever it does, the batch
    is settled afterwards. Every method is safe in any thread; only ``flush``, ``exclusively`` and ``close`` wait.
    """

    def __init__(self, commit: Callable[[Batch], None]) -> None:
        self._commit = commit
        # Guards the fields below; held for a few dictionary operations at most.
        self._changed = Condition()
        self._next = Batch()
        # Taken and not yet settled: still only to be found here.
        self._under_way = Batch()
        self._due = math.inf
        self._thread: Thread | None = None
        self._closed = False
        # Serialises commits. Re-entrant, so that a commit may be followed by other work under the same lock.
        self._committing = RLock()
        # A plain reference would keep every store alive until exit.
        reference = weakref.ref(self)
        self._at_exit = lambda: _close(reference)
        atexit.register(self._at_exit)

    def put(self, entry: CacheEntry, on_settled: Callable[[], object] | None = None) -> bool:
        """Write ``entry`` soon; False where it is refused, because too much is waiting or the writer is closed."""
        with self._changed:
            batch = self._next
            accepted = (
                not self._closed and batch.size_bytes + entry.size_bytes <= _MAX_PENDING_BYTES
            )
            if accepted:
                batch.entries[entry.key] = entry
                batch.recency.pop(entry.key, None)
                batch.recency[entry.key] = None
                batch.size_bytes += entry.size_bytes
                if on_settled is not None:
                    batch.on_settled.append(on_settled)
                self._wake_within(_LINGER_SECONDS)
        if not accepted and on_settled is not None:
            on_settled()
        return accepted

    def touch(self, key: CacheKey) -> None:
        """Write soon that ``key`` was used."""
        # Without the lock, which would be a third of a hit. A use that falls between two batches may be lost.
        recency = self._next.recency
        recency.pop(key, None)
        recency[key] = None
        if self._due == math.inf:
            with self._changed:
                if not self._closed:
                    self._wake_within(_TOUCH_LINGER_SECONDS)

    def pending(self, key: CacheKey) -> CacheEntry | None:
        """The entry of ``key`` that is not written yet, if there is one."""
        return self._next.entries.get(key) or self._under_way.entries.get(key)

    def flush(self) -> None:
        """Write on the calling thread whatever is waiting, after what is being written."""
        with self._committing:
            self._drain()

    def exclusively(self, work: Callable[[], T]) -> T:
        """The result of ``work``, done after everything that is waiting was written and beside no other commit."""
        with self._committing:
            self._drain()
            return work()

    def close(self) -> None:
        """Write what is waiting, and refuse what comes later."""
        atexit.unregister(self._at_exit)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.flush()

    def start_over_after_fork(self) -> None:
        """Forget what the parent process has to write, and the locks that its threads may have held."""
        self._changed = Condition()
        self._committing = RLock()
        self._next, self._under_way = Batch(), Batch()
        self._due, self._thread = math.inf, None

    def _wake_within(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        if due < self._due:
            self._due = due
            if self._thread is not None:
                self._changed.notify_all()
        if self._thread is None:
            thread = Thread(target=self._run, name="claude-force-cache-writer", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is shutting down: the exit handler writes the rest.
                return
            self._thread = thread

    def _run(self) -> None:
        while self._wait_for_work():
            self.flush()

    def _wait_for_work(self) -> bool:
        """Sleep until a batch is due; False when it is time to end."""
        with self._changed:
            idle_until = time.monotonic() + _IDLE_SECONDS
            while not self._closed:
                now = time.monotonic()
                if self._due <= now:
                    return True
                idle = self._due == math.inf
                if idle and now >= idle_until:
                    break
                self._changed.wait((idle_until if idle else self._due) - now)
            self._thread = None
            return False

    def _drain(self) -> None:
        with self._changed:
            batch = self._under_way = self._next
            self._next = Batch()
            self._due = math.inf
        if not batch:
            return
        try:
            self._commit(batch)
        finally:
            self._under_way = Batch()
            for on_settled in batch.on_settled:
                on_settled()


def _close(reference: weakref.ref[BatchWriter]) -> None:
    writer = reference()
    if writer is not None:
        writer.close()
