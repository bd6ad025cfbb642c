"""Hours of an agent that are unlike the same hour of its earlier days."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from claude_force.metrics.baseline import MIN_CALLS, chance_of, usual
from claude_force.metrics.schema import DAY_SECONDS, SUMS, dollars

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.metrics.cells import Cell

Measure: TypeAlias = Literal["latency", "errors", "cost"]

_CALLS: Final = SUMS.index("calls")
_FAILURES: Final = SUMS.index("failures")
_COST: Final = SUMS.index("cost")
# Days that an hour is compared with, at most.
BASELINE_DAYS: Final = 28
# An earlier hour with fewer calls says too little to count as a day.
_MIN_CALLS_OF_A_DAY: Final = 5
# In standard deviations. A store has thousands of hours, so 3 would cry wolf every day.
_FAR: Final = 6.0
# The least spread that is believed, whatever the earlier days say: a few alike days are chance. Latency and dollars are
# compared as logarithms, so 0.12 is about 12 %, and an hour has to be twice as slow, or three times as dear.
_LEAST_SPREAD: Final = {"latency": 0.12, "cost": 0.2}
# The share of errors that is taken as usual where fewer were seen, and how unlikely an hour has to be under the usual
# share: few failures among few calls are far from normal, so their chance is counted out.
_LEAST_ERROR_SHARE: Final = 0.02
_CHANCE: Final = 1e-6
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
    # Median seconds, share of errors, or dollars a call; and the usual one at that time of the day.
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
    if cell is None or (calls := cell.sums[_CALLS]) < MIN_CALLS:
        return None
    value = _figure(cell, measure)
    days = (cells.get(hour - day * DAY_SECONDS) for day in range(1, BASELINE_DAYS + 1))
    earlier = [day for day in days if day is not None and day.sums[_CALLS] >= _MIN_CALLS_OF_A_DAY]
    figures = [figure for day in earlier if (figure := _figure(day, measure)) is not None]
    expected = usual(figures)
    if value is None or expected is None or sum(day.sums[_CALLS] for day in earlier) < MIN_CALLS:
        return None
    if measure == "errors":
        share = min(max(expected.middle + expected.spread, _LEAST_ERROR_SHARE), 0.99)
        odd = chance_of(cell.sums[_FAILURES], calls, share) < _CHANCE
    else:
        odd = value - expected.middle > _FAR * max(expected.spread, _LEAST_SPREAD[measure])
    if not odd:
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
    match measure:
        case "latency":
            (median,) = cell.latency.quantiles(0.5)
            return math.log(median) if median else None
        case "errors":
            return cell.sums[_FAILURES] / cell.sums[_CALLS]
        case "cost":
            # By call: how many calls an hour has depends on the day of the week, what one costs does not.
            cost = cell.sums[_COST]
            return math.log(dollars(cost) / cell.sums[_CALLS]) if cost else None
