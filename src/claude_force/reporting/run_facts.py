"""What a run comes to: the figures that its report begins with."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, get_args

from claude_force.domain.runs import StepState
from claude_force.reporting.critical_path import critical_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.domain.runs import RunRecord, StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Figures of one run."""

    # Seconds of the part of the run that ran last; of one without an end, until the last thing that is known of it.
    wall_seconds: float
    # Ids of the steps that the run could not have been faster than, and what they took together.
    critical_steps: tuple[str, ...]
    critical_seconds: float
    # All steps, one after the other.
    step_seconds: float
    counts: Mapping[StepState, int]
    calls: int
    failed_calls: int
    cached_calls: int
    # Requests that were sent, and how many of them were repetitions.
    attempts: int
    retries: int
    # Dollars that cached answers cost when they were paid for, as far as that is known.
    saved_usd: Decimal
    # Ids of steps that nothing depends on.
    final_steps: tuple[str, ...]


def facts_of(run: RunRecord) -> RunFacts:
    """The figures of a run."""
    wall = wall_seconds(run)
    seconds = {
        step.step_id: taken for step in run.steps if (taken := step_seconds(step, wall)) is not None
    }
    path, length = critical_path({step.step_id: step.dependencies for step in run.steps}, seconds)
    calls = [call for step in run.steps for call in step.calls]
    sent = [call for call in calls if call.cached_tier is None]
    needed = {name for step in run.steps for name in step.dependencies}
    states: tuple[StepState, ...] = get_args(StepState)
    return RunFacts(
        wall_seconds=wall,
        critical_steps=path,
        critical_seconds=length,
        step_seconds=sum(seconds.values()),
        counts={state: sum(step.state == state for step in run.steps) for state in states},
        calls=len(calls),
        failed_calls=sum(call.error_kind is not None for call in calls),
        cached_calls=len(calls) - len(sent),
        attempts=sum(call.attempts for call in sent),
        retries=sum(max(call.attempts - 1, 0) for call in sent),
        saved_usd=sum((call.saved_usd for call in calls if call.saved_usd), Decimal(0)),
        final_steps=tuple(step.step_id for step in run.steps if step.step_id not in needed),
    )


def wall_seconds(run: RunRecord) -> float:
    """How long the run took, or the last time that is known of one that has no end."""
    if run.seconds is not None:
        return run.seconds
    known = [0.0]
    for step in run.steps:
        known += [step.started_seconds or 0.0, step.ended_seconds or 0.0]
        known += [call.ended_seconds for call in step.calls]
    return max(known)


def step_seconds(step: StepRecord, wall: float) -> float | None:
    """How long a step took, one that has not ended until ``wall``; None for a step that was never started."""
    if step.started_seconds is None:
        return None
    return max(
        0.0, (wall if step.ended_seconds is None else step.ended_seconds) - step.started_seconds
    )
