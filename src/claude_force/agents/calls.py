"""What one agent is asked, before it becomes a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

from claude_force.agents.prompts import DEFAULT_MAX_TOKENS, build_request
from claude_force.domain.errors import InputError
from claude_force.domain.messages import USE_CACHE
from claude_force.domain.models import resolve_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.agents.attachments import Attachment
    from claude_force.agents.prompts import UpstreamText
    from claude_force.agents.registry import AgentRegistry
    from claude_force.domain.agents import AgentDefinition
    from claude_force.domain.messages import CacheUse, CallContext, Effort, MessageRequest

# Twenty answers of the usual length are a book; who wants more of one asks for its chapters.
MAX_CONTINUATIONS: Final = 20
# Where it is asked for without a number.
DEFAULT_CONTINUATIONS: Final = 3


class CallOptions(TypedDict, total=False):
    """Keyword arguments that every way of running an agent takes; `AgentCall` says what they mean."""

    item_id: str | None
    files: tuple[Attachment, ...]
    upstream: tuple[UpstreamText, ...]
    effort: Effort | None
    output_schema: Mapping[str, object] | str | None
    timeout_seconds: float | None
    cache: CacheUse
    fallback: tuple[str, ...] | None
    continue_truncated: int
    use_memory: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCall:
    """One task for one agent. All but the first two fields are optional."""

    agent_name: str
    task: str
    # The caller's own id for it, for calls that are made in numbers.
    item_id: str | None = None
    files: tuple[Attachment, ...] = ()
    # Answers of earlier agents.
    upstream: tuple[UpstreamText, ...] = ()
    # Alias or id; None takes the agent's own, else the default model.
    model: str | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS
    effort: Effort | None = None
    # For models that still take one; pins the request to the API version that does.
    temperature: float | None = None
    # JSON Schema that the answer has to follow.
    output_schema: Mapping[str, object] | str | None = None
    # Deadline of the call, retries included; None takes the orchestrator's.
    timeout_seconds: float | None = None
    # What the call wants of the response cache: USE_CACHE, REFRESH_CACHE, NO_CACHE, or a `CacheUse` of its own.
    cache: CacheUse = USE_CACHE
    # Models (aliases or ids) to ask, in this order, when the first cannot answer; None takes the agent's own chain.
    fallback: tuple[str, ...] | None = None
    # How often an answer that was cut off at ``max_tokens`` is continued; the parts are one answer. 0 makes it an error.
    continue_truncated: int = 0
    # Recall what the agent did in this project before, and remember this task. None does so where the agent's file has
    # a `memory:` line.
    use_memory: bool | None = None

    def rounds_after(self) -> int:
        """How often an answer may be continued.

        Raises:
            InputError: it is less than 0 or more than 20.
        """
        rounds = self.continue_truncated
        if isinstance(rounds, bool) or not 0 <= rounds <= MAX_CONTINUATIONS:
            raise InputError(
                f"continue_truncated is {rounds!r}; it is a number from 0 to {MAX_CONTINUATIONS}."
            )
        return rounds

    def models_after(self, definition: AgentDefinition) -> tuple[str, ...]:
        """Ids of the models to ask when the first cannot answer: the call's chain, else the agent's own."""
        chain = definition.fallback if self.fallback is None else self.fallback
        return tuple(resolve_model(name) for name in chain) if chain else ()

    def to_request(self, registry: AgentRegistry, context: CallContext) -> MessageRequest:
        """The exact request.

        Raises:
            InputError: the agent, the task or an option cannot be used.
        """
        return self.request_to(registry.get(self.agent_name), context)

    def request_to(self, definition: AgentDefinition, context: CallContext) -> MessageRequest:
        """The exact request to the agent of ``definition``.

        Raises:
            InputError: the task or an option cannot be used.
        """
        return build_request(
            definition,
            self.task,
            files=self.files,
            upstream=self.upstream,
            model=self.model,
            max_tokens=self.max_tokens,
            effort=self.effort,
            temperature=self.temperature,
            output_schema=self.output_schema,
            context=context,
        )
