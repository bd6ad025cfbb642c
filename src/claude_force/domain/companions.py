"""Calls that are made together, and what is known of those that have not come yet."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable


class Companions:
    """Counts the calls of one run that have yet to be sent, for whoever has to know whether another one follows.

    A call is *on its way* from the moment it is certain to come until it arrives where it would be sent, or ends
    before (a cache had its answer, it could not be put together). It is *to come* while it waits for others to end;
    then what its prompt begins with may be known already. Belongs to one event loop.
    """

    __slots__ = ("_on_the_way", "_reserved", "_to_come", "_watchers")

    def __init__(self) -> None:
        self._on_the_way = 0
        self._reserved = 0
        self._to_come: Counter[Hashable] = Counter()
        self._watchers: set[Callable[[], None]] = set()

    @property
    def on_the_way(self) -> int:
        """Calls that will arrive, or end, within moments."""
        return self._on_the_way

    def to_come(self, beginning: Hashable) -> int:
        """Calls that wait for others to end, and whose prompts begin in this way."""
        return self._to_come[beginning]

    def expect(self, count: int) -> None:
        """So many calls are on their way; the next so many seats are theirs."""
        self._reserved += count
        self._on_the_way += count

    def seat(self) -> Seat:
        """The seat of a call that is on its way."""
        if self._reserved:
            self._reserved -= 1
        else:
            self._on_the_way += 1
        return Seat(self, None)

    def later_seat(self, beginnings: Iterable[Hashable]) -> Seat:
        """The seat of a call that is to come, with everything that its prompt is known to begin with."""
        known = tuple(beginnings)
        self._to_come.update(known)
        return Seat(self, known)

    def watch(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` each time the last call on its way has arrived or ended."""
        self._watchers.add(callback)

    def unwatch(self, callback: Callable[[], None]) -> None:
        """Call it no more."""
        self._watchers.discard(callback)

    def _settle(self, beginnings: tuple[Hashable, ...] | None) -> None:
        if beginnings is not None:
            self._to_come.subtract(beginnings)
            return
        self._on_the_way -= 1
        if not self._on_the_way:
            for callback in tuple(self._watchers):
                callback()


class Seat:
    """The place of one call among its companions."""

    __slots__ = ("_beginnings", "_settled", "companions")

    def __init__(self, companions: Companions, beginnings: tuple[Hashable, ...] | None) -> None:
        self.companions = companions
        self._beginnings = beginnings
        self._settled = False

    def settle(self) -> None:
        """The call has arrived, or ended; a second time does nothing."""
        if not self._settled:
            self._settled = True
            self.companions._settle(self._beginnings)  # noqa: SLF001 - the two are one thing
