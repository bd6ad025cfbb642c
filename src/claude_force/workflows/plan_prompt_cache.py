"""What the calls of a plan are expected to write into the prompt cache, and to read from it. No clock, no I/O.

The calls are taken through the same decisions as in the run, one after the other. Each is taken to follow the one before
within the lifetime of what was written, so a step that takes long comes out dearer than planned; and nothing is taken to
be there from before the run.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from claude_force.provider.prompt_cache.outlook import Outlook as PrefixOutlook
from claude_force.provider.prompt_cache.outlook import rates_of
from claude_force.provider.prompt_cache.planner import plan_marks
from claude_force.workflows.graph import StepGraph

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from claude_force.provider.prompt_cache.prefixes import PrefixKey
    from claude_force.workflows.calls import Prices, Question
    from claude_force.workflows.definition import Workflow
    from claude_force.workflows.outlook import Outlook


def with_prompt_cache(
    workflow: Workflow, outlooks: Mapping[str, Outlook], prices: Prices
) -> Mapping[str, Outlook]:
    """The same outlooks, whose questions say what they are expected to write and to read.

    Steps by batch are left out: their requests are not marked.
    """
    if prices.longest_kept is None:
        return outlooks
    live = [step.step_id for step in StepGraph(workflow).in_order() if not step.batch]
    to_come: Counter[PrefixKey] = Counter()
    for step_id in live:
        for question, count in _questions(outlooks[step_id]):
            for prefix in question.beginnings:
                to_come[prefix.key] += count
    shared = _SharedBeginnings(to_come, prices)
    return {**outlooks, **{step_id: shared.of_step(outlooks[step_id]) for step_id in live}}


def _questions(outlook: Outlook) -> Iterator[tuple[Question, int]]:
    """The questions of a step, and how often each is expected to be asked."""
    for missing in outlook.missing:
        yield missing.question, 1
    for question in outlook.later:
        yield question, 1 if outlook.items is None else outlook.items.expected


class _SharedBeginnings:
    """What was written so far, and who has yet to come."""

    def __init__(self, to_come: Counter[PrefixKey], prices: Prices) -> None:
        self._to_come = to_come
        self._written: set[PrefixKey] = set()
        self._prices = prices

    def of_step(self, outlook: Outlook) -> Outlook:
        asked = [self._asked(question, count) for question, count in _questions(outlook)]
        missing = tuple(
            replace(one, question=question)
            for one, question in zip(outlook.missing, asked, strict=False)
        )
        return replace(outlook, missing=missing, later=tuple(asked[len(missing) :]))

    def _asked(self, question: Question, count: int) -> Question:
        """The question with what it writes and reads; on average, where it is asked several times."""
        if not count:
            return question
        written = read = 0
        for _ in range(count):
            once = self._asked_once(question)
            written, read = written + once[0], read + once[1]
        return replace(question, written_tokens=written // count, read_tokens=read // count)

    def _asked_once(self, question: Question) -> tuple[int, int]:
        """Tokens that are written, and that are read."""
        self._to_come.subtract(prefix.key for prefix in question.beginnings)
        outlooks = [
            PrefixOutlook(
                prefix=prefix,
                warm="5m" if prefix.key in self._written else None,
                readers=self._to_come[prefix.key],
            )
            for prefix in question.beginnings
        ]
        rates = rates_of(self._prices.tariffs.get(question.models[0]))
        marked = plan_marks(outlooks, rates, one_hour=False).written
        read = max((one.prefix.tokens for one in outlooks if one.warm), default=0)
        written = max((one.prefix.tokens for one in marked), default=read) - read
        self._written.update(one.prefix.key for one in marked)
        return written, read
