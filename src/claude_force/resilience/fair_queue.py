"""First come, first served inside a flow; turn by turn between flows."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


class FairQueue(Generic[T]):
    """A queue in which a flow of ten thousand does not starve a flow of one.

    Each flow that waits has one place in a ring; whoever is taken sends its flow to the end of the ring. Every
    operation takes constant time. Not for several threads at once; the owner holds a lock.
    """

    __slots__ = ("_flows", "_size")

    def __init__(self) -> None:
        # Both levels are ordered: a plain dict slows down quadratically when it is emptied from the front.
        self._flows: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        for waiting in self._flows.values():
            yield from waiting

    def put(self, flow: str, item: T) -> None:
        """Add ``item``, which is in no flow yet, at the end of ``flow``."""
        self._flows.setdefault(flow, OrderedDict())[item] = None
        self._size += 1

    def first(self) -> T | None:
        """Whose turn it is; None when nobody waits."""
        for waiting in self._flows.values():
            return next(iter(waiting))
        return None

    def take(self) -> T:
        """Remove and return whose turn it is.

        Raises:
            LookupError: nobody waits.
        """
        flow, waiting = next(iter(self._flows.items()), (None, None))
        if flow is None or waiting is None:
            raise LookupError("nobody waits")
        item, _ = waiting.popitem(last=False)
        if waiting:
            self._flows.move_to_end(flow)
        else:
            del self._flows[flow]
        self._size -= 1
        return item

    def remove(self, flow: str, item: T) -> bool:
        """Take ``item`` out of its place; False if it was not there any more."""
        waiting = self._flows.get(flow)
        if waiting is None or item not in waiting:
            return False
        del waiting[item]
        if not waiting:
            del self._flows[flow]
        self._size -= 1
        return True

    def drain(self) -> list[T]:
        """Remove everyone, flow by flow."""
        everyone = [item for waiting in self._flows.values() for item in waiting]
        self._flows.clear()
        self._size = 0
        return everyone
