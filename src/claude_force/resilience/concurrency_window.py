"""How many requests of one model class may be under way: additive increase, multiplicative decrease.

The rule is that of congestion control in networks (RFC 5681): double each round trip until the first refusal, then
grow by one each round trip, and shrink at most once each round trip. No clock, no I/O.
"""

from __future__ import annotations

from typing import Final

# A gentle start: most runs are done before a limit matters, and the API refuses sudden load (`ramp_limit_exceeded`).
FIRST_WINDOW: Final = 4.0
DECREASE_FACTOR: Final = 0.7
# Far above any limit on connections; keeps the number finite in a process that runs for weeks.
_LARGEST_WINDOW: Final = 100_000.0
_SLOWEST_GROWTH: Final = 1 / 64


class ConcurrencyWindow:
    """Grows with successes and shrinks with refusals; always at least 1."""

    __slots__ = ("_decreased_at", "_growth", "_slow_start", "size")

    def __init__(self, *, first: float = FIRST_WINDOW) -> None:
        self.size = max(1.0, first)
        self._slow_start = True
        # How much of the usual growth a success brings; halved by `ramp_limit_exceeded`.
        self._growth = 1.0
        self._decreased_at = float("-inf")

    def succeeded(self, in_flight: int) -> None:
        """A request ended well while ``in_flight`` (itself included) were under way.

        A window that is not used proves nothing, so it grows only while at least half of it is.
        """
        if in_flight * 2 < self.size:
            return
        step = self._growth if self._slow_start else self._growth / self.size
        self.size = min(self.size + step, _LARGEST_WINDOW)

    def refused(self, *, sent_at: float, now: float) -> bool:
        """A request that was sent at ``sent_at`` was refused for its rate; True if the window shrank.

        Requests that were sent before the last decrease say nothing about the window since.
        """
        if sent_at <= self._decreased_at:
            return False
        self.size = max(1.0, self.size * DECREASE_FACTOR)
        self._slow_start = False
        self._decreased_at = now
        return True

    def ramped_too_fast(self, *, sent_at: float, now: float) -> bool:
        """A refusal because load grew too fast: shrink as for any other, and grow half as fast from here."""
        shrank = self.refused(sent_at=sent_at, now=now)
        if shrank:
            self._growth = max(self._growth / 2, _SLOWEST_GROWTH)
        return shrank
