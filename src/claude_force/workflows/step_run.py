"""Runs one step: its condition, its items, its rounds, its repairs, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from claude_force.agents.calls import AgentCall
from claude_force.domain.errors import (
    AnswerSchemaError,
    CallError,
    CallTimeoutError,
    ClaudeForceError,
    IncompleteAnswerError,
    RateLimitError,
    ServiceError,
    TransportError,
)
from claude_force.domain.events import StepExpanded
from claude_force.domain.partial_failure import PartialFailureError
from claude_force.domain.results import AgentOutcome, AgentResult
from claude_force.domain.runs import CallPlace
from claude_force.workflows.run_stop import not_sent
from claude_force.workflows.steps import Answer, Asking, repair_call, step_call, template_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from claude_force.domain.events import EventListener
    from claude_force.domain.results import StepResult
    from claude_force.workflows.definition import Step
    from claude_force.workflows.inputs import RunInputs
    from claude_force.workflows.item_sources import Item

# Makes one call of a run; raises a `ClaudeForceError` when it fails.
CallMaker: TypeAlias = Callable[[AgentCall, CallPlace], Awaitable[AgentResult]]

# What a step's own ``retries`` are for; the rest would fail in the same way, or stops the run.
_RETRIED: Final = (
    RateLimitError,
    ServiceError,
    TransportError,
    CallTimeoutError,
    IncompleteAnswerError,
)
# Items that are put together at the same time; how many are sent is for the limits to say.
ITEMS_AT_ONCE: Final = 64


@dataclass(slots=True)
class StepOutcome:
    """How a step ended, as far as the step itself knows."""

    answer: AgentResult | None = None
    data: object = None
    items: tuple[AgentOutcome, ...] = ()
    error: ClaudeForceError | None = None
    # Why it was not to run.
    skipped: str | None = None
    # What was paid on the way.
    earlier: list[AgentResult] = field(default_factory=list)
    retried: list[ClaudeForceError] = field(default_factory=list)


class StepRun:
    """The runs of the steps of one workflow's run.

    Args:
        run_id: for events.
        inputs: what the run works on.
        make_call: makes one call.
        is_fatal: whether an error makes every further call pointless; such a call is not made again.
        sequential: one item at a time.
        on_event: told how many items a step has.
    """

    def __init__(
        self,
        *,
        run_id: str,
        inputs: RunInputs,
        make_call: CallMaker,
        is_fatal: Callable[[ClaudeForceError], bool],
        sequential: bool,
        on_event: EventListener | None,
    ) -> None:
        self._run_id = run_id
        self._inputs = inputs
        self._make_call = make_call
        self._is_fatal = is_fatal
        self._sequential = sequential
        self._on_event = on_event

    async def __call__(self, step: Step, ended: Mapping[str, StepResult]) -> StepOutcome:
        """Run a step to its end; every `ClaudeForceError` is in the outcome, nothing else is caught."""
        outcome = StepOutcome()
        try:
            if step.when is not None and not self._holds(step.when, ended, Asking()):
                outcome.skipped = f"its condition does not hold: {step.when}"
            elif step.for_each is not None:
                await self._fan_out(step, ended, outcome)
            else:
                answer = await self._rounds(step, ended, Asking(), outcome)
                outcome.answer, outcome.data = answer.result, answer.data
        except ClaudeForceError as error:
            outcome.error = error
        return outcome

    def _holds(
        self, expression: str, ended: Mapping[str, StepResult], asking: Asking, **more: object
    ) -> bool:
        from claude_force.workflows.templates import holds  # noqa: PLC0415 - few steps have one

        return holds(expression, {**template_names(self._inputs, ended, asking), **more})

    async def _rounds(
        self, step: Step, ended: Mapping[str, StepResult], asking: Asking, outcome: StepOutcome
    ) -> Answer:
        """The answer of the last round."""
        answer = await self._persistently(step, ended, asking, outcome)
        if step.repeat_until is None:
            return answer
        for number in range(2, (step.max_rounds or 1) + 1):
            if self._holds(step.repeat_until, ended, asking, answer=answer.names()):
                break
            outcome.earlier.append(answer.result)
            asking = Asking(
                item=asking.item, item_index=asking.item_index, round=number, previous=answer
            )
            answer = await self._persistently(step, ended, asking, outcome)
        return answer

    async def _persistently(
        self, step: Step, ended: Mapping[str, StepResult], asking: Asking, outcome: StepOutcome
    ) -> Answer:
        """One answer, asked for again as often as the step's ``retries`` say."""
        for _ in range(step.retries):
            try:
                return await self._ask(step, ended, asking, outcome)
            except _RETRIED as error:
                if self._is_fatal(error):
                    raise
                outcome.retried.append(error)
        return await self._ask(step, ended, asking, outcome)

    async def _ask(
        self, step: Step, ended: Mapping[str, StepResult], asking: Asking, outcome: StepOutcome
    ) -> Answer:
        call = step_call(step, self._inputs, ended, asking)
        place = CallPlace(step_id=step.step_id, item_index=asking.item_index, round=asking.round)
        result = await self._make_call(call, place)
        if step.output_schema is None:
            return Answer(result=result)
        return await self._checked(step, call, place, result, outcome)

    async def _checked(
        self,
        step: Step,
        call: AgentCall,
        place: CallPlace,
        result: AgentResult,
        outcome: StepOutcome,
    ) -> Answer:
        """The answer as JSON; one that does not follow the schema is asked for once more, with what is wrong."""
        from claude_force.workflows.schemas import check_answer  # noqa: PLC0415 - few steps have one

        schema = step.output_schema or "{}"
        checked = check_answer(result.text, schema)
        if checked.problem is None:
            return Answer(result=result, data=checked.data)
        outcome.earlier.append(result)
        repaired = await self._make_call(
            repair_call(call, result, checked.problem),
            CallPlace(
                step_id=place.step_id, item_index=place.item_index, round=place.round, repair=1
            ),
        )
        checked = check_answer(repaired.text, schema)
        if checked.problem is None:
            return Answer(result=repaired, data=checked.data)
        outcome.earlier.append(repaired)
        raise AnswerSchemaError(
            f"The answer of {step.agent_name!r} does not follow the step's output_schema, nor does the one that was "
            f"asked for to repair it: {checked.problem}. Simplify the schema, or say in the task what is meant.",
            text=repaired.text,
        )

    async def _fan_out(
        self, step: Step, ended: Mapping[str, StepResult], outcome: StepOutcome
    ) -> None:
        from claude_force.workflows.item_sources import items_of  # noqa: PLC0415 - few steps fan out

        assert step.for_each is not None  # noqa: S101 - the caller's condition
        if step.for_each.lines is not None:
            items = await asyncio.to_thread(items_of, step.for_each, self._inputs, ended)
        else:
            items = items_of(step.for_each, self._inputs, ended)
        if self._on_event is not None:
            self._on_event(StepExpanded(self._run_id, step.step_id, len(items)))
        answers = await self._all_items(step, ended, items, outcome)
        outcome.items = tuple(_outcome(step, index, answer) for index, answer in answers)
        if step.output_schema is not None:
            outcome.data = [
                answer.data if isinstance(answer, Answer) else None for _, answer in answers
            ]
        failed = [item for item in outcome.items if item.error is not None]
        if failed:
            outcome.error = _items_failed(failed, len(items), self._is_fatal)

    async def _all_items(
        self,
        step: Step,
        ended: Mapping[str, StepResult],
        items: Sequence[Item],
        outcome: StepOutcome,
    ) -> list[tuple[int, Answer | ClaudeForceError]]:
        """How each item ended, in order; after a fatal error the rest is not asked."""
        numbered = iter(enumerate(items))
        found: dict[int, Answer | ClaudeForceError] = {}
        fatal: list[CallError] = []

        async def lane() -> None:
            for index, item in numbered:
                asking = Asking(item=item, item_index=index)
                try:
                    if fatal:
                        found[index] = not_sent(fatal[0])
                    else:
                        found[index] = await self._rounds(step, ended, asking, outcome)
                except ClaudeForceError as error:
                    found[index] = error
                    if isinstance(error, CallError) and self._is_fatal(error):
                        fatal.append(error)

        lanes = min(step.max_parallel or ITEMS_AT_ONCE, len(items))
        if self._sequential:
            lanes = min(lanes, 1)
        if step.batch:
            # All of them at the same time, or they would not come into one batch.
            lanes = len(items)
        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                group.create_task(lane())
        return sorted(found.items())


def _outcome(step: Step, index: int, ended: Answer | ClaudeForceError) -> AgentOutcome:
    return AgentOutcome(
        index=index,
        item_id=str(index),
        agent_name=step.agent_name,
        result=ended.result if isinstance(ended, Answer) else None,
        error=None if isinstance(ended, Answer) else ended,
    )


def _items_failed(
    failed: Sequence[AgentOutcome], count: int, is_fatal: Callable[[ClaudeForceError], bool]
) -> ClaudeForceError:
    """The error of a step of which items failed; the fatal one itself, since it stops the run."""
    for item in failed:
        if item.error is not None and is_fatal(item.error):
            return item.error
    first = failed[0]
    return PartialFailureError(
        f"{len(failed)} of {count} items failed; the first is item {first.index + 1}: {first.error}",
        outcomes=tuple(failed),
    )
