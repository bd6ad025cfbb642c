"""Hours of an agent that are unlike the same hour of its earlier days."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from claude_force.metrics.baseline import MIN_CALLS, usual
from claude_force.metrics.queries import totals_of
from claude_force.metrics.schema import DAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.metrics.cells import Cell

Measure: TypeAlias = Literal["latency", "errors", "cost"]

# Days that an hour is compared with, at most.
BASELINE_DAYS: Final = 28
# An earlier hour with fewer calls says too little to count as a day.
_MIN_CALLS_OF_A_DAY: Final = 5
# In standard deviations. A store has thousands of hours, so 3 would cry wolf every day.
_FAR: Final = 6.0
# The least spread that is believed, whatever the earlier days say: a few alike days are chance. Latency and dollars are
# compared as logarithms, so 0.12 is about 12 %, and an hour has to be twice as slow, or three times as dear.
_LEAST_SPREAD: Final[dict[Measure, float]] = {"latency": 0.12, "errors": 0.01, "cost": 0.2}
# The share of errors that is taken as possible where none was ever seen.
_LEAST_ERROR_SHARE: Final = 0.01
_MEASURES: Final[tuple[Measure, ...]] = ("latency", "errors", "cost")

# Sums by agent and by the epoch second in which an hour begins.
Hours: TypeAlias = "Mapping[str, Mapping[int, Cell]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """A figure of one hour that is far above the usual. Only what got worse is told."""

    agent: str
    # The epoch second in which the hour begins.
    hour: int
    measure: Measure
    # Median seconds, share of errors, or dollars of the hour; and the usual one at that time of the day.
    value: float
    usual: float
    calls: int


def anomalies_of(hours: Hours, hour: int) -> tuple[Anomaly, ...]:
    """The anomalies of this hour, of every agent; nothing under 30 calls, or with fewer than 7 days to compare with."""
    found = (
        _judged(agent, cells, hour, measure)
        for agent, cells in hours.items()
        for measure in _MEASURES
    )
    return tuple(anomaly for anomaly in found if anomaly is not None)


def _judged(agent: str, cells: Mapping[int, Cell], hour: int, measure: Measure) -> Anomaly | None:
    cell = cells.get(hour)
    if cell is None or (calls := cell.sums[0]) < MIN_CALLS:
        return None
    value = _figure(cell, measure)
    days = (cells.get(hour - day * DAY_SECONDS) for day in range(1, BASELINE_DAYS + 1))
    earlier = [day for day in days if day is not None and day.sums[0] >= _MIN_CALLS_OF_A_DAY]
    figures = [figure for day in earlier if (figure := _figure(day, measure)) is not None]
    expected = usual(figures)
    if value is None or expected is None or sum(day.sums[0] for day in earlier) < MIN_CALLS:
        return None
    spread = max(expected.spread, _LEAST_SPREAD[measure])
    if measure == "errors":
        share = max(expected.middle, _LEAST_ERROR_SHARE)
        spread = max(spread, math.sqrt(share * (1 - share) / calls))
    if value - expected.middle <= _FAR * spread:
        return None
    shown = float if measure == "errors" else math.exp
    return Anomaly(
        agent=agent,
        hour=hour,
        measure=measure,
        value=shown(value),
        usual=shown(expected.middle),
        calls=calls,
    )


def _figure(cell: Cell, measure: Measure) -> float | None:
    """What is compared; None where the hour does not say."""
    totals = totals_of(cell)
    match measure:
        case "latency":
            return math.log(totals.p50_seconds) if totals.p50_seconds else None
        case "errors":
            return totals.failures / totals.calls
        case "cost":
            return math.log(totals.cost_usd) if totals.cost_usd else None
