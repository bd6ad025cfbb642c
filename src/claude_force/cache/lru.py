"""A mapping that keeps what was used last, within a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K")
V = TypeVar("V")


class ByteLru(Generic[K, V]):
    """Least recently used goes first, and the sum of sizes never exceeds ``max_bytes``. Safe in any thread.

    Sizes are what the caller says. A value larger than the bound is refused and leaves everything else; what was
    under its key before is gone, because it has been replaced.
    """

    __slots__ = ("_find", "_lock", "_renew", "_slots", "evictions", "max_bytes", "size_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        # Values that made room for others.
        self.evictions = 0
        self._slots: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._find = self._slots.get
        self._renew = self._slots.move_to_end
        # Keeps order and sum in step; never held while anything can wait.
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, key: K) -> V | None:
        """The value of ``key``, which becomes the most recently used; None where there is none."""
        # Without the lock, which would be a third of a hit: each step is one operation of the interpreter.
        slot = self._find(key)
        if slot is None:
            return None
        try:  # noqa: SIM105 - suppress() takes longer than the hit
            self._renew(key)
        except KeyError:
            # Evicted by another thread since; the value is right all the same.
            pass
        return slot[0]

    def put(self, key: K, value: V, size_bytes: int) -> bool:
        """Keep ``value`` as the most recently used; False where it is larger than the bound."""
        with self._lock:
            self._drop(key)
            if size_bytes > self.max_bytes:
                return False
            self._slots[key] = (value, size_bytes)
            self.size_bytes += size_bytes
            while self.size_bytes > self.max_bytes:
                _, (_, freed_bytes) = self._slots.popitem(last=False)
                self.size_bytes -= freed_bytes
                self.evictions += 1
            return True

    def discard(self, key: K) -> None:
        """Forget ``key`` if it is there."""
        with self._lock:
            self._drop(key)

    def discard_if(self, condition: Callable[[V], bool]) -> int:
        """Forget every value that meets ``condition``; how many did."""
        with self._lock:
            doomed = [key for key, (value, _) in self._slots.items() if condition(value)]
            for key in doomed:
                self._drop(key)
            return len(doomed)

    def values(self) -> list[V]:
        """Every value, the least recently used first."""
        with self._lock:
            return [value for value, _ in self._slots.values()]

    def _drop(self, key: K) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self.size_bytes -= slot[1]
