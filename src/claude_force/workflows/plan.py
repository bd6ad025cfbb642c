"""What a run of a workflow would ask and cost, from what is known before it: no I/O, nothing is sent.

The figures of a step come in three: the least, what is expected, and the most. The least is that of a run in which
every step succeeds. Requests that are lost within a call and billed all the same are not counted.

- **Calls.** A fan-out makes one for each item; over an answer that is not there yet, nothing bounds it, and five are
  expected. A loop makes from 1 to ``max_rounds``, half of them expected. An answer with a schema may have to be repaired
  once. A step with a condition that cannot be judged yet may be skipped. A step with ``retries`` may make each call so often again.
- **Input tokens.** Expected by the estimate of ``domain.tokens``, at most by that of ``pricing.worst_case``, and at least
  one for every eight characters. Answers that are not there yet count with what is expected of them, and at most
  with all of the ``max_tokens`` of their step, once for each time that they are put in.
- **Output tokens.** 800 are expected of an answer, or its ``max_tokens`` if that is less, which is the most.
- **Dollars.** The least is what it costs where the prompt cache holds the whole prompt, the most where it is written
  there for an hour (below the model's minimum it is plain input), and the dearest of the models that may answer.
  Expected is what the calls of the run share with each other in the prompt cache; see ``plan_prompt_cache``.
- **Seconds.** 1.5 to the first token, and then the tokens per second that are usual for the kind of model.
- **Batches.** A step whose calls go out in batches costs half. A batch counts as an hour, however large it is: most end
  sooner, and none later than after a day.
- **Continuations.** Of a step that continues answers that are cut off, each may come in so many more parts, none of
  them expected. A part is asked with all that was said before.
"""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from claude_force.agents.prompts import MAX_TASK_CHARACTERS
from claude_force.workflows.calls import Calls
from claude_force.workflows.graph import StepGraph
from claude_force.workflows.outlook import Missing
from claude_force.workflows.plan_prompt_cache import with_prompt_cache
from claude_force.workflows.plan_seconds import seconds_of
from claude_force.workflows.plan_values import StepPlan, WorkflowPlan
from claude_force.workflows.spans import NO_DOLLARS, NOTHING, Span, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from claude_force.workflows.calls import Prices
    from claude_force.workflows.definition import Step, Workflow
    from claude_force.workflows.outlook import Outlook
    from claude_force.workflows.plan_values import PlanState
    from claude_force.workflows.spans import DollarSpan

EXPECTED_ITEMS: Final = 5
BATCH_SHARE: Final = Decimal("0.5")
# The marks around an answer that is handed on, and what the validator says of one that has to be repaired.
_BLOCK_TOKENS: Final = Span(10, 40, 200)
_REPAIR_TOKENS: Final = Span(10, 200, 4000)
# What asks to go on, and what is repeated of the end.
_GO_ON_TOKENS: Final = Span(0, 90, 400)
# Two characters a token, as in ``pricing.worst_case``.
_LONGEST_TASK_TOKENS: Final = MAX_TASK_CHARACTERS // 2
_MENTION: Final = re.compile(r"""\bsteps\s*(?:\.\s*(\w+)|\[\s*['"]([^'"]+)['"]\s*\])""")


def make_plan(
    workflow: Workflow,
    outlooks: Mapping[str, Outlook],
    prices: Prices,
    *,
    max_concurrent: int,
) -> WorkflowPlan:
    """The plan.

    Args:
        workflow: checked, so without cycles.
        outlooks: what is known of every step.
        prices: of every model that may be asked, at the date of the run.
        max_concurrent: requests at the same time.
    """
    outlooks = with_prompt_cache(workflow, outlooks, prices)
    plans: dict[str, StepPlan] = {}
    answers: dict[str, Span] = {}
    # Steps that a condition, their own or one above, may yet skip.
    uncertain: set[str] = set()
    for step in StepGraph(workflow).in_order():
        outlook = outlooks[step.step_id]
        groups = tuple(_with_retries(step, _in_parts(step, _groups(step, outlook, answers))))
        answers[step.step_id] = outlook.answer_tokens or _answer(step, groups)
        if outlook.later and (step.when is not None or not uncertain.isdisjoint(step.dependencies)):
            uncertain.add(step.step_id)
            groups = tuple(replace(group, count=group.count.or_nothing()) for group in groups)
        plans[step.step_id] = _step_plan(step, outlook, groups, prices, max_concurrent)
    return WorkflowPlan(
        workflow_name=workflow.name,
        steps=tuple(plans[step.step_id] for step in workflow.steps),
        critical_path=_critical_path(plans),
    )


def _groups(step: Step, outlook: Outlook, answers: Mapping[str, Span]) -> Iterator[Calls]:
    for missing in outlook.missing:
        yield Calls(Span.exactly(1), missing.question)
        yield from _repeated(step, missing)
    put_in = _put_in(step, answers) if outlook.later else NOTHING
    items = outlook.items or Span.exactly(1)
    for known in outlook.later:
        question = known.with_input(put_in)
        yield Calls(items, question)
        for group in _repeated(step, Missing(question=question)):
            yield replace(group, count=items * group.count)


