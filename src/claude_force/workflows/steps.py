"""What a step asks its agent, once the steps before it have answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.agents.calls import AgentCall
from claude_force.agents.prompts import DEFAULT_MAX_TOKENS, UpstreamText
from claude_force.domain.messages import USE_CACHE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.agents.attachments import Attachment
    from claude_force.domain.messages import CacheUse
    from claude_force.domain.results import AgentResult
    from claude_force.workflows.definition import Step


def step_call(
    step: Step,
    task: str,
    files: tuple[Attachment, ...],
    answers: Mapping[str, AgentResult],
    cache: CacheUse = USE_CACHE,
) -> AgentCall:
    """The call of one step.

    Args:
        step: the step; its own task comes first.
        task: what the whole workflow works on.
        files: given to every step.
        answers: of the steps it depends on, by id; they follow in the order of ``step.dependencies``.
        cache: what the run wants of the response cache.
    """
    return AgentCall(
        agent_name=step.agent_name,
        task="\n\n".join(part for part in (step.task, task) if part),
        files=files,
        upstream=tuple(
            UpstreamText(label=dependency, text=answers[dependency].text)
            for dependency in step.dependencies
            if dependency in answers
        ),
        model=step.model,
        max_tokens=step.max_tokens or DEFAULT_MAX_TOKENS,
        effort=step.effort,
        cache=cache,
    )
