"""When one more request to a model class may go out: limits of the API, concurrency, pauses. No clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from claude_force.resilience.concurrency_window import FIRST_WINDOW, ConcurrencyWindow
from claude_force.resilience.rate_bucket import WINDOW_SECONDS, RateBucket

if TYPE_CHECKING:
    from claude_force.domain.rate_limits import LimitReading, RateSnapshot
    from claude_force.domain.usage import Usage

# An answer of unknown length, until answers of the class have been seen.
_FIRST_EXPECTED_OUTPUT_TOKENS: Final = 1000.0
# How fast the expectations follow what is seen: at once where they were too low, since that ends in refusals.
_FOLLOW_UP: Final = 0.5
_FOLLOW_DOWN: Final = 0.05
_SMALLEST_INPUT_SHARE: Final = 0.02
_LARGEST_INPUT_SHARE: Final = 2.0
# A refusal that names no time pauses the class: half a second, doubled with each refusal in a row.
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 16.0
# A refusal that asks for less than a second while nothing shows an empty limit concerns its own call, until several
# come in a row: pausing everybody for each of them would stop a run that only some requests are refused in.
_PASSING_PAUSE_SECONDS: Final = 1.0
_REFUSALS_TO_BELIEVE: Final = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request is expected to take out of the limits."""

    # The whole prompt; how much of it the prompt cache answers is learned per model class.
    input_tokens: int
    max_output_tokens: int


class Reservation:
    """What one request under way holds, and what the buckets were like just after it was reserved."""

    # A plain class: a call makes one, and a dataclass takes twice as long.
    __slots__ = (
        "epoch",
        "estimated_input_tokens",
        "input_then",
        "input_tokens",
        "number",
        "output_then",
        "output_tokens",
        "requests_then",
        "sent_at",
        "settled",
    )

    # Counts requests of the class in the order in which they went out.
    number: int
    sent_at: float
    estimated_input_tokens: int
    # What is reserved, beside one request.
    input_tokens: float
    output_tokens: float
    # `level_then` of `RateBucket.observe`. The API charges output when it ends, so there what was reserved counts as
    # still free.
    requests_then: float
    input_then: float
    output_then: float
    # What `RateClass.epoch` was.
    epoch: object
    settled: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """The newest report of the API together with the reservation it answers."""

    snapshot: RateSnapshot
    reservation: Reservation