def _repeated(step: Step, first: Missing) -> Iterator[Calls]:
    """Calls that may follow one: the repair of its answer, and later rounds."""
    previous = first.question.output_tokens + _BLOCK_TOKENS
    again = first.question.again()
    repaired = again.with_input(previous + _REPAIR_TOKENS)
    can_repair = step.output_schema is not None
    if can_repair and not first.repair:
        yield Calls(Span(0, 0, 1), repaired, follows=True)
    if step.repeat_until is None:
        return
    most = (step.max_rounds or 1) - first.round
    expected = max(((step.max_rounds or 1) + 1) // 2 - first.round, 0)
    yield Calls(Span(0, expected, most), again.with_input(previous), follows=True)
    if can_repair:
        yield Calls(Span(0, 0, most), repaired.with_input(previous), follows=True)


def _in_parts(step: Step, groups: Iterable[Calls]) -> Iterator[Calls]:
    """Calls that ask for the rest of answers that were cut off: the later, the longer what was said before."""
    rounds = step.continue_truncated or 0
    for group in groups:
        yield group
        if rounds:
            said = Span(0, 0, rounds * group.question.max_tokens) + _GO_ON_TOKENS
            count = Span(0, 0, rounds) * group.count
            yield replace(
                group, count=count, question=group.question.with_input(said), follows=True
            )


def _with_retries(step: Step, groups: Iterable[Calls]) -> Iterator[Calls]:
    """Calls that are made again because they failed: an answer that was cut off is billed all the same."""
    for group in groups:
        yield group
        if step.retries:
            again = Span(0, 0, step.retries) * group.count
            yield replace(group, count=again, follows=True)


def _put_in(step: Step, answers: Mapping[str, Span]) -> Span:
    """Tokens of the answers that the prompts of a step will hold."""
    template = step.task or ""
    mentions = [plain or quoted for plain, quoted in _MENTION.findall(template)]
    # An answer that the template names stands where it is put, and not in front as well.
    names = [
        name
        for name in (*set(step.dependencies).difference(mentions), *mentions)
        if name in answers
    ]
    size = total(answers[name] + _BLOCK_TOKENS for name in names)
    if "{%" in template and size.most is not None:
        # A loop may put the same answer in any number of times; the task as a whole is bounded.
        size += Span(0, 0, _LONGEST_TASK_TOKENS)
    return size


def _answer(step: Step, groups: Iterable[Calls]) -> Span:
    """Tokens of the answer that steps behind get."""
    size = total(
        group.count * group.question.output_tokens for group in groups if not group.follows
    )
    if step.continue_truncated:
        size *= Span(1, 1, 1 + step.continue_truncated)
    # A fan-out hands on a JSON list of texts, in which quotes and line ends take two characters.
    return size if step.for_each is None else size * Span(1, 1, 2)


def _step_plan(
    step: Step,
    outlook: Outlook,
    groups: tuple[Calls, ...],
    prices: Prices,
    max_concurrent: int,
) -> StepPlan:
    return StepPlan(
        step_id=step.step_id,
        agent_name=step.agent_name,
        dependencies=step.dependencies,
        state=_state(outlook),
        model=groups[0].question.models[0] if groups else None,
        calls=total(group.count for group in groups),
        cached_calls=outlook.cached_calls,
        input_tokens=total(group.count * group.question.input_tokens for group in groups),
        output_tokens=total(group.count * group.question.output_tokens for group in groups),
        cost_usd=_within(step.budget_usd, _cost_usd(step, groups, prices)),
        seconds=seconds_of(step, groups, max_concurrent=max_concurrent),
        batch=bool(step.batch),
        prompt_cache_saving_usd=_saving_usd(groups, prices),
        reason=outlook.reason,
    )


def _cost_usd(step: Step, groups: Iterable[Calls], prices: Prices) -> DollarSpan:
    cost = sum(map(prices.cost_usd, groups), NO_DOLLARS)
    return cost.scaled(BATCH_SHARE) if step.batch else cost


def _saving_usd(groups: Iterable[Calls], prices: Prices) -> Decimal | None:
    known = list(map(prices.prompt_cache_saving_usd, groups))
    return None if None in known else sum(filter(None, known), Decimal(0))


def _within(budget_usd: Decimal | None, cost: DollarSpan) -> DollarSpan:
    """A budget bounds what nothing else does."""
    if budget_usd is None or (cost.most is not None and cost.most <= budget_usd):
        return cost
    return replace(cost, most=budget_usd)


def _state(outlook: Outlook) -> PlanState:
    if outlook.later:
        return "later"
    if outlook.missing:
        return "partly cached" if outlook.cached_calls else "to ask"
    if outlook.fails:
        return "fails"
    return "skipped" if outlook.reason is not None else "cached"


def _critical_path(plans: Mapping[str, StepPlan]) -> tuple[str, ...]:
    """The chain of steps that takes longest; what is cached takes no time and is left out."""
    ends: dict[str, float] = {}
    for step_id, plan in plans.items():
        ends[step_id] = plan.seconds + max((ends[one] for one in plan.dependencies), default=0.0)
    path: list[str] = []
    last = max(ends, key=ends.__getitem__, default=None)
    while last is not None:
        path.append(last)
        last = max(plans[last].dependencies, key=ends.__getitem__, default=None)
    return tuple(step_id for step_id in reversed(path) if plans[step_id].seconds)
