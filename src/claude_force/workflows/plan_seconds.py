"""How long a step of a plan takes: orders of magnitude, for the critical path; a run tells what holds on the day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.domain.models import model_class

if TYPE_CHECKING:
    from claude_force.workflows.calls import Calls, Question
    from claude_force.workflows.definition import Step

SECONDS_TO_FIRST_TOKEN: Final = 1.5
TOKENS_PER_SECOND: Final = {"haiku": 150.0, "sonnet": 75.0, "opus": 50.0, "fable": 50.0}
_OTHER_TOKENS_PER_SECOND: Final = 50.0
# Most batches end sooner.
_BATCH_SECONDS: Final = 3600.0


def seconds_of(step: Step, groups: tuple[Calls, ...], *, max_concurrent: int) -> float:
    """Of a step: items beside each other, as many as may be; what follows an answer comes after it."""
    at_once = max(1, min(step.max_parallel or max_concurrent, max_concurrent))
    items = sum(group.count.expected for group in groups if not group.follows)
    if not items:
        return 0.0
    if step.batch:
        asked = sum(group.count.expected for group in groups)
        return _BATCH_SECONDS * -(-asked // items)
    alone = sum(group.count.expected * _call_seconds(group.question) for group in groups)
    return alone / items * -(-items // at_once)


def _call_seconds(question: Question) -> float:
    speed = TOKENS_PER_SECOND.get(model_class(question.models[0]), _OTHER_TOKENS_PER_SECOND)
    return SECONDS_TO_FIRST_TOKEN + question.output_tokens.expected / speed
