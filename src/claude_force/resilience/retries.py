"""When to send again, decided without a clock, a sleep or a random generator of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_force.resilience.classification import RETRYING, action_for

if TYPE_CHECKING:
    from claude_force.domain.errors import CallError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter.

    Before retry ``n`` (from 1) the wait is uniform in ``[0, min(max_wait, first_wait * 2**(n - 1))]`` seconds:
    spreading over the whole range keeps callers that failed together from coming back together. A `Retry-After`
    of the response is a floor under that.

    Of our own, since the libraries for it decide by the exception alone: here the response, the deadline, what is left of
    a budget and the end of a run decide too, and the place among concurrent requests is given up for the wait.
    """

    # Requests of one call beyond the first.
    max_retries: int = 3
    first_wait_seconds: float = 0.5
    max_wait_seconds: float = 30.0

    def wait_seconds(
        self, error: CallError, *, attempt: int, remaining_seconds: float, random_unit: float
    ) -> float | None:
        """Seconds to wait before attempt ``attempt + 1``, or None when the call has failed for good.

        Args:
            error: what the attempt ended in.
            attempt: number of the failed attempt, from 1.
            remaining_seconds: until the call's deadline; a wait that does not fit means None at once, because
                sleeping towards a certain failure helps nobody.
            random_unit: a random number from 0 up to 1.
        """
        if attempt > self.max_retries or action_for(error) not in RETRYING:
            return None
        ceiling = min(self.max_wait_seconds, self.first_wait_seconds * 2.0 ** (attempt - 1))
        wait = ceiling * random_unit
        if error.retry_after_seconds is not None:
            # A little over what the server asks, so that callers it turned away together do not return together.
            wait = error.retry_after_seconds + min(wait, 1.0)
        return wait if wait < remaining_seconds else None


def too_long_a_wait(error: CallError, remaining_seconds: float) -> str:
    """A sentence for a failed call whose response asks for a wait that its deadline does not allow; else nothing."""
    seconds = error.retry_after_seconds
    if seconds is None or seconds < remaining_seconds or action_for(error) not in RETRYING:
        return ""
    if not error.attempts:
        # Of ours, not of a response: it was not sent, and says itself what it would have to wait for.
        return ""
    return (
        f" It asks to wait {seconds:,.0f} s, longer than the {max(remaining_seconds, 0.0):,.0f} s that this call has left: "
        "run it again later, or allow more time (--timeout, timeout_seconds)."
    )
