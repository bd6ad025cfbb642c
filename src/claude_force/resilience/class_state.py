"""One model class at one origin in this process: its limits, who waits for it, and its visits to the shared pools.

No clock, no I/O; the governor holds a lock around every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.resilience.fair_queue import FairQueue
from claude_force.resilience.rate_class import RateClass, input_of
from claude_force.resilience.sharing import KINDS, Ask, ClassReport

if TYPE_CHECKING:
    from claude_force.resilience.rate_class import Estimate, Reservation
    from claude_force.resilience.sharing import ClassStanding, Share
    from claude_force.resilience.ticket import Ticket

# What a process keeps at hand beyond what it used since its last visit, so that a call after a pause waits for nobody.
_AT_HAND: Final = 2
_HEADROOM: Final = 1.5
# And what a limit brings in a fifth of a second, the usual time between two visits: a burst that the limit allows
# does not wait for a visit.
_SHARE_AT_HAND: Final = 0.2 / 60


class ClassState:
    """Admission to one class, alone or as one of several processes.

    Args:
        window_seconds: see `RateClass`; None when the limits are shared.
    """

    def __init__(self, *, window_seconds: float | None, first_window: float) -> None:
        self.rate = RateClass(window_seconds=window_seconds, first_window=first_window)
        self.queue: FairQueue[Ticket] = FairQueue()
        # What the shared pools gave at the last visit; None before the first, and when the limits are not shared.
        self.standing: ClassStanding | None = None
        self.shared = window_seconds is None
        self._started = 0
        self._typical = (1.0, 0.0, 0.0)

    def wait_seconds(self, now: float, estimate: Estimate) -> float:
        """See `RateClass.wait_seconds`; a shared class is closed until its first visit."""
        if self.shared and self.standing is None:
            return float("inf")
        return self.rate.wait_seconds(now, estimate)

    def reserve(self, now: float, estimate: Estimate) -> Reservation:
        """See `RateClass.reserve`."""
        self._started += 1
        return self.rate.reserve(now, estimate)

    def is_short(self, now: float, estimate: Estimate) -> bool:
        """True when a visit to the pools could let the request out."""
        if not self.shared:
            return False
        if self.standing is None:
            return True
        rate = self.rate
        return (
            rate.in_flight < int(rate.window.size)
            and rate.blocked_until <= now
            and rate.wait_seconds(now, estimate) == float("inf")
        )

    def report(self, now: float, *, leaving: bool = False) -> ClassReport:
        """What to tell the pools: what is held, what will be needed, what responses have said.

        On ``leaving`` everything goes back.
        """
        asks = self._asks(leaving=leaving)
        self._started = 0
        return ClassReport(
            asks=asks,
            # At least 1, so that something is at hand for the next request.
            demand=0 if leaving else max(1, self.rate.in_flight + len(self.queue)),
            blocked_seconds=max(0.0, self.rate.blocked_until - now),
        )

    def take(self, told: ClassReport, standing: ClassStanding, now: float) -> None:
        """Take over what a visit gave. What was spent since ``told`` stays spent."""
        self.standing = standing
        for kind, bucket in zip(KINDS, self.rate.buckets, strict=True):
            share = standing.shares[kind]
            bucket.set_limit(share.limit)
            bucket.free += share.held - told.asks[kind].held
        self.rate.epoch = standing.shares
        if standing.blocked_seconds > 0.0:
            self.rate.block(now + standing.blocked_seconds)

    def stand_alone(self, window_seconds: float) -> None:
        """Go on without the pools."""
        self.shared = False
        self.rate.stand_alone(window_seconds)

    def _asks(self, *, leaving: bool = False) -> dict[str, Ask]:
        errors = self._errors()
        needed, wanted = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
        if not leaving:
            needed, wanted = self._needs()
        return {
            kind: Ask(
                held=bucket.free,
                claim=bucket.free + (bucket.reserved if kind == "output_tokens" else 0.0),
                wanted=wanted[index],
                needed=needed[index],
                limit=errors[kind][0],
                error=errors[kind][1],
                corrected_then=errors[kind][2],
                source=errors[kind][3],
            )
            for index, (kind, bucket) in enumerate(zip(KINDS, self.rate.buckets, strict=True))
        }

    def _needs(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """The least with which something can go out, and enough for a while."""
        first = self.queue.first()
        needed = (0.0, 0.0, 0.0)
        if first is not None:
            needed = self._typical = self.rate.needs(first.estimate)
        free_places = max(0, int(self.rate.window.size) - self.rate.in_flight)
        soon = min(len(self.queue), free_places) + _AT_HAND + _HEADROOM * self._started
        requests, input_tokens, output_tokens = (
            max(soon * typical, (bucket.limit or 0.0) * _SHARE_AT_HAND)
            for typical, bucket in zip((1.0, *self._typical[1:]), self.rate.buckets, strict=True)
        )
        return needed, (requests, input_tokens, output_tokens)

    def _errors(self) -> dict[str, tuple[float | None, float | None, float, str]]:
        """By kind: the limit, the error of our count, and the pools that it was counted by, from the newest response."""
        sample, self.rate.sample = self.rate.sample, None
        found: dict[str, tuple[float | None, float | None, float, str]] = dict.fromkeys(
            KINDS, (None, None, 0.0, "")
        )
        if sample is None or not isinstance(sample.reservation.epoch, dict):
            return found
        shares: dict[str, Share] = sample.reservation.epoch
        then, told = sample.reservation, sample.snapshot
        for kind, reading, level_then in (
            ("requests", told.requests, then.requests_then),
            ("input_tokens", input_of(told), then.input_then),
            ("output_tokens", told.output_tokens, then.output_then),
        ):
            if reading is None:
                continue
            error = None
            if reading.remaining is not None:
                error = reading.remaining - level_then - shares[kind].elsewhere
            limit = None if reading.limit is None else float(reading.limit)
            found[kind] = (limit, error, shares[kind].corrected, shares[kind].source)
        return found
