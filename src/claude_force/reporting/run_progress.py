"""How far a run is, told by its events: the state behind the live view, without a terminal or a clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from claude_force.domain.events import (
    AttemptFailed,
    CallFailed,
    CallFinished,
    CallStarted,
    RunFinished,
    StepExpanded,
    StepFinished,
    StepStarted,
)
from claude_force.domain.usage import NO_USAGE, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from claude_force.domain.events import Event
    from claude_force.domain.results import StepResult
    from claude_force.domain.runs import StepState

# How many of the steps that ended last are remembered for a view that cannot show all of them.
_RECENT: Final = 100
_FREE: Final = Decimal(0)


@dataclass(slots=True)
class StepProgress:
    """One step, as far as it is."""

    step_id: str
    agent_name: str
    dependencies: tuple[str, ...]
    state: StepState = "waiting"
    # Of the view's clock.
    started_at: float | None = None
    ended_at: float | None = None
    usage: Usage = NO_USAGE
    # Dollars of what is known; `unpriced` says that something is not.
    cost_usd: Decimal = _FREE
    unpriced: bool = False
    cached_calls: int = 0
    retries: int = 0
    # None unless the step fans out.
    item_count: int | None = None
    items_ended: set[int] = field(default_factory=set)
    items_failed: set[int] = field(default_factory=set)
    # What it is busy with beside its call, or why it ended as it did.
    note: str = ""

    def elapsed_seconds(self, now: float) -> float | None:
        """How long it has run, or ran; None unless it was started."""
        if self.started_at is None:
            return None
        return max(0.0, (now if self.ended_at is None else self.ended_at) - self.started_at)


@dataclass(slots=True)
class Totals:
    """Sums over all steps of a run."""

    usage: Usage = NO_USAGE
    cost_usd: Decimal = _FREE
    unpriced: bool = False
    cached_calls: int = 0
    retries: int = 0


class RunProgress:
    """Takes the events of one run and knows how far each step is. Not for use by several threads at once.

    Args:
        steps: id, agent and dependencies of each step, in the order of the definition.
        began_at: when the run began, by the clock that later times are of.
    """

    def __init__(self, steps: Sequence[tuple[str, str, Sequence[str]]], *, began_at: float) -> None:
        self.steps = {
            step_id: StepProgress(step_id, agent_name, tuple(dependencies))
            for step_id, agent_name, dependencies in steps
        }
        self.counts: dict[StepState, int] = {
            "waiting": len(self.steps), "running": 0, "succeeded": 0, "failed": 0, "skipped": 0
        }  # fmt: skip
        self.totals = Totals()
        self.began_at = began_at
        self.ended_at: float | None = None
        # Of the event that is being taken.
        self._now = began_at
        # The steps that ended last, the latest at the end.
        self.recent: deque[str] = deque(maxlen=_RECENT)
        # Calls that are open: the step and the item that each is of.
        self._calls: dict[str, tuple[StepProgress, int | None]] = {}
        self._takers: dict[type, Callable[[Any], None]] = {
            StepStarted: self._step_started,
            StepExpanded: self._step_expanded,
            StepFinished: self._step_finished,
            CallStarted: self._call_started,
            AttemptFailed: self._attempt_failed,
            CallFinished: self._call_finished,
            CallFailed: self._call_failed,
            RunFinished: self._run_finished,
        }

    def take(self, event: Event, now: float) -> bool:
        """Count one event; False for one that changes nothing, as each piece of an answer's text."""
        taker = self._takers.get(type(event))
        if taker is None:
            return False
        self._now = now
        taker(event)
        return True

    def step_of(self, event: Event) -> str | None:
        """The step that an event of an open call belongs to; None for any other event."""
        call_id = getattr(event, "call_id", None)
        call = self._calls.get(call_id) if call_id is not None else None
        return call[0].step_id if call is not None else None

    def elapsed_seconds(self, now: float) -> float:
        """How long the run has taken."""
        return max(0.0, (now if self.ended_at is None else self.ended_at) - self.began_at)

    def choose(self, room: int) -> list[StepProgress]:
        """The steps to show where there is room for so many, in the order of the definition.

        All, if they fit. Else the failed (half of the room at most while others run), the running, then what ended
        last, then what is next.
        """
        if len(self.steps) <= room:
            return list(self.steps.values())
        by_state: dict[StepState, list[StepProgress]] = {"failed": [], "running": [], "waiting": []}
        for step in self.steps.values():
            if step.state in by_state:
                by_state[step.state].append(step)
        failed, running = by_state["failed"], by_state["running"]
        kept_free = min(len(running), room // 2)
        chosen = failed[: room - kept_free]
        chosen += running[: room - len(chosen)]
        ended = [self.steps[step_id] for step_id in reversed(self.recent)]
        succeeded = [step for step in ended if step.state == "succeeded"]
        chosen += succeeded[: (room - len(chosen) + 1) // 2]
        chosen += by_state["waiting"][: room - len(chosen)]
        names = {step.step_id for step in chosen}
        return [step for step in self.steps.values() if step.step_id in names]

    def waits_for(self, step: StepProgress) -> list[str]:
        """The dependencies of a step that have not ended."""
        return [
            name
            for name in step.dependencies
            if name in self.steps and self.steps[name].state in ("waiting", "running")
        ]

    def _step_started(self, event: StepStarted) -> None:
        step = self._step(event.step_id, event.agent_name)
        self._move(step, "running")
        step.started_at = self._now

    def _step_expanded(self, event: StepExpanded) -> None:
        if event.step_id in self.steps:
            self.steps[event.step_id].item_count = event.item_count

    def _step_finished(self, event: StepFinished) -> None:
        result = event.step
        step = self._step(result.step_id, result.agent_name)
        self._move(step, _STATES.get(result.state, "failed"))
        step.ended_at = self._now
        self.recent.append(step.step_id)
        self._settle(step, result)

    def _call_started(self, event: CallStarted) -> None:
        step = self.steps.get(event.step_id) if event.step_id is not None else None
        if step is None:
            return
        self._calls[event.call_id] = (step, event.item_index)
        if event.item_index is not None:
            # An answer that has to be repaired: its item is not done after all.
            step.items_ended.discard(event.item_index)

    def _attempt_failed(self, event: AttemptFailed) -> None:
        if event.call_id in self._calls and event.retry_in_seconds is not None:
            step, _ = self._calls[event.call_id]
            step.retries += 1
            step.note = f"retry in {event.retry_in_seconds:.1f} s ({event.error_kind})"
            self.totals.retries += 1

    def _call_finished(self, event: CallFinished) -> None:
        call = self._calls.pop(event.call_id, None)
        if call is None:
            return
        step, item_index = call
        result = event.result
        self._spend(step, result.usage, [result.cost_usd])
        step.note = ""
        if result.cached is not None:
            step.cached_calls += 1
            self.totals.cached_calls += 1
        if item_index is not None:
            step.items_ended.add(item_index)

    def _call_failed(self, event: CallFailed) -> None:
        step, item_index = self._calls.pop(event.call_id, (None, None))
        if step is not None and item_index is not None:
            step.items_ended.add(item_index)
            step.items_failed.add(item_index)

    def _run_finished(self, _: RunFinished) -> None:
        self.ended_at = self._now

    def _step(self, step_id: str, agent_name: str) -> StepProgress:
        """A step by its id; one that nobody announced is taken up."""
        if step_id not in self.steps:
            self.steps[step_id] = StepProgress(step_id, agent_name, ())
            self.counts["waiting"] += 1
        return self.steps[step_id]

    def _move(self, step: StepProgress, state: StepState) -> None:
        self.counts[step.state] -= 1
        self.counts[state] += 1
        step.state = state

    def _spend(self, step: StepProgress, usage: Usage, costs: Iterable[Decimal | None]) -> None:
        step.usage += usage
        self.totals.usage += usage
        for cost in costs:
            if cost is None:
                step.unpriced = self.totals.unpriced = True
            else:
                step.cost_usd += cost
                self.totals.cost_usd += cost

    def _settle(self, step: StepProgress, result: StepResult) -> None:
        """Take what the step says of itself: it knows of failed calls, whose events do not carry their costs."""
        if result.error is not None:
            step.note = str(result.error)
        else:
            step.note = result.reason or ""
        if result.items:
            step.item_count = len(result.items)
            step.items_ended = set(range(len(result.items)))
            step.items_failed = {item.index for item in result.items if not item.ok}
        usage = result.usage
        if result.cost_usd is None:
            # Not even a part is known of a step whose costs are unknown; what its calls told stands.
            step.unpriced = self.totals.unpriced = True
        elif result.cost_usd != step.cost_usd:
            self.totals.cost_usd += result.cost_usd - step.cost_usd
            step.cost_usd = result.cost_usd
        if usage != step.usage:
            self.totals.usage = _without(self.totals.usage + usage, step.usage)
            step.usage = usage


def _without(total: Usage, part: Usage) -> Usage:
    return Usage(
        input_tokens=total.input_tokens - part.input_tokens,
        cache_write_5m_tokens=total.cache_write_5m_tokens - part.cache_write_5m_tokens,
        cache_write_1h_tokens=total.cache_write_1h_tokens - part.cache_write_1h_tokens,
        cache_read_tokens=total.cache_read_tokens - part.cache_read_tokens,
        output_tokens=total.output_tokens - part.output_tokens,
    )


_STATES: Final[dict[str, StepState]] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "skipped": "skipped",
}
