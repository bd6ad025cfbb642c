"""How a run goes on, as lines: for logs, pipes, and whoever reads them later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.agents.cleaning import clean_text
from claude_force.domain.events import (
    AttemptFailed,
    CallFailed,
    CallFinished,
    StepExpanded,
    StepFinished,
    StepStarted,
)
from claude_force.reporting.numbers import cached, counted, dollars, tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from claude_force.domain.events import Event
    from claude_force.domain.results import StepResult
    from claude_force.reporting.run_progress import RunProgress

_ITEMS_EVERY_SECONDS: Final = 5.0
_MARKS: Final = {"succeeded": "done", "failed": "FAILED", "skipped": "skipped"}


class PlainLines:
    """An event listener that writes a line for each step that starts or ends, each retry, and now and then for items.

    Args:
        progress: what is known of the run; it takes each event here.
        stream: where the lines go.
        clock: monotonic seconds.
    """

    def __init__(
        self, progress: RunProgress, stream: TextIO, *, clock: Callable[[], float]
    ) -> None:
        self._progress = progress
        self._stream = stream
        self._clock = clock
        # When items of a step were last told.
        self._told_at: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Take one event."""
        now = self._clock()
        step_id = self._progress.step_of(event)
        if not self._progress.take(event, now):
            return
        if isinstance(event, StepStarted):
            self._write("start", f"{event.step_id} ({event.agent_name})")
        elif isinstance(event, StepExpanded):
            self._told_at[event.step_id] = now
            self._write("items", f"{event.step_id}: {counted(event.item_count, 'item')}")
        elif isinstance(event, StepFinished):
            self._write(_MARKS.get(event.step.state, event.step.state), ended(event.step))
        elif isinstance(event, AttemptFailed) and event.retry_in_seconds is not None:
            whose = f"{step_id}: " if step_id else ""
            self._write("retry", f"{whose}in {event.retry_in_seconds:.1f} s ({event.error_kind})")
        elif isinstance(event, (CallFinished, CallFailed)) and step_id is not None:
            self._tell_items(step_id, now)

    def _tell_items(self, step_id: str, now: float) -> None:
        told_at = self._told_at.get(step_id)
        if told_at is None or now - told_at < _ITEMS_EVERY_SECONDS:
            return
        self._told_at[step_id] = now
        step = self._progress.steps[step_id]
        failed = f", {len(step.items_failed)} failed" if step.items_failed else ""
        self._write("items", f"{step_id}: {len(step.items_ended):,} of {step.item_count:,}{failed}")

    def _write(self, mark: str, text: str) -> None:
        line = " ".join(clean_text(text).split())
        self._stream.write(f"  {mark:8} {line}\n")
        self._stream.flush()


def ended(step: StepResult) -> str:
    """One line on how a step ended."""
    name = step.step_id
    if step.items:
        why = f": {step.error}" if step.error is not None else ""
        return f"{name}: {_fan_out(step)}, {_spent(step)}{why}"
    if step.error is not None:
        return f"{name}: {step.error}"
    if step.result is None:
        return f"{name}: {step.reason}"
    if step.result.cached is not None and not step.earlier:
        return f"{name}: {cached(step.result.cached)}"
    answers = f"{counted(len(step.earlier) + 1, 'answer')}, " if step.earlier else ""
    hits = sum(answer.cached is not None for answer in step.answers) if step.earlier else 0
    return f"{name}: {answers}{f'{hits:,} from the cache, ' if hits else ''}{_spent(step)}"


def _fan_out(step: StepResult) -> str:
    hits = sum(item.result is not None and item.result.cached is not None for item in step.items)
    parts = [counted(len(step.items), "item")]
    if hits:
        parts.append(f"{hits:,} from the cache")
    return ", ".join(parts)


def _spent(step: StepResult) -> str:
    seconds = (step.ended_seconds or 0.0) - (step.started_seconds or 0.0)
    if step.result is not None and not step.earlier:
        seconds = step.result.seconds
    return f"{tokens(step.usage)}, {dollars(step.cost_usd)}, {seconds:.1f} s"
