"""The exact request that goes out, and the answer that comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from claude_force.domain.allowance import Allowance
    from claude_force.domain.companions import Seat
    from claude_force.domain.discounts import Discounts
    from claude_force.domain.halting import Halt
    from claude_force.domain.usage import Usage

# The version that the API publishes since October 2026; it refuses sampling parameters.
API_VERSION: Final = "2026-10-21"
# The version under which models that still take a temperature accept one.
SAMPLING_API_VERSION: Final = "2023-06-01"

Effort = Literal["low", "medium", "high", "max"]
PromptCacheTtl = Literal["5m", "1h"]
# "journal": the run that is resumed had the answer already. "semantic": the answer to a similar task.
CacheTier = Literal["memory", "disk", "redis", "journal", "semantic"]

# Only these say that the model came to an end of its own; every other reason leaves an unfinished answer.
COMPLETE_STOP_REASONS: Final = frozenset({"end_turn", "stop_sequence", "tool_use"})


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A block of text in a prompt."""

    text: str
    # Set a prompt-cache breakpoint after this block, with this lifetime.
    cache_ttl: PromptCacheTtl | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation."""

    role: Literal["user", "assistant"]
    content: tuple[TextBlock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse:
    """What one call wants of the response cache. By default it is read and written."""

    # Serve a stored answer where there is one.
    read: bool = True
    # Store the answer. Off, the cache has no part in the call at all.
    write: bool = True
    # Serve nothing older than this; None serves what the configuration allows.
    max_age_seconds: float | None = None


USE_CACHE: Final = CacheUse()
# Ask again, and store what comes back.
REFRESH_CACHE: Final = CacheUse(read=False)
NO_CACHE: Final = CacheUse(read=False, write=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticUse:
    """That a call may be answered with the answer to a similar task."""

    # The task as the caller wrote it, without what the prompt puts around it.
    task: str
    # The least cosine similarity that will do, from 0 to 1.
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What a call carries beside the wire request. It is neither sent nor part of a cache key."""

    # Unique for one call by one user; ties events of the same call together.
    call_id: str = ""
    # The agent that asks, by its registry name.
    agent_name: str = ""
    # The run and the step of a workflow or map, where the call belongs to one.
    run_id: str | None = None
    step_id: str | None = None
    # The item of a step that fans out, by its position.
    item_index: int | None = None
    # Dollars that all calls of this step of this run may cost together.
    step_budget_usd: Decimal | None = None
    # Deadline for the whole call in seconds, retries and their waits included; None takes the client's default.
    timeout_seconds: float | None = None
    cache: CacheUse = USE_CACHE
    # Set for a call of an agent that the semantic cache is switched on for.
    semantic: SemanticUse | None = None
    # Ids of models to ask, in this order, when the request's own cannot answer.
    fallback: tuple[str, ...] = ()
    # How often an answer that was cut off at ``max_tokens`` is continued.
    continue_rounds: int = 0
    # Numbers of the memories that the request holds; None for a call without a memory.
    recalled: tuple[int, ...] | None = None
    # Its place among the calls that are made together with it; None for a call on its own.
    seat: Seat | None = None
    # Says when its run is stopped; None for a call that belongs to no run.
    halt: Halt | None = None
    # Dollars that earlier requests of the same call have cost: to other models, before this one was asked.
    spent_usd: Decimal | None = None
    # The budgets behind it; None where there are none.
    allowance: Allowance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRequest:
    """The wire request of one call: two equal requests ask the model exactly the same."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    system: tuple[TextBlock, ...] = ()
    effort: Effort | None = None
    # JSON Schema that the answer has to follow, as canonical JSON text; None for free text.
    output_schema: str | None = None
    # Only for models that still take it; the request is then pinned to SAMPLING_API_VERSION.
    temperature: float | None = None
    api_version: str = API_VERSION
    context: CallContext = field(default_factory=CallContext, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticMatch:
    """The task that an answer was really given to, where it is not the one that was asked."""

    task: str
    # Cosine similarity of the two tasks, at most 1.
    similarity: float


@dataclass(frozen=True, slots=True)
class CacheHit:
    """Where an answer came from, when it was not paid for this time."""

    tier: CacheTier
    age_seconds: float
    # Served past its lifetime, because the configuration allows it.
    stale: bool = False
    # Dollars that the answer cost when it was paid for; None where no price was known.
    saved_usd: Decimal | None = None
    # The same without the discounts of that time; None where they are not known.
    plain_usd: Decimal | None = None
    # Set where the tier is "semantic".
    match: SemanticMatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageResponse:
    """One answer, whole or unfinished; ``complete`` tells which."""

    message_id: str
    # The model that answered, as the API names it.
    model: str
    # Every text block of the answer in order, joined without a separator.
    text: str
    stop_reason: str | None
    usage: Usage
    # Why the model refused, where it says so.
    stop_details: Mapping[str, object] | None = None
    request_id: str | None = None
    # Requests sent for this answer.
    attempts: int = 1
    # Tokens of failed attempts before this answer that the API may still bill, one entry a request.
    lost_usages: tuple[Usage, ...] = ()
    # Dollars for ``usage`` and ``lost_usages``; None while nobody has priced it, or no price is known.
    cost_usd: Decimal | None = None
    # What made it cheaper than asked plainly; None while nobody has priced it, or a price is not known.
    discounts: Discounts | None = None
    # Set by a cache; None for an answer of the API.
    cached: CacheHit | None = None
    # The model that was asked first, when another one had to answer; None for the ordinary case.
    fallback_from: str | None = None

    @property
    def plain_usd(self) -> Decimal | None:
        """Dollars that it would have cost without any discount; None where that is not known."""
        if self.cost_usd is None or self.discounts is None:
            return None
        return self.cost_usd + self.discounts.total_usd

    @property
    def complete(self) -> bool:
        """True when the model came to an end and said something: only such an answer counts as done."""
        return self.stop_reason in COMPLETE_STOP_REASONS and bool(
            self.text.strip() or self.stop_reason == "tool_use"
        )
