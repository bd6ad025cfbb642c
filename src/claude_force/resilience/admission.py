"""Who may send a request now: concurrency, the user's limits, the limits of each model class, and turns. Pure.

No clock, no threads, no I/O: times come in, and who was let out is returned. `Governor` is the edge around it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from claude_force.resilience.class_state import ClassState
from claude_force.resilience.concurrency_window import FIRST_WINDOW
from claude_force.resilience.pace import Pace
from claude_force.resilience.rate_bucket import WINDOW_SECONDS
from claude_force.resilience.sharing import Report, UserLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.domain.usage import Usage
    from claude_force.resilience.sharing import Standing
    from claude_force.resilience.ticket import Ticket

NEVER: Final = float("inf")
_UNBOUNDED: Final = 2**31
# A process that has just begun to want something has no share yet; it may go slowly until its next visit.
_SMALLEST_RATE_SHARE: Final = 0.01


class Admission:
    """Lets requests out one by one. Not for several threads at once; the owner holds a lock.

    After every call that can let somebody out, the owner calls `pump`, wakes whom it returns, and sees to it that
    `pump` is called again ``next_seconds`` later. ``short`` says that a visit to the shared pools could help.
    """

    __slots__ = (
        "_first_window",
        "_own_pace",
        "_shared",
        "_user_pace",
        "_window_seconds",
        "classes",
        "in_flight",
        "max_concurrent",
        "next_seconds",
        "own_limits",
        "places",
        "short",
        "user_limits",
        "waiting",
    )

    def __init__(
        self,
        limits: UserLimits,
        *,
        shared: bool,
        window_seconds: float = WINDOW_SECONDS,
        first_window: float = FIRST_WINDOW,
    ) -> None:
        self._shared = shared
        self._window_seconds = window_seconds
        self._first_window = first_window
        # Of this process, and of all together as the last visit told.
        self.own_limits = limits
        self.user_limits = UserLimits()
        self._own_pace = Pace(limits.requests_per_minute)
        self._user_pace = Pace(None)
        # How many requests may be under way here by the division among processes; None without such a bound.
        self.places: int | None = None
        # How many requests may be under way in this process now: the smaller of both.
        self.max_concurrent = 0
        self._bound()
        self.in_flight = 0
        self.waiting = 0
        self.next_seconds = NEVER
        self.short = False
        # In the order in which they take turns.
        self.classes: OrderedDict[str, ClassState] = OrderedDict()

    @property
    def paused(self) -> bool:
        """True while the user lets nothing out, here or everywhere."""
        return self.own_limits.paused or self.user_limits.paused

    def state_of(self, key: str) -> ClassState:
        """The state of one origin and model class."""
        state = self.classes.get(key)
        if state is None:
            state = self.classes[key] = ClassState(
                window_seconds=None if self._shared else self._window_seconds,
                first_window=self._first_window,
            )
        return state

    def enter(self, ticket: Ticket, now: float) -> bool:
        """Let a request out at once, or queue it and return False."""
        state = self.state_of(ticket.key)
        if (
            not state.queue
            and self._wait_seconds(now) <= 0.0
            and state.wait_seconds(now, ticket.estimate) <= 0.0
        ):
            self._let_out(ticket, state, now)
            return True
        state.queue.put(ticket.flow, ticket)
        self.waiting += 1
        return False

    def pump(self, now: float) -> list[Ticket]:
        """Let out everyone whose turn has come."""
        out: list[Ticket] = []
        self.next_seconds, self.short = NEVER, False
        while self.waiting:
            wait = self._wait_seconds(now)
            if wait > 0.0:
                self.next_seconds = wait
                break
            ticket = self._next(now)
            if ticket is None:
                break
            out.append(ticket)
        return out

    def leave(self, ticket: Ticket) -> None:
        """Forget a request that was not sent, whether it waits or was just let out."""
        state = self.classes[ticket.key]
        if state.queue.remove(ticket.flow, ticket):
            self.waiting -= 1
        elif ticket.reservation is not None:
            state.rate.withdraw(ticket.reservation)
            ticket.reservation = None
            self.in_flight -= 1

    def finish(self, ticket: Ticket, usage: Usage | None) -> None:
        """End a request that was let out; without a usage what it reserved counts as used."""
        assert ticket.reservation is not None  # noqa: S101 - the owner let it out
        self.classes[ticket.key].rate.settle(ticket.reservation, usage)
        self.in_flight -= 1

    def pause_seconds(self, key: str, now: float) -> float:
        """For how long the API still asks one class to send nothing; 0 or less for no pause."""
        return self.classes[key].rate.blocked_until - now

    def remove_impatient(self, now: float) -> list[tuple[Ticket, float]]:
        """Take out who would rather fail than wait for the end of its class's pause, with the pause in seconds."""
        removed: list[tuple[Ticket, float]] = []
        for state in self.classes.values():
            pause = state.rate.blocked_until - now
            if pause > 0.0 and state.queue:
                removed += [
                    (ticket, pause) for ticket in state.queue if pause > ticket.patience_seconds
                ]
        for ticket, _ in removed:
            self.classes[ticket.key].queue.remove(ticket.flow, ticket)
        self.waiting -= len(removed)
        return removed

    def drain(self) -> list[Ticket]:
        """Take everyone out of the queue."""
        everyone = [ticket for state in self.classes.values() for ticket in state.queue.drain()]
        self.waiting = 0
        return everyone

    def set_own_limits(self, limits: UserLimits) -> None:
        """Change the limits of this process."""
        self._own_pace.change(limits.requests_per_minute)
        self.own_limits = limits
        self._bound()

    def report(
        self, now: float, *, leaving: bool = False, errors: Sequence[tuple[str, str, str]] = ()
    ) -> Report:
        """What to tell at a visit to the shared pools; on ``leaving`` everything goes back."""
        return Report(
            in_flight=self.in_flight,
            waiting=self.waiting,
            classes={
                key: state.report(now, leaving=leaving) for key, state in self.classes.items()
            },
            errors=errors,
        )

    def take(self, told: Report, standing: Standing, now: float) -> float:
        """Take over what a visit gave; returns after how many seconds the pools will have what they lacked, or 0."""
        rate = standing.limits.requests_per_minute
        self._user_pace.change(rate and rate * max(standing.rate_share, _SMALLEST_RATE_SHARE))
        self.user_limits = standing.limits
        self.places = standing.places
        self._bound()
        wait = 0.0
        for key, given in standing.classes.items():
            self.classes[key].take(told.classes[key], given, now)
            if given.wait_seconds > 0.0:
                wait = min(wait or NEVER, given.wait_seconds)
        return wait

    def forget_standings(self) -> None:
        """Let nothing out before the next visit, after a visit that gave everything back."""
        for state in self.classes.values():
            state.standing = None

    def stand_alone(self) -> None:
        """Go on without the shared pools."""
        self._shared = False
        self.places = None
        self._bound()
        for state in self.classes.values():
            state.stand_alone(self._window_seconds)

    def _next(self, now: float) -> Ticket | None:
        """Let out the next one, class by class in turn; or None, with what it takes until somebody can go."""
        for key, state in self.classes.items():
            first = state.queue.first()
            if first is None:
                continue
            wait = state.wait_seconds(now, first.estimate)
            if wait <= 0.0:
                ticket = state.queue.take()
                self.waiting -= 1
                self._let_out(ticket, state, now)
                self.classes.move_to_end(key)
                return ticket
            self.next_seconds = min(self.next_seconds, wait)
            if wait == NEVER and state.is_short(now, first.estimate):
                self.short = True
        return None

    def _wait_seconds(self, now: float) -> float:
        """Seconds until a request of any class may go out."""
        if self.in_flight >= self.max_concurrent:
            return NEVER
        own, user = self._own_pace, self._user_pace
        if not own.limited and not user.limited:
            return 0.0
        return max(own.wait_seconds(now), user.wait_seconds(now))

    def _bound(self) -> None:
        """Work out how many requests may be under way."""
        bounds = [
            bound for bound in (self.own_limits.max_concurrent, self.places) if bound is not None
        ]
        self.max_concurrent = 0 if self.paused else min(bounds, default=_UNBOUNDED)

    def _let_out(self, ticket: Ticket, state: ClassState, now: float) -> None:
        ticket.reservation = state.reserve(now, ticket.estimate)
        self.in_flight += 1
        if self._own_pace.limited:
            self._own_pace.sent(now)
        if self._user_pace.limited:
            self._user_pace.sent(now)
