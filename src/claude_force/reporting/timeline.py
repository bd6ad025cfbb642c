"""A run along its time: one row a step, and the scale above them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from claude_force.domain.results import total_cost_usd
from claude_force.domain.usage import NO_USAGE
from claude_force.reporting.graph_drawing import one_line
from claude_force.reporting.numbers import dollars, duration
from claude_force.reporting.run_facts import step_seconds

if TYPE_CHECKING:
    from collections.abc import Collection

    from claude_force.domain.runs import RunRecord, StepRecord, StepState

# A bar of a step that took next to no time can still be seen and hit.
_LEAST_PERCENT: Final = 0.4
_MOST_TICKS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One step."""

    number: int
    name: str
    agent: str
    state: StepState
    critical: bool
    # Where its bar begins and how long it is, in percent of the run; None for a step that was never started.
    left: float | None
    width: float | None
    duration: str
    # For sorting; -1 for what is not there.
    seconds: float
    input_tokens: int
    output_tokens: int
    cost: str
    cost_usd: Decimal
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the scale."""

    percent: float
    label: str


def rows_of(run: RunRecord, *, wall_seconds: float, critical: Collection[str]) -> list[Row]:
    """A row for every step, in the order of the definition."""
    span = max(wall_seconds, max((step.ended_seconds or 0.0 for step in run.steps), default=0.0))
    return [
        _row(number, step, span, critical=step.step_id in critical)
        for number, step in enumerate(run.steps)
    ]


def ticks(wall_seconds: float) -> list[Tick]:
    """At most seven marks at round times, from 0 on."""
    if wall_seconds <= 0:
        return [Tick(0.0, "0 s")]
    step = _round_up(wall_seconds / _MOST_TICKS)
    marks = []
    number = 0
    while number * step <= wall_seconds * (1 + 1e-9):
        seconds = number * step
        marks.append(
            Tick(round(100 * seconds / wall_seconds, 3), duration(seconds) if number else "0")
        )
        number += 1
    return marks


def _round_up(seconds: float) -> float:
    """The next length that a clock's face would have: 1, 2 or 5 of a decimal unit, or parts of an hour."""
    unit = 0.001
    while unit < 10:
        for factor in (1, 2, 5):
            if factor * unit >= seconds:
                return factor * unit
        unit *= 10
    for whole in (10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200):
        if whole >= seconds:
            return float(whole)
    days = -(-seconds // 86_400)
    return float(days * 86_400)


def _row(number: int, step: StepRecord, span: float, *, critical: bool) -> Row:
    taken = step_seconds(step, span)
    usage = sum((call.usage for call in step.calls), NO_USAGE)
    cost = total_cost_usd(call.cost_usd for call in step.calls)
    left = width = None
    if taken is not None and step.started_seconds is not None:
        share = 100 / span if span else 0.0
        width = min(max(taken * share, _LEAST_PERCENT), 100.0)
        left = max(0.0, min(step.started_seconds * share, 100.0 - width))
    return Row(
        number=number,
        name=one_line(step.step_id),
        agent=one_line(step.agent_name),
        state=step.state,
        critical=critical,
        left=None if left is None else round(left, 3),
        width=None if width is None else round(width, 3),
        duration="" if taken is None else duration(taken),
        seconds=-1.0 if taken is None else round(taken, 3),
        input_tokens=usage.total_input_tokens,
        output_tokens=usage.output_tokens,
        cost=("unknown" if cost is None else dollars(cost)) if step.calls else "",
        cost_usd=Decimal(-1) if cost is None or not step.calls else cost,
        remarks=_remarks(step),
    )


def _remarks(step: StepRecord) -> tuple[str, ...]:
    items = {call.place.item_index for call in step.calls if call.place.item_index is not None}
    rounds = max((call.place.round for call in step.calls), default=1)
    hits = sum(call.cached_tier is not None for call in step.calls)
    retries = sum(max(call.attempts - 1, 0) for call in step.calls if call.cached_tier is None)
    repairs = sum(call.place.repair > 0 for call in step.calls)
    remarks = []
    if items:
        remarks.append(_plural(len(items), "item", "items"))
    if rounds > 1:
        remarks.append(f"{rounds} rounds")
    if hits:
        remarks.append("cached" if hits == len(step.calls) else f"{hits:,} cached")
    if retries:
        remarks.append(_plural(retries, "retry", "retries"))
    if repairs:
        remarks.append(_plural(repairs, "repair", "repairs"))
    return tuple(remarks)


def _plural(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
