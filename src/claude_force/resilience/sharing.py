"""How processes divide limits among them: values that they exchange, and the arithmetic. No clock, no I/O.

What a class of models may still use stands in a pool that all processes see. A process takes out of it what it will
need until its next visit, spends that without asking anyone, and puts the rest back at the visit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KINDS: Final = ("requests", "input_tokens", "output_tokens")

# What a report of the API lacks it lacks for certain; what it has too much may be another process's that we have
# not heard of, so that is believed in halves.
_UPWARD_GAIN: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one process has and wants of one kind of one class."""

    # Taken out of the pool and not spent yet; below zero if more was spent than taken.
    held: float
    # What of our spending the API has not charged yet, and what is held.
    claim: float
    # Enough until the next visit, and the least with which anything can go out.
    wanted: float = 0.0
    needed: float = 0.0
    # The limit that a response has named since the last visit.
    limit: float | None = None
    # By how much our count was too low when that request went out; None without a report.
    error: float | None = None
    # `Pool.corrected` as it was known when that request went out, and `Share.source` then.
    corrected_then: float = 0.0
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What nobody holds of one kind of one class."""

    # A minute's worth; None until a response has named it.
    limit: float | None = None
    level: float = 0.0
    # Sum of all corrections by reports of the API.
    corrected: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassReport:
    """What a process tells about one class when it visits."""

    asks: Mapping[str, Ask]
    # Requests under way and waiting.
    demand: int
    # The API asked for silence for so long, from now.
    blocked_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """What the other processes have of one kind of one class, together."""

    held: float = 0.0
    claim: float = 0.0
    demand: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a visit gives of one kind."""

    limit: float | None
    # What the process holds now, instead of what it reported.
    held: float
    # What others and the pool have: a report of the API speaks of all of it.
    elsewhere: float
    corrected: float
    # Which pools it was drawn from, where there may be several: a report of the API is weighed against the same.
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassStanding:
    """What a process may use of one class until its next visit."""

    shares: Mapping[str, Share]
    blocked_seconds: float = 0.0
    # When the pool will have what is needed; 0 when it had.
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UserLimits:
    """What the user allows all processes together; None for no limit."""

    max_concurrent: int | None = None
    requests_per_minute: int | None = None
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a process tells when it visits."""

    in_flight: int
    waiting: int
    classes: Mapping[str, ClassReport]
    # (class, kind of error, message), seen since the last visit.
    errors: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a visit gives."""

    limits: UserLimits = UserLimits()
    # How many requests this process may have under way; None for no bound but its own.
    places: int | None = None
    # The part of the user's requests per minute that is this process's.
    rate_share: float = 1.0
    classes: Mapping[str, ClassStanding] = field(default_factory=dict)


class LimitsExchange(Protocol):
    """Where processes meet to divide limits. Methods may wait for a disk or a network; any thread may call them."""

    def exchange(self, report: Report) -> Standing:
        """Report what this process has and wants, and get what it may use until the next visit; atomic.

        A report without any demand gives everything back and ends the lease. What dead processes held goes back to
        the pools here.

        Raises:
            StorageError: processes cannot meet here.
        """

    def close(self) -> None:
        """Let go of what is open; a second call does nothing."""


def stricter(one: UserLimits, other: UserLimits) -> UserLimits:
    """What holds when both do."""
    most = [bound for bound in (one.max_concurrent, other.max_concurrent) if bound is not None]
    rates = [
        rate for rate in (one.requests_per_minute, other.requests_per_minute) if rate is not None
    ]
    return UserLimits(
        max_concurrent=min(most, default=None),
        requests_per_minute=min(rates, default=None),
        paused=one.paused or other.paused,
    )


def refilled(pool: Pool, *, elapsed_seconds: float, claimed: float, window_seconds: float) -> Pool:
    """The pool after some time; it and all claims together never exceed the limit."""
    if pool.limit is None:
        return pool
    level = pool.level + max(0.0, elapsed_seconds) * pool.limit / window_seconds
    return Pool(limit=pool.limit, level=min(level, pool.limit - claimed), corrected=pool.corrected)


def reported(pool: Pool, ask: Ask) -> Pool:
    """The pool after the report of the API that a process brings."""
    limit = ask.limit if ask.limit is not None else pool.limit
    correction = 0.0
    if ask.error is not None and limit is not None:
        correction = ask.error - (pool.corrected - ask.corrected_then)
        # The first report is not a correction: it is all that is known.
        if correction > 0.0 and pool.limit is not None:
            correction *= _UPWARD_GAIN
    return Pool(limit=limit, level=pool.level + correction, corrected=pool.corrected + correction)


def affordable(pools: Mapping[str, Pool], asks: Mapping[str, Ask]) -> bool:
    """True when the pools and what the process holds suffice for its next request, in every kind."""
    return all(_missing(pools[kind], ask) <= 0.0 for kind, ask in asks.items())


def seconds_until_affordable(
    pools: Mapping[str, Pool], asks: Mapping[str, Ask], window_seconds: float
) -> float:
    """How long the pools need for that, if nobody else takes from them."""
    return max(
        (
            _missing(pool, ask) * window_seconds / pool.limit
            for kind, ask in asks.items()
            if (pool := pools[kind]).limit is not None
        ),
        default=0.0,
    )


def drawn(pool: Pool, ask: Ask, others: Others, *, demand: int, can_go: bool) -> tuple[Pool, float]:
    """The pool after a visit, and what the process holds then.

    It puts back what it holds and takes its fair share: in proportion to its demand, not more than it wants, and at
    least what its next request needs. If another kind lacks (``can_go`` is false) it takes nothing at all, so that
    no two processes sit each on half of what a request needs. What is not there becomes a debt of the pool.
    """
    available = pool.level + ask.held
    held = 0.0
    if pool.limit is not None and can_go and available > 0.0:
        fair = available * demand / max(demand + others.demand, 1)
        held = min(available, max(ask.needed, min(ask.wanted, fair)))
    elif pool.limit is None:
        # Nothing is limited yet; every process keeps count of what it has spent.
        return pool, ask.held
    return Pool(limit=pool.limit, level=available - held, corrected=pool.corrected), held


def fair_places(limit: int, demands: Mapping[str, int], *, turn: int) -> dict[str, int]:
    """Divide ``limit`` places: nobody gets more than it demands, and no place is left while anybody wants one.

    Every process gets an equal share before any gets more. Places that do not divide go to some of them, to others
    at the next ``turn``, so that with fewer places than processes each is served.
    """
    places = dict.fromkeys(demands, 0)
    names = sorted(demands)
    left = limit
    while left > 0:
        wanting = [name for name in names if places[name] < demands[name]]
        if not wanting:
            break
        each = left // len(wanting)
        if each == 0:
            start = turn % len(wanting)
            for name in (wanting[start:] + wanting[:start])[:left]:
                places[name] += 1
            break
        for name in wanting:
            given = min(each, demands[name] - places[name])
            places[name] += given
            left -= given
    return places


def _missing(pool: Pool, ask: Ask) -> float:
    if pool.limit is None:
        return 0.0
    return min(ask.needed, pool.limit) - (pool.level + ask.held)
