"""One limit of the API as seen from here: what may still be used, and what is reserved. No clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from claude_force.domain.rate_limits import LimitReading

# Buckets of the API refill from empty to full in a minute.
WINDOW_SECONDS: Final = 60.0


class RateBucket:
    """Counts down with what is reserved, up with time, and is put right by what responses report.

    Nothing is bounded until a response has named the limit. ``free`` is what may be reserved now. It is below zero
    when more was used than was known to be there: before the limit was known, or by answers that came out larger
    than their reservation. A bucket that does not refill by itself (``window_seconds=None``) is fed from outside:
    that is how processes share one limit.

    Not for several threads at once; the owner holds a lock.
    """

    __slots__ = ("_updated_at", "_window_seconds", "corrected", "free", "limit", "reserved")

    def __init__(self, *, window_seconds: float | None = WINDOW_SECONDS) -> None:
        self._window_seconds = window_seconds
        self._updated_at = 0.0
        # A minute's worth; None until it is known.
        self.limit: float | None = None
        self.free = 0.0
        # Held by requests under way.
        self.reserved = 0.0
        # Sum of every correction so far: tells a late report what it does not know.
        self.corrected = 0.0

    @property
    def per_second(self) -> float:
        """How fast ``free`` grows by itself."""
        if self.limit is None or self._window_seconds is None:
            return 0.0
        return self.limit / self._window_seconds

    def wait_seconds(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` is there: 0 when it is, infinity when it has to come from outside.

        More than the bucket can hold is let through when it is full: the API answers that truly, we cannot.
        """
        if self.limit is None:
            return 0.0
        self.refill(now)
        missing = min(amount, self.limit) - self.free
        if missing <= 0.0:
            return 0.0
        per_second = self.per_second
        return missing / per_second if per_second else float("inf")

    def reserve(self, amount: float) -> None:
        """Move ``amount`` from free to reserved."""
        self.free -= amount
        self.reserved += amount

    def settle(self, reserved: float, used: float) -> None:
        """End a reservation of which ``used`` was really used; the difference is free again, or a debt."""
        self.reserved -= reserved
        self.free += reserved - used
        if self.limit is not None and self.free > self.limit:
            self.free = self.limit

    def refill(self, now: float) -> None:
        """Add what has come in since the last time. A clock that goes back adds nothing."""
        elapsed = now - self._updated_at
        self._updated_at = now
        if elapsed > 0.0 and self.limit is not None and self.free < self.limit:
            self.free = min(self.limit, self.free + elapsed * self.per_second)

    def observe(self, reading: LimitReading, *, free_then: float, corrected_then: float) -> None:
        """Take over what the response to one of our requests reports.

        ``free_then`` and ``corrected_then`` are ``free`` and ``corrected`` just after that request was reserved.
        The report is as old as that: what differs between them is an error of ours, whatever has been reserved or
        has come in since.
        """
        error = self.error_of(reading, free_then=free_then)
        if error is None:
            return
        self.correct(error - (self.corrected - corrected_then))

    def error_of(self, reading: LimitReading, *, free_then: float) -> float | None:
        """Take over the limit; by how much ``free`` was too low when the request went out, or None."""
        if reading.limit is not None:
            self.limit = float(reading.limit)
        if self.limit is None or reading.remaining is None:
            return None
        return reading.remaining - free_then

    def stand_alone(self, window_seconds: float) -> None:
        """Refill by itself from the next `refill` on."""
        self._window_seconds = window_seconds

    def correct(self, amount: float) -> None:
        """Put ``free`` right by ``amount``."""
        self.free += amount
        self.corrected += amount
