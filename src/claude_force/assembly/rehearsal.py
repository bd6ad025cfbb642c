"""A run that sends nothing: what the response cache holds is answered, and everything else noted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from claude_force.cache.answers import response_of
from claude_force.cache.fingerprint import request_key
from claude_force.cache.policy import Freshness
from claude_force.domain.errors import ClaudeForceError
from claude_force.domain.messages import CallContext
from claude_force.domain.tokens import estimate_tokens
from claude_force.pricing.worst_case import most_tokens, worst_case_usage
from claude_force.provider.ask import ask
from claude_force.provider.prompt_cache.prefixes import prefixes_of
from claude_force.workflows.calls import Question
from claude_force.workflows.outlook import Missing
from claude_force.workflows.spans import Span, total

if TYPE_CHECKING:
    from claude_force.agents.calls import AgentCall
    from claude_force.assembly.runtime import Runtime
    from claude_force.cache.store import CacheStore
    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.domain.results import AgentResult
    from claude_force.domain.runs import CallPlace

# No text comes to more characters a token than this, long words and runs of spaces included.
_MOST_CHARACTERS_PER_TOKEN: Final = 8


class _NotHeldError(ClaudeForceError):
    """The cache does not hold the answer."""

    kind = "not_held"


@dataclass(slots=True)
class Noted:
    """What was seen of one step."""

    held: int = 0
    missing: list[Missing] = field(default_factory=list)


class Looked(NamedTuple):
    """A call that was looked up."""

    request: MessageRequest
    # Ids of the model that is asked, and of those that are asked when it cannot answer.
    models: tuple[str, ...]
    # None where it would have to be sent.
    result: AgentResult | None

    def question(self) -> Question:
        """What is known of it."""
        return question_of(self.request, self.models)


class Rehearsal:
    """Answers what the cache holds, and notes what it does not."""

    def __init__(self, runtime: Runtime, opened: tuple[CacheStore, str] | None) -> None:
        self._runtime = runtime
        self._registry = runtime.registry
        self._cache = _HeldAnswers(*opened) if opened is not None else None
        self._exclude_agents = frozenset(runtime.settings.cache.exclude_agents)
        self.noted: dict[str, Noted] = {}

    async def make_call(self, call: AgentCall, place: CallPlace) -> AgentResult:
        """The answer that the cache holds.

        Raises:
            InputError: the call could not be sent.
            _NotHeldError: it would have to be.
        """
        looked = await self.look(call)
        noted = self.noted.setdefault(place.step_id, Noted())
        if looked.result is not None:
            noted.held += 1
            return looked.result
        noted.missing.append(
            Missing(question=looked.question(), round=place.round, repair=place.repair)
        )
        raise _NotHeldError("the answer is not there")

    async def look(self, call: AgentCall) -> Looked:
        """What a call comes to, and its answer where the cache holds it.

        Raises:
            InputError: the call could not be sent.
        """
        definition = self._registry.get(call.agent_name)
        context = CallContext(agent_name=call.agent_name, cache=call.cache)
        request = call.request_to(definition, context)
        memory = self._runtime.memories.of(call, definition)
        if memory is not None:
            request = (await memory.remind(call, definition, request)).request
        result = None
        if self._cache is not None and call.cache.read and self.takes_part(call):
            with suppress(_NotHeldError):
                result = await ask(self._cache, request, None)
        return Looked(request, (request.model, *call.models_after(definition)), result)

    def takes_part(self, call: AgentCall) -> bool:
        """Whether the response cache has to do with a call."""
        return (
            self._cache is not None
            and call.cache.write
            and call.agent_name not in self._exclude_agents
        )


class _HeldAnswers:
    """A `ModelClient` that has what the response cache holds, and asks nobody."""

    def __init__(self, store: CacheStore, origin: str) -> None:
        self._store = store
        self._origin = origin

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request, if a run would take it from the cache without asking again beside it."""
        del on_event
        found = await self._store.lookup_async(
            request_key(request, self._origin),
            max_age_seconds=request.context.cache.max_age_seconds,
        )
        if found is not None and found.freshness is Freshness.FRESH:
            response = response_of(found)
            if response is not None:
                return response
        raise _NotHeldError("the answer is not there")

    async def aclose(self) -> None:
        """The store belongs to the caller."""


def size_of(text: str) -> Span:
    """Tokens of a text."""
    return Span(len(text) // _MOST_CHARACTERS_PER_TOKEN, estimate_tokens(text), most_tokens(text))


def question_of(request: MessageRequest, models: tuple[str, ...]) -> Question:
    """What is known of a call whose exact request is."""
    texts = [block.text for block in request.system]
    texts += [block.text for message in request.messages for block in message.content]
    size = total(map(size_of, texts))
    schema = estimate_tokens(request.output_schema or "")
    most = worst_case_usage(request).total_input_tokens
    return Question(
        models=models,
        input_tokens=Span(size.least, size.expected + schema, most),
        max_tokens=request.max_tokens,
        beginnings=prefixes_of(request),
    )
