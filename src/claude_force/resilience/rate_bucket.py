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

    __slots__ = (
        "_per_second",
        "_updated_at",
        "_window_seconds",
        "corrected",
        "free",
        "limit",
        "reserved",
    )

    def __init__(self, *, window_seconds: float | None = WINDOW_SECONDS) -> None:
        self._window_seconds = window_seconds
        self._per_second = 0.0
        self._updated_at = 0.0
        # A minute's worth; None until it is known. Set by `set_limit`.
        self.limit: float | None = None
        self.free = 0.0
        # Held by requests under way.
        self.reserved = 0.0
        # Sum of every correction so far: tells a late report what it does not know.
        self.corrected = 0.0

    def set_limit(self, limit: float | None) -> None:
        """Take over a minute's worth as a response names it; None if no limit is known any more."""
        self.limit = limit
        self._set_speed()

    def stand_alone(self, window_seconds: float) -> None:
        """Refill by itself from the next `refill` on."""
        self._window_seconds = window_seconds
        self._set_speed()

    def wait_seconds(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` is there: 0 when it is, infinity when it has to come from outside.

        More than the bucket can hold is let through when it is full: whether it may pass the API knows, not we.
        """
        limit = self.limit
        if limit is None:
            return 0.0
        self.refill(now)
        missing = min(limit, amount) - self.free
        if missing <= 0.0:
            return 0.0
        return missing / self._per_second if self._per_second else float("inf")

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
        if self._per_second:
            elapsed = now - self._updated_at
            if elapsed > 0.0 and self.free < self.limit:  # type: ignore[operator] # a speed implies a limit
                self.free = min(self.limit, self.free + elapsed * self._per_second)  # type: ignore[type-var, assignment] # as above
        self._updated_at = now

    def observe(self, reading: LimitReading, level_then: float, sent_at: float) -> None:
        """Take over what the response to one of our requests reports.

        ``level_then`` is ``free - corrected`` just after that request was reserved, at ``sent_at``. The report is as old as that:
        what differs between them is an error of ours, whatever has been reserved or has come in since; and
        corrections since then know of a part of it.
        """
        if reading.limit is not None and reading.limit != self.limit:
            if self.limit is None:
                # Nothing has come in here before; from then on it does.
                self._updated_at = sent_at
            self.set_limit(float(reading.limit))
        if self.limit is not None and reading.remaining is not None:
            self.correct(reading.remaining - self.corrected - level_then)

    def correct(self, amount: float) -> None:
        """Put ``free`` right by ``amount``."""
        self.free += amount
        self.corrected += amount

    def _set_speed(self) -> None:
        per_second = 0.0
        if self.limit is not None and self._window_seconds is not None:
            per_second = self.limit / self._window_seconds
        self._per_second = per_second
