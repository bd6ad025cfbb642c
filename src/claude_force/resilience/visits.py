"""When and how one process visits the limits that it shares with others; on a thread, never on an event loop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from claude_force.resilience.admission import NEVER

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from claude_force.domain.errors import CallError
    from claude_force.resilience.admission import Admission
    from claude_force.resilience.sharing import LimitsExchange, Report

_LOG: Final = logging.getLogger(__name__)

# A visit costs about half a millisecond of one thread; five a second are nothing, and nobody holds what it does not
# use for longer than this.
_USUAL_SECONDS: Final = 0.2
# While the pools are empty every process looks again this often at most.
_SHORTEST_SECONDS: Final = 0.02
# After the last request everything is given back.
_LINGER_SECONDS: Final = 1.0
_KEPT_ERRORS: Final = 100


class Visits:
    """Carries reports of an `Admission` to the shared limits and brings back what it may use.

    When the shared state cannot be used, the admission goes on alone, once and for good; ``failure`` says why.

    Args:
        admission: guarded by ``lock``, which is never held during a visit.
        shared: the state that all processes of the user share.
    """

    def __init__(self, admission: Admission, lock: threading.Lock, shared: LimitsExchange) -> None:
        self._admission = admission
        self._lock = lock
        self._shared = shared
        self._due_at = NEVER
        self._not_before = 0.0
        self._busy_at = 0.0
        self._errors: list[tuple[str, str, str]] = []
        self._told_pause = False
        self.failure: str | None = None

    def works(self) -> bool:
        """False once the shared state could not be used."""
        return self.failure is None

    def due_at(self, now: float) -> float:
        """A request has arrived: when the next visit is due. The lock is held."""
        self._busy_at = now
        if self._due_at == NEVER and self.failure is None:
            self._due_at = max(now, self._not_before)
        return self._due_at

    def hurry(self, now: float) -> float:
        """Have the next visit as soon as it makes sense; returns when. The lock is held."""
        if self.failure is None:
            self._due_at = min(self._due_at, max(now, self._not_before))
        return self._due_at

    def note_error(self, key: str, error: CallError) -> None:
        """Remember a failure for the next visit. The lock is held."""
        if len(self._errors) < _KEPT_ERRORS:
            self._errors.append((key, error.kind, str(error)))

    def visit(self, clock: Callable[[], float]) -> float:
        """Visit if it is due; returns when the next visit is due."""
        with self._lock:
            now = clock()
            if now < self._due_at or not self.works():
                return self._due_at
            self._due_at = NEVER
            leaving = self._is_idle(now)
            report = self._report(now, leaving=leaving)
        wait = self._exchange(report, clock)
        with self._lock:
            now = clock()
            self._not_before = now + min(max(wait, _SHORTEST_SECONDS), _USUAL_SECONDS)
            if leaving:
                self._admission.forget_standings()
            if self.works() and not (leaving and self._is_idle(now)):
                usual = min(_USUAL_SECONDS, wait) if wait else _USUAL_SECONDS
                self._due_at = min(self._due_at, now + max(usual, _SHORTEST_SECONDS))
            due, is_paused = self._due_at, self._admission.user_limits.paused
            waiting = self._admission.waiting
        self._tell_pause(waiting if is_paused else None)
        return due

    def leave(self, clock: Callable[[], float]) -> None:
        """The last visit: give everything back."""
        with self._lock:
            report = self._report(clock(), leaving=True)
        self._exchange(report, clock)
        self._shared.close()

    def _tell_pause(self, waiting: int | None) -> None:
        """Warn once in each pause of the user that somebody waits for its end; None while there is none."""
        if waiting is None:
            self._told_pause = False
        elif waiting and not self._told_pause:
            self._told_pause = True
            _LOG.warning(
                "paused by `claude-force ctl pause`: nothing is sent until `claude-force ctl resume` "
                "(--simulated for simulated runs)"
            )

    def _is_idle(self, now: float) -> bool:
        admission = self._admission
        return (
            not admission.in_flight
            and not admission.waiting
            and now - self._busy_at > _LINGER_SECONDS
        )

    def _report(self, now: float, *, leaving: bool) -> Report:
        errors, self._errors = self._errors, []
        return self._admission.report(now, leaving=leaving, errors=tuple(errors))

    def _exchange(self, report: Report, clock: Callable[[], float]) -> float:
        """Report and take over what comes back; returns after how many seconds more can be had, or 0."""
        if self.failure is not None:
            return 0.0
        try:
            standing = self._shared.exchange(report)
        except Exception as error:  # noqa: BLE001 - whatever fails in sharing, requests must not wait for it for ever
            with self._lock:
                self.failure = str(error) or type(error).__name__
                self._admission.stand_alone()
            _LOG.warning(
                "limits are not shared with other processes any more, this one goes on alone: %s",
                self.failure,
            )
            return 0.0
        with self._lock:
            return self._admission.take(report, standing, clock())
