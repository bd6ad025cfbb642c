"""Everything that the first page shows of calls, read at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from claude_force.metrics.cells import Cell, day_of, hour_of
from claude_force.metrics.queries import Group, Totals, totals_of
from claude_force.metrics.savings import Savings, savings_of
from claude_force.metrics.schema import DAY_SECONDS, HOUR_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.metrics.browsing import CallBrowser, Minute
    from claude_force.metrics.queries import FailureCount, Groups
    from claude_force.metrics.reader import MetricsReader

# Days that can be looked back.
SPANS: Final = (1, 7, 30)
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


def read_overview(
    reader: MetricsReader, browser: CallBrowser, days: int, *, now: float
) -> Overview:
    """What the store says now; waits for the disk.

    Each roll-up of an hour or day is read once and added up in steps, into its day and agent and from there into
    agents and the whole: a million calls are some thousand roll-ups, and adding is most of the time.
    """
    since = hour_of(now - days * DAY_SECONDS)
    step: Step = "hour" if days <= _MOST_HOURLY_DAYS else "day"
    moments: dict[int, Cell] = {}
    by_day: dict[tuple[int, str], Cell] = {}
    cells = reader.cells(since, hour_of(now) + HOUR_SECONDS, by_hour=step == "hour")
    for start, agent, cell in cells:
        moments.setdefault(start if step == "hour" else day_of(start), Cell()).merge(cell)
        by_day.setdefault((day_of(start), agent), Cell()).merge(cell)
    agents: dict[str, Cell] = {}
    for (_, agent), cell in by_day.items():
        agents.setdefault(agent, Cell()).merge(cell)
    whole = Cell()
    for cell in agents.values():
        whole.merge(cell)
    return Overview(
        days=days,
        totals=totals_of(whole),
        minutes=browser.minutes(),
        step=step,
        latency=tuple(_group(start, None, moments[start]) for start in sorted(moments)),
        agents=_dearest_first(agents),
        by_day_and_agent=tuple(_group(*key, by_day[key]) for key in sorted(by_day)),
        savings=savings_of(whole),
        failures=reader.failure_counts(now - since).value,
    )


def _group(start: int, agent: str | None, cell: Cell) -> Group:
    return Group(start=datetime.fromtimestamp(start, UTC), agent=agent, totals=totals_of(cell))


def _dearest_first(agents: Mapping[str, Cell]) -> Groups:
    groups = [Group(agent=agent, totals=totals_of(cell)) for agent, cell in agents.items()]
    return tuple(
        sorted(groups, key=lambda one: (-one.totals.cost_usd, -one.totals.calls, one.agent or ""))
    )
