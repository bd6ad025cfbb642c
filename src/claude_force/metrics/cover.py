"""Which days, hours and rows together make up a time, so that as little as possible is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from claude_force.metrics.cells import day_of
from claude_force.metrics.schema import DAY_SECONDS, HOUR_SECONDS

# Later than anything.
FOREVER: Final = 2**53


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of time that is read from one table; ``until`` is not in it."""

    table: str
    since: int
    until: int


def cover(
    since: int,
    *,
    kept_from: int,
    by_hour: bool = False,
    by_agent: bool = False,
    until: int = FOREVER,
) -> tuple[Part, ...]:
    """The parts of the time from ``since`` to ``until``, each moment in exactly one of them.

    Args:
        since: epoch second; 0 for everything.
        kept_from: rows and hours before this second are gone; what is older begins with a whole day.
        by_hour: nothing longer than an hour will do; then what is older than ``kept_from`` is left out.
        by_agent: hours need not tell models and workflows apart.
        until: epoch second at which an hour begins.
    """
    hours = "agent_hours" if by_agent else "hours"
    if by_hour:
        since = max(since, kept_from)
        first_hour = min(_ceiling(since, HOUR_SECONDS), until)
        return _kept(Part("calls", since, first_hour), Part(hours, first_hour, until))
    if since <= kept_from:
        first_day = day_of(since)
        last_day = max(day_of(until), first_day) if until < FOREVER else until
        return _kept(Part("days", first_day, last_day), Part(hours, last_day, until))
    first_hour = min(_ceiling(since, HOUR_SECONDS), until)
    first_day = min(_ceiling(first_hour, DAY_SECONDS), until)
    last_day = max(day_of(until), first_day) if until < FOREVER else until
    return _kept(
        Part("calls", since, first_hour),
        Part(hours, first_hour, first_day),
        Part("days", first_day, last_day),
        Part(hours, last_day, until),
    )


def _kept(*parts: Part) -> tuple[Part, ...]:
    return tuple(part for part in parts if part.since < part.until)


def _ceiling(second: int, step: int) -> int:
    return -(-second // step) * step
