"""Spreads requests evenly over a minute, as the user's own limit asks. No clock, no I/O."""

from __future__ import annotations

from typing import Final

_MINUTE_SECONDS: Final = 60.0
# What was not used within the last second may be made up for, so that a busy event loop costs no throughput.
_BURST_SECONDS: Final = 1.0


class Pace:
    """At most ``requests_per_minute`` in any minute, and a second's worth on top; None for no limit.

    The generic cell rate algorithm: one moment is all its state, so a changed limit holds from the next request on.
    """

    __slots__ = ("_due_at", "_interval_seconds", "_started", "limited")

    def __init__(self, requests_per_minute: float | None) -> None:
        self._due_at = 0.0
        self._started = False
        self._interval_seconds = 0.0
        self.change(requests_per_minute)

    def change(self, requests_per_minute: float | None) -> None:
        """Set another limit."""
        self.limited = bool(requests_per_minute)
        self._interval_seconds = (
            _MINUTE_SECONDS / requests_per_minute if requests_per_minute else 0.0
        )

    def wait_seconds(self, now: float) -> float:
        """Seconds until the next request may go out."""
        if not self._interval_seconds or not self._started:
            return 0.0
        return max(0.0, self._due_at - now)

    def sent(self, now: float) -> None:
        """A request went out."""
        if self._interval_seconds:
            earliest = now - max(0.0, _BURST_SECONDS - self._interval_seconds)
            self._due_at = (
                max(self._due_at, earliest) if self._started else now
            ) + self._interval_seconds
            self._started = True
