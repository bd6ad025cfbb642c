"""The governor: decides for every request of this process when it may go out.

One governor serves all agents, threads and event loops. It knows the limits of the API from response headers and
reserves from them before a request is sent; it bounds concurrency, and lets flows (runs, agents) take turns. With
shared limits it divides all of that with the other processes of the user.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import CircuitOpenError, ClosedError, InputError, RateLimitError
from claude_force.domain.models import model_class
from claude_force.resilience.admission import NEVER, Admission
from claude_force.resilience.alarm import Alarm
from claude_force.resilience.concurrency_window import FIRST_WINDOW
from claude_force.resilience.rate_bucket import WINDOW_SECONDS
from claude_force.resilience.sharing import UserLimits
from claude_force.resilience.slot import Slot
from claude_force.resilience.visits import Visits

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.errors import CallError
    from claude_force.domain.rate_limits import RateSnapshot
    from claude_force.resilience.rate_class import Estimate
    from claude_force.resilience.sharing import LimitsExchange
    from claude_force.resilience.ticket import Ticket

_RAMP_CODE: Final = "ramp_limit_exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernorStatistics:
    """A governor at one moment."""

    in_flight: int
    waiting: int
    # Requests that may be under way in this process now.
    max_concurrent: int
    # What the user set for all processes together.
    user_limits: UserLimits
    paused: bool
    # False when the limits were never shared, or cannot be shared any more.
    shared: bool
    # Why sharing failed; the governor then goes on alone.
    sharing_failure: str | None


class Governor:
    """Admits requests: ``async with governor.slot(…) as slot``.

    Any number of tasks, threads and event loops may use it at the same time.

    Args:
        max_concurrent: requests of this process under way, over all models.
        requests_per_minute: an own limit of this process, spread evenly over the minute; None for none.
        shared: the state that all processes of the user share; None leaves this process alone.
        window_seconds: in which the API's buckets refill; differs from a minute only against a simulator whose
            time runs faster.
        first_window: requests under way to one model class at the start.
        clock: monotonic seconds.

    Raises:
        InputError: a limit that lets nothing run.
    """

    def __init__(
        self,
        *,
        max_concurrent: int = 10,
        requests_per_minute: int | None = None,
        shared: LimitsExchange | None = None,
        window_seconds: float = WINDOW_SECONDS,
        first_window: float = FIRST_WINDOW,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = UserLimits(max_concurrent=max_concurrent, requests_per_minute=requests_per_minute)
        _check(limits)
        # Protects the admission; held for some instructions, never across an await or a disk.
        self._lock = threading.Lock()
        self._clock = clock
        self._admission = Admission(
            limits,
            shared=shared is not None,
            window_seconds=window_seconds,
            first_window=first_window,
        )
        self._visits = None if shared is None else Visits(self._admission, self._lock, shared)
        self._alarm = Alarm(self._work, clock)
        self._closed = False
        # The class of a model is found by a regular expression; that is kept.
        self._keys: dict[tuple[str, str], str] = {}

    def slot(
        self,
        origin: str,
        model: str,
        flow: str,
        estimate: Estimate,
        *,
        patience_seconds: float = float("inf"),
    ) -> Slot:
        """A place for one request, taken by ``async with``.

        Args:
            origin: the base URL or platform; each has limits of its own.
            model: the model's id; models of one class share limits.
            flow: who asks, a run or an agent; flows take turns.
            estimate: what the request is expected to use.
            patience_seconds: if the API demands a longer pause, the wait ends in a `RateLimitError` at once.
        """
        key = self._keys.get((origin, model))
        if key is None:
            key = self._keys[origin, model] = class_key(origin, model)
        return Slot(self, key, flow, estimate, patience_seconds)

    def set_limits(
        self, *, max_concurrent: int | None = None, requests_per_minute: int | None = None
    ) -> None:
        """Change this process's own limits. Waiting requests feel it at once.

        Args:
            max_concurrent: None leaves it.
            requests_per_minute: None leaves it, 0 removes the limit.

        Raises:
            InputError: a limit that lets nothing run.
        """
        with self._lock:
            own = self._admission.own_limits
            if max_concurrent is not None:
                own = replace(own, max_concurrent=max_concurrent)
            if requests_per_minute is not None:
                own = replace(own, requests_per_minute=requests_per_minute or None)
            _check(own)
            self._admission.set_own_limits(own)
            self._pump(self._clock())

    def pause(self) -> None:
        """Let nothing more out; what is under way goes on."""
        self._set_paused(paused=True)

    def resume(self) -> None:
        """Let requests out again."""
        self._set_paused(paused=False)

    def statistics(self) -> GovernorStatistics:
        """What is under way and waiting, and within which limits."""
        with self._lock:
            admission = self._admission
            return GovernorStatistics(
                in_flight=admission.in_flight,
                waiting=admission.waiting,
                max_concurrent=admission.max_concurrent,
                user_limits=admission.user_limits,
                paused=admission.paused,
                shared=self._visits is not None and self._visits.failure is None,
                sharing_failure=None if self._visits is None else self._visits.failure,
            )

    async def aclose(self) -> None:
        """Turn away who still waits, and give back what is shared. A second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for ticket in self._admission.drain():
                _slot(ticket).turn_away(
                    ClosedError("The orchestrator was closed while a call waited.")
                )
        await asyncio.to_thread(self._leave)

    # The rest is called by slots.

    def enter(self, slot: Slot) -> bool:
        """Let a request out at once, or queue it and return False."""
        now = self._clock()
        with self._lock:
            if self._closed:
                raise ClosedError("The orchestrator is closed; make a new one.")
            let_out = self._admission.enter(slot, now)
            if not let_out:
                slot.start_waiting()
                # Who waits already was looked at when the pause began: looking at all of them again for each that
                # comes would take a second for some thousands.
                pause = self._admission.pause_seconds(slot.key, now)
                if pause > slot.patience_seconds:
                    self._admission.leave(slot)
                    _turn_away(slot, pause)
                self._pump(now)
            if self._visits is not None:
                self._alarm.ring_by(self._visits.due_at(now))
        return let_out

    def leave(self, slot: Slot) -> None:
        """Forget a request that was not sent."""
        with self._lock:
            self._admission.leave(slot)
            self._pump(self._clock())

    def finish(self, slot: Slot) -> None:
        """End a request that was let out, with what ``slot.usage`` and ``slot.error`` tell."""
        admission = self._admission
        with self._lock:
            if isinstance(slot.error, CircuitOpenError) or (
                slot.usage is not None and not slot.usage
            ):
                # Nothing was sent, so nothing is used up, and nothing can be learned.
                admission.leave(slot)
                self._pump(self._clock())
                return
            if slot.error is not None:
                self._note_failure(slot, slot.error)
            elif slot.usage is not None:
                admission.classes[slot.key].rate.succeeded()
            admission.finish(slot, slot.usage)
            if admission.waiting:
                self._pump(self._clock())

    def observe(self, slot: Slot, snapshot: RateSnapshot) -> None:
        """Take over what a response reports."""
        with self._lock:
            rate = self._admission.classes[slot.key].rate
            assert slot.reservation is not None  # noqa: S101 - it was let out
            rate.observe(slot.reservation, snapshot)
            if self._visits is not None and rate.sample is not None and rate.requests.limit is None:
                # The first that is heard of the limits: every process should know at once.
                self._visit_now()

    def _note_failure(self, slot: Slot, error: CallError) -> None:
        """Slow down if the API asks for it; the lock is held."""
        assert slot.reservation is not None  # noqa: S101 - it was let out
        if error.usages and slot.usage is None:
            slot.usage = error.usage
        if isinstance(error, RateLimitError):
            now = self._clock()
            self._admission.classes[slot.key].rate.refused(
                slot.reservation,
                now,
                retry_after_seconds=error.retry_after_seconds,
                ramp=error.error_code == _RAMP_CODE,
            )
            self._turn_away_impatient(now)
            self._visit_now()
        if self._visits is not None:
            self._visits.note_error(slot.key, error)

    def _set_paused(self, *, paused: bool) -> None:
        with self._lock:
            self._admission.set_own_limits(replace(self._admission.own_limits, paused=paused))
            self._pump(self._clock())

    def _pump(self, now: float) -> None:
        """Wake whose turn has come and arrange the next look; the lock is held."""
        admission = self._admission
        if not admission.waiting:
            return
        while True:
            gone = [ticket for ticket in admission.pump(now) if not _slot(ticket).wake()]
            if not gone:
                break
            for ticket in gone:
                admission.leave(ticket)
        self._alarm.ring_by(now + admission.next_seconds)
        if admission.short:
            self._visit_now()

    def _visit_now(self) -> None:
        if self._visits is not None:
            self._alarm.ring_by(self._visits.hurry(self._clock()))

    def _work(self) -> float:
        """Visit the shared pools if that is due, and let out whose turn has come; on the alarm's thread."""
        due = self._visits.visit(self._clock) if self._visits is not None else NEVER
        with self._lock:
            now = self._clock()
            if self._visits is not None:
                self._turn_away_impatient(now)
            self._pump(now)
        return due

    def _leave(self) -> None:
        self._alarm.stop()
        if self._visits is not None:
            self._visits.leave(self._clock)

    def _turn_away_impatient(self, now: float) -> None:
        for ticket, pause in self._admission.remove_impatient(now):
            _turn_away(_slot(ticket), pause)


def _turn_away(slot: Slot, pause: float) -> None:
    slot.turn_away(
        RateLimitError(
            f"The API asks to send nothing for another {pause:.0f} s, longer than the {slot.patience_seconds:.0f} s that "
            "this call has left. Run it again later, or allow more time (--timeout, timeout_seconds).",
            retry_after_seconds=pause,
            attempts=0,
        )
    )


def _slot(ticket: Ticket) -> Slot:
    assert isinstance(ticket, Slot)  # noqa: S101 - the governor puts nothing else into its admission
    return ticket


def _check(limits: UserLimits) -> None:
    for name in ("max_concurrent", "requests_per_minute"):
        value = getattr(limits, name)
        if value is not None and value < 1:
            raise InputError(f"{name} is {value!r}, which would let nothing run; give 1 or more.")


def class_key(origin: str, model: str) -> str:
    """What limits are kept by: the origin and the class of the model."""
    return f"{model_class(model)} at {origin}"
