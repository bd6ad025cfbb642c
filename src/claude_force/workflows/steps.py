"""What a step asks its agent, once the steps before it have ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from claude_force.agents.calls import AgentCall
from claude_force.agents.prompts import DEFAULT_MAX_TOKENS, UpstreamText
from claude_force.domain.messages import NO_CACHE
from claude_force.workflows.templates import Names, is_template, render, template_references

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.domain.results import AgentResult, StepResult
    from claude_force.workflows.definition import Step
    from claude_force.workflows.inputs import RunInputs
    from claude_force.workflows.item_sources import Item
    from claude_force.workflows.templates import References


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, and what it means as JSON where its step has a schema."""

    result: AgentResult
    data: object = None

    def names(self) -> Names:
        """As templates see it."""
        return Names({"text": self.result.text, "data": self.data}, "the answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Which of a step's questions is asked."""

    item: Item | None = None
    item_index: int | None = None
    # Of a loop, from 1, and the answer of the round before.
    round: int = 1
    previous: Answer | None = None


def step_call(
    step: Step, inputs: RunInputs, ended: Mapping[str, StepResult], asking: Asking
) -> AgentCall:
    """The call of one step.

    The answers of its dependencies come as blocks, in the order of ``step.dependencies``, but for those that its
    template names: they stand where it puts them. The same goes for the run's task, the item, and the answer of the
    round before.

    Args:
        step: the step; its own task comes first.
        inputs: what the run works on.
        ended: the steps that have ended, by id.
        asking: which of its questions.

    Raises:
        WorkflowDefinitionError: its template uses what is not there.
    """
    used = _references(step.task)
    own = step.task
    if own is not None and used is not None:
        own = render(own, template_names(inputs, ended, asking))
    with_task = used is None or "task" not in used.names
    item = asking.item
    files = inputs.files if step.files else ()
    if item is not None and item.files is not None:
        files = item.files
    return AgentCall(
        agent_name=step.agent_name,
        task="\n\n".join(part for part in (own, inputs.task if with_task else "") if part),
        files=files,
        upstream=tuple(_blocks(step, used, ended, asking)),
        model=step.model,
        max_tokens=step.max_tokens or DEFAULT_MAX_TOKENS,
        effort=step.effort,
        output_schema=step.output_schema,
        timeout_seconds=step.timeout_seconds,
        cache=inputs.cache if step.cache else NO_CACHE,
        continue_truncated=step.continue_truncated or 0,
        use_memory=inputs.use_memory,
    )


def repair_call(call: AgentCall, answer: AgentResult, problem: str) -> AgentCall:
    """The call that asks again for an answer that does not follow its schema."""
    return replace(
        call,
        task=f"{call.task}\n\nYour answer, the last result above, does not follow the schema: {problem}\n"
        "Answer again, with nothing but JSON that follows it.",
        upstream=(*call.upstream, UpstreamText(label="your answer", text=answer.text)),
    )


def template_names(
    inputs: RunInputs, ended: Mapping[str, StepResult], asking: Asking
) -> dict[str, object]:
    """What templates and expressions see."""
    names: dict[str, object] = {
        "task": inputs.task,
        "steps": Names(
            {step_id: _step_names(step) for step_id, step in ended.items()}, "the run so far"
        ),
        "round": asking.round,
    }
    if asking.item is not None:
        names |= {"item": asking.item.value, "item_index": asking.item_index}
    if asking.previous is not None:
        names["previous"] = asking.previous.names()
    return names


def _step_names(step: StepResult) -> Names:
    known: dict[str, object] = {"ok": step.state == "succeeded", "state": step.state}
    if (text := step.text) is not None:
        known |= {"text": text, "data": step.data}
    return Names(known, f"step {step.step_id!r}, which {_ENDS[step.state]},")


_ENDS = {"succeeded": "succeeded", "failed": "failed", "skipped": "was skipped"}


def _blocks(
    step: Step, used: References | None, ended: Mapping[str, StepResult], asking: Asking
) -> list[UpstreamText]:
    names = used.names if used else frozenset()
    placed = used.steps if used else frozenset()
    blocks = []
    for dependency in step.dependencies:
        before = ended.get(dependency)
        text = None if before is None or dependency in placed else before.text
        if text is not None:
            blocks.append(UpstreamText(label=dependency, text=text))
    if asking.item is not None and asking.item.text and "item" not in names:
        blocks.append(
            UpstreamText(label=f"item {(asking.item_index or 0) + 1}", text=asking.item.text)
        )
    if asking.previous is not None and "previous" not in names:
        label = f"{step.step_id}, round {asking.round - 1}"
        blocks.append(UpstreamText(label=label, text=asking.previous.result.text))
    return blocks


@lru_cache(maxsize=1024)
def _references(task: str | None) -> References | None:
    """What a template uses; None for plain text."""
    return None if task is None or not is_template(task) else template_references(task)
