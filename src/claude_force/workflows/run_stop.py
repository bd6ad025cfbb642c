"""Stops a run of many calls at the last moment before a request goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.domain.errors import SpendLimitError
from claude_force.domain.events import AttemptFailed, AttemptStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.errors import CallError, ClaudeForceError
    from claude_force.domain.events import Event


class RunStop:
    """An event listener for every call of one run: after a fatal error of any of them, no request goes out.

    Calls wait for a place, or for their next attempt, after they were started; asking whether the run goes on when a
    call starts would let all of those through. A request that is on the wire already is let end: it is paid.

    Args:
        is_fatal: whether an error makes every further call pointless.
    """

    def __init__(self, is_fatal: Callable[[ClaudeForceError], bool]) -> None:
        self._is_fatal = is_fatal
        self._cause: CallError | None = None

    def stop(self, cause: CallError) -> None:
        """Stop the run for a reason that no call has met."""
        self._cause = self._cause or cause

    def consider(self, error: CallError) -> None:
        """Stop the run if ``error`` is fatal; the first one stays the cause."""
        if self._cause is None and self._is_fatal(error):
            self._cause = error

    def __call__(self, event: Event) -> None:
        """Refuse an attempt once the run is stopped.

        A spend cap is noticed here already: on its way to the caller the error may wait for a look into the cache.
        """
        if type(event) is AttemptStarted:
            if self._cause is not None:
                raise not_sent(self._cause)
        elif type(event) is AttemptFailed and event.error_kind == SpendLimitError.kind:
            self.consider(SpendLimitError(event.message))


def not_sent(cause: CallError) -> CallError:
    """The error of a call that was not sent because of ``cause``: of the same class, and as little worth a retry."""
    return type(cause)(
        f"Not sent, because the run was stopped: {cause}",
        status=cause.status,
        error_type=cause.error_type,
        error_code=cause.error_code,
        should_retry=cause.should_retry,
        attempts=0,
    )
