"""A circuit breaker: stops sending to a service that is down, and finds out with single probes when it is back.

Pure: states are values, times come in. Closed lets everything through. After some failures in a row it opens and
lets nothing through; after an interval it is half-open and lets exactly one probe through, whose outcome closes it or
keeps it open for another interval.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from claude_force.domain.errors import (
    CallTimeoutError,
    CertificateError,
    CircuitOpenError,
    ServiceError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.errors import CallError

_KEPT_ERRORS: Final = 3
# Timeout and conflict of a single request: retried, but no sign that the service is down.
_NOT_AN_OUTAGE: Final = frozenset({408, 409})


class Phase(StrEnum):
    """What a breaker does with a request."""

    # Everything goes through.
    CLOSED = "closed"
    # Nothing does.
    OPEN = "open"
    # Half-open, nothing does but the probe that is under way.
    PROBING = "probing"
    # Half-open: the next request is the probe.
    DUE = "probe_due"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens and how long it stays open."""

    # Failures in a row, without a success between them.
    failures_to_open: int = 5
    # From opening, or from the start of a probe, to the next probe.
    interval_seconds: float = 60.0
    # An outage is silent: with a success within this time, failures in a row are bad luck among many requests at once.
    silence_seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.failures_to_open < 1 or not self.interval_seconds > 0:
            raise ValueError(
                f"{self!r} can never work: give 1 failure or more, and seconds above 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerState:
    """A breaker at one moment; the default is closed and without a failure."""

    # Failures in a row.
    failures: int = 0
    # None while closed.
    opened_at: float | None = None
    # When the last probe went out, and who has one under way.
    probed_at: float | None = None
    probe_by: str | None = None
    # The latest messages of failures, the newest last.
    errors: tuple[str, ...] = ()

    def next_probe_at(self, policy: BreakerPolicy) -> float:
        """When the next probe is due; for an open breaker."""
        latest = max(self.opened_at or 0.0, self.probed_at or 0.0)
        return latest + policy.interval_seconds

    def phase(self, policy: BreakerPolicy, now: float) -> Phase:
        """In which phase it is."""
        if self.opened_at is None:
            return Phase.CLOSED
        if self.probe_by is not None:
            return Phase.PROBING
        return Phase.DUE if now >= self.next_probe_at(policy) else Phase.OPEN


CLOSED: Final = BreakerState()


class Verdict(StrEnum):
    """What becomes of a request."""

    PASS = "pass"  # noqa: S105 - no password: the request may go
    PROBE = "probe"
    REFUSE = "refuse"


class Outcome(StrEnum):
    """What a request says about the service."""

    # It answered, be it with an error about the request.
    ALIVE = "alive"
    DOWN = "down"
    # The request ended before it could tell: cancelled, or out of time.
    UNKNOWN = "unknown"


class BreakerStates(Protocol):
    """Where processes meet to agree on breakers. Any thread may call it, and it may wait for a disk or a network."""

    def change(self, key: str, change: Callable[[BreakerState], BreakerState]) -> BreakerState:
        """Replace a state by what ``change`` makes of it, so that nobody changes it meanwhile; returns the new one.

        ``change`` may be called more than once; what its last call returned counts.

        Raises:
            StorageError: processes cannot meet here.
        """


def admit(
    state: BreakerState, policy: BreakerPolicy, now: float, *, by: str
) -> tuple[BreakerState, Verdict]:
    """Whether a request may go, and the state after; ``by`` names who would send a probe."""
    if state.opened_at is None:
        return state, Verdict.PASS
    if state.probe_by is not None or now < state.next_probe_at(policy):
        return state, Verdict.REFUSE
    return replace(state, probed_at=now, probe_by=by), Verdict.PROBE


def passed(
    state: BreakerState,
    policy: BreakerPolicy,
    now: float,
    outcome: Outcome,
    *,
    message: str = "",
    alive_at: float | None = None,
) -> BreakerState:
    """The state after a request that was let through while closed; ``alive_at`` is when one last succeeded.

    What such a request tells after the breaker has opened comes too late to count: only a probe closes it.
    """
    if state.opened_at is not None or outcome is Outcome.UNKNOWN:
        return state
    if outcome is Outcome.ALIVE:
        return CLOSED if state.failures else state
    failures = state.failures + 1
    is_silent = alive_at is None or now - alive_at >= policy.silence_seconds
    return replace(
        state,
        failures=failures,
        opened_at=now if failures >= policy.failures_to_open and is_silent else None,
        errors=_with(state.errors, message),
    )


def probed(state: BreakerState, outcome: Outcome, *, by: str, message: str = "") -> BreakerState:
    """The state after the probe that ``by`` sent; without effect when its place was given up meanwhile."""
    if state.probe_by != by:
        return state
    if outcome is Outcome.ALIVE:
        return CLOSED
    if outcome is Outcome.UNKNOWN:
        return replace(state, probe_by=None)
    return replace(
        state, failures=state.failures + 1, probe_by=None, errors=_with(state.errors, message)
    )


def outcome_of(error: CallError) -> Outcome:
    """What a failed call says about the service: only faults of the service and of the connection count."""
    match error:
        case CallTimeoutError() if error.should_retry and not error.usages:
            # The time of an attempt, not of its call, and not even the beginning of an answer came.
            return Outcome.DOWN
        case CircuitOpenError() | CallTimeoutError() | CertificateError():
            return Outcome.UNKNOWN
        case TransportError():
            return Outcome.DOWN
        case ServiceError() if error.status not in _NOT_AN_OUTAGE:
            return Outcome.DOWN
        case _:
            return Outcome.ALIVE


def _with(errors: tuple[str, ...], message: str) -> tuple[str, ...]:
    return (*errors, message)[-_KEPT_ERRORS:] if message else errors
