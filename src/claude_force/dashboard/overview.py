"""Everything that the first page shows of calls, read at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from claude_force.metrics.schema import DAY_SECONDS

if TYPE_CHECKING:
    from claude_force.metrics.browsing import CallBrowser, Minute
    from claude_force.metrics.queries import FailureCount, Groups, Totals
    from claude_force.metrics.reader import MetricsReader
    from claude_force.metrics.savings import Savings

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
    agents: Groups
    by_day_and_agent: Groups
    savings: Savings
    failures: tuple[FailureCount, ...]


def read_overview(reader: MetricsReader, browser: CallBrowser, days: int) -> Overview:
    """What the store says now; waits for the disk."""
    since = float(days * DAY_SECONDS)
    step: Step = "hour" if days <= _MOST_HOURLY_DAYS else "day"
    return Overview(
        days=days,
        totals=reader.summary(since).value.totals,
        minutes=browser.minutes(),
        step=step,
        latency=reader.grouped((step,), since).value,
        agents=reader.grouped(("agent",), since).value,
        by_day_and_agent=reader.grouped(("day", "agent"), since).value,
        savings=reader.savings(since).value,
        failures=reader.failure_counts(since).value,
    )
