"""Everything that the first page shows of calls, read at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

from claude_force.metrics.cells import Cell, day_of, hour_of
from claude_force.metrics.queries import Group, Totals, totals_of
from claude_force.metrics.savings import Savings, savings_of
from claude_force.metrics.schema import DAY_SECONDS, HOUR_SECONDS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from claude_force.metrics.browsing import CallBrowser, Minute
    from claude_force.metrics.queries import FailureCount, Groups
    from claude_force.metrics.reader import MetricsReader

K = TypeVar("K", bound="Hashable")

# Days that can be looked back.
SPANS: Final = (1, 7, 30)
DEFAULT_SPAN: Final = 7
# A point for each hour as long as a person can tell them apart.
_MOST_HOURLY_DAYS: Final = 7

Step: TypeAlias = Literal["hour", "day"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the calls of the last days came to."""

    days: int
    totals: Totals
    # The last hour, whatever the days.
    minutes: tuple[Minute, ...]
    # Latency, by what.
    step: Step
    latency: Groups
    # The dearest first.
    agents: Groups
    # In the order of time.
    by_day_and_agent: Groups
    savings: Savings
    failures: tuple[FailureCount, ...]


@dataclass(frozen=True, slots=True)
class _Sums:
    """What calls came to, by hour or day, and by day and agent."""

    moments: dict[int, Cell] = field(default_factory=dict)
    by_day: dict[tuple[int, str], Cell] = field(default_factory=dict)

    def add(self, cells: Iterable[tuple[int, str, Cell]], step: Step) -> None:
        for start, agent, cell in cells:
            moment = start if step == "hour" else day_of(start)
            self.moments.setdefault(moment, Cell()).merge(cell)
            self.by_day.setdefault((day_of(start), agent), Cell()).merge(cell)


@dataclass(frozen=True, slots=True)
class _Settled:
    """Hours that are over, and do not change: from when until when, and what they come to."""

    since: int
    until: int
    sums: _Sums
    latency: dict[int, Group]
    by_day: dict[tuple[int, str], Group]


class OverviewReader:
    """Reads overviews from the store; one thread at a time for each number of days.

    A million calls are thousands of roll-ups, and adding them up takes longer than a page may. Those of hours that are
    over are added once an hour, the last two hours each time.
    """

    def __init__(self, reader: MetricsReader, browser: CallBrowser) -> None:
        self._reader = reader
        self._browser = browser
        self._settled: dict[int, _Settled] = {}

    def read(self, days: int, *, now: float) -> Overview:
        """What the store says now; waits for the disk."""
        since, this_hour = hour_of(now - days * DAY_SECONDS), hour_of(now)
        step: Step = "hour" if days <= _MOST_HOURLY_DAYS else "day"
        # Rows come seconds late, not an hour.
        settled = self._settle(days, step, since, this_hour - HOUR_SECONDS)
        present = _Sums()
        present.add(self._reader.cells(settled.until, this_hour + HOUR_SECONDS, by_hour=True), step)
        moments = _together(settled.sums.moments, present.moments)
        by_day = _together(settled.sums.by_day, present.by_day)
        agents = _by_agent(by_day)
        whole = Cell()
        for cell in agents.values():
            whole.merge(cell)
        latency = settled.latency | {
            start: _group(start, None, moments[start]) for start in present.moments
        }
        groups = settled.by_day | {key: _group(*key, by_day[key]) for key in present.by_day}
        return Overview(
            days=days,
            totals=totals_of(whole),
            minutes=self._browser.minutes(),
            step=step,
            latency=tuple(latency[start] for start in sorted(latency)),
            agents=_dearest_first(agents),
            by_day_and_agent=tuple(groups[key] for key in sorted(groups)),
            savings=savings_of(whole),
            failures=self._reader.failure_counts(now - since).value,
        )

    def _settle(self, days: int, step: Step, since: int, until: int) -> _Settled:
        found = self._settled.get(days)
        if found is None or (found.since, found.until) != (since, until):
            sums = _Sums()
            sums.add(self._reader.cells(since, until, by_hour=step == "hour"), step)
            found = self._settled[days] = _Settled(
                since,
                until,
                sums,
                {start: _group(start, None, cell) for start, cell in sums.moments.items()},
                {key: _group(*key, cell) for key, cell in sums.by_day.items()},
            )
        return found


def _together(settled: Mapping[K, Cell], present: Mapping[K, Cell]) -> dict[K, Cell]:
    """Both, without changing what is settled."""
    found = dict(settled)
    for key, cell in present.items():
        found[key] = Cell()
        if key in settled:
            found[key].merge(settled[key])
        found[key].merge(cell)
    return found


def _by_agent(by_day: Mapping[tuple[int, str], Cell]) -> dict[str, Cell]:
    agents: dict[str, Cell] = {}
    for (_, agent), cell in by_day.items():
        agents.setdefault(agent, Cell()).merge(cell)
    return agents


def _group(start: int, agent: str | None, cell: Cell) -> Group:
    return Group(start=datetime.fromtimestamp(start, UTC), agent=agent, totals=totals_of(cell))


def _dearest_first(agents: Mapping[str, Cell]) -> Groups:
    groups = [Group(agent=agent, totals=totals_of(cell)) for agent, cell in agents.items()]
    return tuple(
        sorted(groups, key=lambda one: (-one.totals.cost_usd, -one.totals.calls, one.agent or ""))
    )
