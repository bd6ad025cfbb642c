"""Everything that happens, as frozen values in one stream.

Metrics, journal, terminal view and exporters listen; none of them is called by name. A listener is any callable
that takes an event; it runs on the event loop and must return at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

from claude_force.domain.discounts import NO_DISCOUNTS, Discounts
from claude_force.domain.usage import NO_USAGE, Usage

if TYPE_CHECKING:
    from claude_force.domain.rate_limits import RateSnapshot
    from claude_force.domain.results import AgentResult, StepResult

NOTHING_SPENT: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call to an agent was accepted; nothing was sent yet."""

    call_id: str
    agent_name: str
    model: str
    run_id: str | None = None
    step_id: str | None = None
    # The item of a step that fans out, by its position.
    item_index: int | None = None


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """A request is about to go out."""

    call_id: str
    # From 1.
    attempt: int


@dataclass(frozen=True, slots=True)
class LimitsSeen:
    """The headers of a response, of an error too, told how much of the rate limits is left."""

    call_id: str
    snapshot: RateSnapshot


@dataclass(frozen=True, slots=True)
class FellBack:
    """A model could not answer; the next of the chain is asked."""

    call_id: str
    failed_model: str
    next_model: str
    error_kind: str
    message: str


@dataclass(frozen=True, slots=True)
class AnswerStarted:
    """The first event of the answer arrived."""

    call_id: str
    request_id: str | None
    # What the API has counted so far: the prompt. It is billed even if the answer never ends.
    usage: Usage


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer's text, in order."""

    call_id: str
    text: str


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt failed. If text had arrived it is void: the next attempt starts from scratch."""

    call_id: str
    attempt: int
    # `kind` of the error, and its message.
    error_kind: str
    message: str
    # Seconds until the next attempt; None when there is none.
    retry_in_seconds: float | None
    # Text deltas of this attempt had been handed out.
    text_was_sent: bool


@dataclass(frozen=True, slots=True)
class CallFinished:
    """A call ended in a complete answer."""

    call_id: str
    result: AgentResult
    run_id: str | None = None
    step_id: str | None = None


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A call ended without a complete answer."""

    call_id: str
    agent_name: str
    error_kind: str
    message: str
    seconds: float
    # The one that was asked first.
    model: str = ""
    run_id: str | None = None
    step_id: str | None = None
    # Requests that were sent, the tokens that the API may bill for them, and what those cost; None where no price is
    # known.
    attempts: int = 0
    usage: Usage = NO_USAGE
    cost_usd: Decimal | None = NOTHING_SPENT
    # What made those requests cheaper than asked plainly; None where a price is not known.
    discounts: Discounts | None = NO_DISCOUNTS


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A workflow starts."""

    run_id: str
    workflow_name: str
    step_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepStarted:
    """All that a step waits for is there; its call begins."""

    run_id: str
    step_id: str
    agent_name: str


@dataclass(frozen=True, slots=True)
class StepExpanded:
    """It is known how many items a step that fans out has; their calls begin."""

    run_id: str
    step_id: str
    item_count: int


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step ended, one way or another."""

    run_id: str
    step: StepResult


@dataclass(frozen=True, slots=True)
class RunFinished:
    """Every step of a workflow ended."""

    run_id: str
    ok: bool
    seconds: float


Event: TypeAlias = (
    CallStarted
    | AttemptStarted
    | LimitsSeen
    | FellBack
    | AnswerStarted
    | TextDelta
    | AttemptFailed
    | CallFinished
    | CallFailed
    | RunStarted
    | StepStarted
    | StepExpanded
    | StepFinished
    | RunFinished
)

EventListener: TypeAlias = Callable[[Event], None]