class RateClass:
    """Decides for all requests of one model class at one origin.

    `wait_seconds` and `reserve` admit; `observe`, `settle` and `refused` tell how it went; `release` ends it. Times
    are seconds of any one clock that the owner keeps to. Not for several threads at once; the owner holds a lock.

    Args:
        window_seconds: in which a bucket of the API refills. None: the buckets are fed from outside and reports
            are kept in ``sample`` instead of being applied.
        first_window: requests under way at the start.
    """

    __slots__ = (
        "_blocked_in_a_row",
        "_expected_output",
        "_fed_from_outside",
        "_input_share",
        "_next_number",
        "_observed_number",
        "_refused_in_a_row",
        "blocked_until",
        "buckets",
        "epoch",
        "in_flight",
        "input_tokens",
        "output_tokens",
        "requests",
        "sample",
        "window",
    )

    def __init__(
        self, *, window_seconds: float | None = WINDOW_SECONDS, first_window: float = FIRST_WINDOW
    ) -> None:
        self._fed_from_outside = window_seconds is None
        self.requests = RateBucket(window_seconds=window_seconds)
        self.input_tokens = RateBucket(window_seconds=window_seconds)
        self.output_tokens = RateBucket(window_seconds=window_seconds)
        self.buckets = (self.requests, self.input_tokens, self.output_tokens)
        self.window = ConcurrencyWindow(first=first_window)
        self.in_flight = 0
        self.blocked_until = float("-inf")
        # Whatever the owner wants to find again in a sample: which state its outside was in.
        self.epoch: object = None
        self.sample: Sample | None = None
        self._blocked_in_a_row = 0
        self._refused_in_a_row = 0
        self._next_number = 0
        self._observed_number = -1
        self._expected_output = _FIRST_EXPECTED_OUTPUT_TOKENS
        # Uncached input for each estimated token of prompt.
        self._input_share = 1.0

    def wait_seconds(self, now: float, estimate: Estimate) -> float:
        """Seconds until the request may go out: 0 for now, infinity when only an event can change it."""
        if self.in_flight + 1 > self.window.size:
            return float("inf")
        if self.blocked_until <= now and self._is_free(now, estimate):
            return 0.0
        return max(
            0.0,
            self.blocked_until - now,
            self.requests.wait_seconds(1.0, now),
            self.input_tokens.wait_seconds(estimate.input_tokens * self._input_share, now),
            self.output_tokens.wait_seconds(self._output_of(estimate), now),
        )

    def reserve(self, now: float, estimate: Estimate) -> Reservation:
        """Reserve for a request that goes out now; the caller has seen `wait_seconds` return 0."""
        held = Reservation()
        held.number = self._next_number
        held.sent_at = now
        held.settled = False
        held.epoch = self.epoch
        held.estimated_input_tokens = estimate.input_tokens
        held.input_tokens = estimate.input_tokens * self._input_share
        held.output_tokens = self._output_of(estimate)
        self._next_number += 1
        self.in_flight += 1
        bucket = self.requests
        bucket.reserve(1.0)
        held.requests_then = bucket.free - bucket.corrected
        bucket = self.input_tokens
        bucket.reserve(held.input_tokens)
        held.input_then = bucket.free - bucket.corrected
        bucket = self.output_tokens
        bucket.reserve(held.output_tokens)
        held.output_then = bucket.free + bucket.reserved - bucket.corrected
        return held

    def observe(self, reservation: Reservation, snapshot: RateSnapshot) -> None:
        """Take over what the response to a request reports; a report older than one already seen is ignored."""
        if reservation.number <= self._observed_number:
            return
        self._observed_number = reservation.number
        if self._fed_from_outside:
            self.sample = Sample(snapshot, reservation)
            return
        sent_at = reservation.sent_at
        if snapshot.requests is not None:
            self.requests.observe(snapshot.requests, reservation.requests_then, sent_at)
        input_reading = input_of(snapshot)
        if input_reading is not None:
            self.input_tokens.observe(input_reading, reservation.input_then, sent_at)
        if snapshot.output_tokens is not None:
            self.output_tokens.observe(snapshot.output_tokens, reservation.output_then, sent_at)

    def settle(self, reservation: Reservation, usage: Usage | None) -> None:
        """End what a request holds, with what it used.

        None means that this is not known: the input counts as used, the output as never written. Input of a request that a report already covers is left as reserved: the report has put it right.
        """
        if reservation.settled:
            return
        reservation.settled = True
        self.in_flight -= 1
        used_input, used_output = reservation.input_tokens, 0.0
        if usage is not None:
            uncached = usage.input_tokens + usage.cache_write_tokens
            used_output = float(usage.output_tokens)
            self._learn(reservation, uncached, usage.output_tokens)
            if reservation.number > self._observed_number:
                used_input = float(uncached)
        self.requests.settle(1.0, 1.0)
        self.input_tokens.settle(reservation.input_tokens, used_input)
        self.output_tokens.settle(reservation.output_tokens, used_output)

    def withdraw(self, reservation: Reservation) -> None:
        """Undo a reservation of a request that was never sent."""
        if reservation.settled:
            return
        reservation.settled = True
        self.in_flight -= 1
        self.requests.settle(1.0, 0.0)
        self.input_tokens.settle(reservation.input_tokens, 0.0)
        self.output_tokens.settle(reservation.output_tokens, 0.0)

    def stand_alone(self, window_seconds: float) -> None:
        """Go on without the outside: the buckets refill by themselves from here on."""
        self._fed_from_outside = False
        self.sample = None
        for bucket in self.buckets:
            bucket.stand_alone(window_seconds)

    def needs(self, estimate: Estimate) -> tuple[float, float, float]:
        """Requests, input and output tokens that are reserved for such a request."""
        return 1.0, estimate.input_tokens * self._input_share, self._output_of(estimate)

    def succeeded(self) -> None:
        """A request, still counted in ``in_flight``, ended in an answer."""
        self._blocked_in_a_row = 0
        self._refused_in_a_row = 0
        self.window.succeeded(self.in_flight)

    def refused(
        self,
        reservation: Reservation,
        now: float,
        *,
        retry_after_seconds: float | None,
        ramp: bool = False,
    ) -> None:
        """A request was refused for its rate: shrink, and pause for as long as the API asks."""
        shrink = self.window.ramped_too_fast if ramp else self.window.refused
        shrank = shrink(sent_at=reservation.sent_at, now=now)
        self._refused_in_a_row += 1
        if retry_after_seconds is None:
            # One of several requests that went out together: the first refusal has paused the class already.
            if not shrank:
                return
            retry_after_seconds = min(
                _LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0**self._blocked_in_a_row
            )
            self._blocked_in_a_row = min(self._blocked_in_a_row + 1, 10)
        elif (
            retry_after_seconds < _PASSING_PAUSE_SECONDS
            and self._refused_in_a_row < _REFUSALS_TO_BELIEVE
            and not self._is_exhausted()
        ):
            return
        self.block(now + retry_after_seconds)

    def block(self, until: float) -> None:
        """Let nothing out before ``until``; an earlier time than the one in force changes nothing."""
        self.blocked_until = max(self.blocked_until, until)

    def _is_free(self, now: float, estimate: Estimate) -> bool:
        """True when all that is needed is there; a quick look, for the usual case."""
        bucket = self.requests
        if bucket.limit is not None:
            bucket.refill(now)
            if bucket.free < 1.0:
                return False
        bucket = self.input_tokens
        if bucket.limit is not None:
            bucket.refill(now)
            if bucket.free < estimate.input_tokens * self._input_share:
                return False
        bucket = self.output_tokens
        if bucket.limit is not None:
            bucket.refill(now)
            return bucket.free >= self._expected_output
        return True

    def _is_exhausted(self) -> bool:
        return any(bucket.limit is not None and bucket.free < 1.0 for bucket in self.buckets)

    def _output_of(self, estimate: Estimate) -> float:
        expected = self._expected_output
        return min(estimate.max_output_tokens, expected)

    def _learn(self, reservation: Reservation, uncached_tokens: int, output_tokens: int) -> None:
        change = output_tokens - self._expected_output
        self._expected_output += change * (_FOLLOW_UP if change > 0 else _FOLLOW_DOWN)
        if reservation.estimated_input_tokens > 0:
            change = uncached_tokens / reservation.estimated_input_tokens - self._input_share
            share = self._input_share + change * (_FOLLOW_UP if change > 0 else _FOLLOW_DOWN)
            self._input_share = min(max(share, _SMALLEST_INPUT_SHARE), _LARGEST_INPUT_SHARE)


def input_of(snapshot: RateSnapshot) -> LimitReading | None:
    """The limit on input; the joint one of older platforms (``tokens``) stands in where input has none of its own."""
    return snapshot.input_tokens if snapshot.input_tokens is not None else snapshot.tokens
