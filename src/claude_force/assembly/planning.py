"""What a run would ask and cost: the run is rehearsed on the answers that the response cache holds.

The rehearsal is the run itself, with a caller that sends nothing: it answers what is in the cache and notes the exact
request of everything else. So fan-outs, conditions, loops and repairs come out as they would, as far as the answers
that decide them are there; what is behind a missing answer is estimated by `workflows.plan`.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from claude_force.agents.calls import AgentCall
from claude_force.agents.prompts import DEFAULT_MAX_TOKENS
from claude_force.assembly.rehearsal import Noted, Rehearsal, question_of, size_of
from claude_force.domain.errors import ItemsError
from claude_force.domain.messages import CallContext
from claude_force.domain.tokens import estimate_tokens
from claude_force.pricing.catalogue import PriceCatalogue
from claude_force.workflows.calls import Prices
from claude_force.workflows.graph import StepGraph
from claude_force.workflows.item_sources import items_of
from claude_force.workflows.outlook import Outlook
from claude_force.workflows.plan import EXPECTED_ITEMS, make_plan
from claude_force.workflows.scheduler import WorkflowRun
from claude_force.workflows.spans import Span, total
from claude_force.workflows.step_run import StepRun
from claude_force.workflows.templates import is_template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from claude_force.agents.attachments import Attachment
    from claude_force.assembly.runtime import Runtime
    from claude_force.domain.results import StepResult
    from claude_force.workflows.calls import Question
    from claude_force.workflows.definition import Step, Workflow
    from claude_force.workflows.inputs import RunInputs
    from claude_force.workflows.item_sources import Item
    from claude_force.workflows.plan_values import WorkflowPlan

_TASK_IN_TEMPLATE: Final = re.compile(r"\btask\b")
_ITEM_IN_TEMPLATE: Final = re.compile(r"\bitem\b")


async def plan_workflow(
    runtime: Runtime, workflow: Workflow, inputs: RunInputs, *, at: datetime
) -> WorkflowPlan:
    """What a run of ``workflow`` would ask and cost at that time. Sends nothing, and needs no key."""
    opened = runtime.open_answers()
    try:
        rehearsal = Rehearsal(runtime, opened)
        result = await WorkflowRun(
            replace(workflow, timeout_seconds=None),
            run_id="plan",
            run_step=StepRun(
                run_id="plan",
                inputs=inputs,
                make_call=rehearsal.make_call,
                is_fatal=lambda _: False,
                sequential=False,
                on_event=None,
            ),
            is_fatal=lambda _: False,
        ).execute()
    finally:
        if opened is not None:
            await opened[0].aclose()
    # Reads a file where a step fans out over its lines, and counts the tokens of all that is attached.
    outlooks = await asyncio.to_thread(
        lambda: dict(_outlooks(runtime, workflow, inputs, rehearsal, result.steps))
    )
    return make_plan(
        workflow,
        outlooks,
        await prices_of(runtime, outlooks, at=at),
        max_concurrent=runtime.max_concurrent,
    )


def _outlooks(
    runtime: Runtime,
    workflow: Workflow,
    inputs: RunInputs,
    rehearsal: Rehearsal,
    results: Mapping[str, StepResult],
) -> Iterator[tuple[str, Outlook]]:
    """What is known of each step: of one behind a missing answer, only what does not hang on it."""
    unsettled: dict[str, Step] = {}
    for step in StepGraph(workflow).in_order():
        noted = rehearsal.noted.get(step.step_id, Noted())
        if not unsettled.keys().isdisjoint(step.dependencies):
            unsettled[step.step_id] = step
            yield step.step_id, _later(runtime, step, inputs, results, unsettled)
        elif noted.missing:
            unsettled[step.step_id] = step
            missing = tuple(noted.missing)
            yield step.step_id, Outlook(cached_calls=noted.held, missing=missing)
        else:
            yield step.step_id, _settled(results[step.step_id], noted.held)


def _settled(result: StepResult, held: int) -> Outlook:
    error = result.error
    return Outlook(
        cached_calls=held,
        answer_tokens=Span.exactly(estimate_tokens(result.text or "")),
        reason=result.reason if error is None else str(error),
        fails=result.state == "failed",
    )


def _later(
    runtime: Runtime,
    step: Step,
    inputs: RunInputs,
    results: Mapping[str, StepResult],
    unsettled: Mapping[str, Step],
) -> Outlook:
    """The calls of a step without the answers that are missing."""
    source = step.for_each
    of_items = source is not None and source.files
    own_files = () if of_items or not step.files else inputs.files
    once = _without_answers(runtime, step, inputs.task, own_files)
    if source is None:
        return Outlook(later=(once,))
    if source.step is not None and source.step in unsettled:
        return Outlook(later=(once,), items=_unknown_items(unsettled[source.step], source.key))
    try:
        items = items_of(source, inputs, results)
    except ItemsError as error:
        return Outlook(reason=str(error), fails=True)
    mentions = max(1, len(_ITEM_IN_TEMPLATE.findall(step.task or "")))
    return Outlook(
        later=tuple(
            once.with_input(total(map(size_of, (item.text * mentions, *_texts(item)))))
            for item in items
        )
    )


def _without_answers(
    runtime: Runtime, step: Step, task: str, files: tuple[Attachment, ...]
) -> Question:
    """About what is asked: the template as it is written, with the task of the run as often as it names it."""
    written = step.task or ""
    times = max(1, len(_TASK_IN_TEMPLATE.findall(written))) if is_template(written) else 1
    call = AgentCall(
        agent_name=step.agent_name,
        task="\n\n".join([written or task, *[task] * times]),
        files=files,
        model=step.model,
        max_tokens=step.max_tokens or DEFAULT_MAX_TOKENS,
        effort=step.effort,
        output_schema=step.output_schema,
    )
    definition = runtime.registry.get(step.agent_name)
    request = call.request_to(definition, CallContext())
    known = question_of(request, (request.model, *call.models_after(definition)))
    # The answers come before the task, so the last block does not follow what it follows here.
    return replace(known, beginnings=known.beginnings[:-1])


def _unknown_items(source: Step, key: str | None) -> Span:
    """How many items an answer may hold that is not there yet: what its schema says, if that says anything."""
    schema = json.loads(source.output_schema or "{}")
    if key is not None:
        schema = schema.get("properties", {}).get(key, {})
    most = schema.get("maxItems") if isinstance(schema, dict) else None
    if not isinstance(most, int):
        return Span(0, EXPECTED_ITEMS, None)
    return Span(0, min(EXPECTED_ITEMS, most), most)


def _texts(item: Item) -> Iterator[str]:
    return (text for file in item.files or () for text in (file.name, file.text))


async def prices_of(
    runtime: Runtime, outlooks: Mapping[str, Outlook], *, at: datetime, marked: bool = True
) -> Prices:
    """What the models of the questions charge at that time; with ``marked`` their prompts may be marked for keeping."""
    questions = [
        question
        for outlook in outlooks.values()
        for question in (*outlook.later, *(missing.question for missing in outlook.missing))
    ]
    models = dict.fromkeys(model for question in questions for model in question.models)
    settings = runtime.settings.prompt_cache
    catalogue = PriceCatalogue()

    def look_up() -> Prices:
        return Prices(
            tariffs={model: catalogue.tariff(model, at=at) for model in models},
            longest_kept=None
            if not (marked and runtime.uses_prompt_cache)
            else "5m"
            if settings.one_hour == "never"
            else "1h",
        )

    # The price list takes a third of a second to load; a plan without calls needs none.
    return await asyncio.to_thread(look_up) if models else Prices(tariffs={})
