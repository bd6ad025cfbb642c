"""Stops a run of many calls: nothing more goes out, and nobody waits for anything any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import CallError
from claude_force.domain.events import AttemptStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.errors import ClaudeForceError
    from claude_force.domain.events import Event
    from claude_force.domain.halting import Halted

_NOT_SENT: Final = "Not sent, because the run was stopped: "


class RunStop:
    """An event listener for every call of one run: after a fatal error of any of them, no request goes out.

    Calls wait for a place, or for their next attempt, after they were started; asking whether the run goes on when a
    call starts would let all of those through. They are woken instead of going on to wait. A request that is on the
    wire already is let end, since it is paid, unless the run is cut. Any thread may use it.

    Args:
        is_fatal: whether an error makes every further call pointless.
    """

    def __init__(self, is_fatal: Callable[[ClaudeForceError], bool]) -> None:
        self._is_fatal = is_fatal
        self._cause: CallError | None = None
        self._is_cut = False
        # Calls under way. Sets change in one step each, so that threads need no lock.
        self._calls: set[Halted] = set()

    @property
    def stopped(self) -> bool:
        """Nothing more is sent."""
        return self._cause is not None

    def stop(self, cause: CallError, *, cut: bool = False) -> None:
        """Stop the run for a reason that no call has met; with ``cut`` what is on the wire ends too."""
        self._cause = self._cause or cause
        self._is_cut |= cut
        for call in tuple(self._calls):
            call.wake(cut=cut)

    def consider(self, error: Exception) -> None:
        """Stop the run if ``error`` is fatal; the first one stays the cause."""
        if self._cause is None and isinstance(error, CallError) and self._is_fatal(error):
            self.stop(error)

    def watch(self, call: Halted) -> None:
        """See `Halt.watch`."""
        self._calls.add(call)
        if self._cause is not None:
            call.wake(cut=self._is_cut)

    def unwatch(self, call: Halted) -> None:
        """See `Halt.unwatch`."""
        self._calls.discard(call)

    def refusal(self, *, sent: bool) -> CallError:
        """See `Halt.refusal`."""
        assert self._cause is not None  # noqa: S101 - the contract
        return type(self._cause)(str(self._cause)) if sent else not_sent(self._cause)

    def __call__(self, event: Event) -> None:
        """Refuse an attempt once the run is stopped."""
        if type(event) is AttemptStarted and self._cause is not None:
            raise not_sent(self._cause)


def not_sent(cause: CallError) -> CallError:
    """The error of a call that was not sent because of ``cause``: of the same class, and as little worth a retry."""
    said = str(cause)
    return type(cause)(
        said if said.startswith(_NOT_SENT) else f"{_NOT_SENT}{said}",
        status=cause.status,
        error_type=cause.error_type,
        error_code=cause.error_code,
        should_retry=cause.should_retry,
        attempts=0,
    )
