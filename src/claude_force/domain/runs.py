"""What is kept of a run of a workflow: the values that its journal stores and its views read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from claude_force.domain.usage import NO_USAGE, Usage

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

# A run whose process died is "interrupted": nobody recorded its end, and nobody works on it.
RunState = Literal["running", "succeeded", "failed", "stopped", "interrupted"]
StepState = Literal["waiting", "running", "succeeded", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlace:
    """Which call of a run one is: a step makes several when it fans out, loops, or repairs an answer."""

    step_id: str
    # The item of a fan-out, by its position; None for a step that does not fan out.
    item_index: int | None = None
    # Of a loop, from 1.
    round: int = 1
    # 0 for the first question, 1 for the one that asks to repair the answer.
    repair: int = 0


@dataclass(frozen=True, slots=True)
class PromptPart:
    """One block of what was asked."""

    # "system", or the role of a message.
    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call of a run: what was asked, and how it ended."""

    place: CallPlace
    # Content key of the exact request, 32 hex characters.
    key: str
    agent_name: str
    # The model that answered, else the one that was asked.
    model: str
    prompt: tuple[PromptPart, ...] = ()
    # None for a call that failed.
    text: str | None = None
    usage: Usage = NO_USAGE
    # Dollars; None where no price is known. Zero for an answer that was not paid for this time.
    cost_usd: Decimal | None = None
    # Requests that were sent.
    attempts: int = 1
    # The cache tier that answered ("journal" for what the run itself had already); None for an answer of the API.
    cached_tier: str | None = None
    # What the cached answer cost when it was paid for; None where that is not known, or nothing was cached.
    saved_usd: Decimal | None = None
    # Seconds from the start of the run (of the part of it that made the call).
    started_seconds: float = 0.0
    ended_seconds: float = 0.0
    request_id: str | None = None
    error_kind: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTotals:
    """What calls came to, in every part of their run."""

    calls: int = 0
    # What was paid for this time.
    usage: Usage = NO_USAGE
    # Dollars; None where any price is unknown.
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of a run, as far as it got."""

    step_id: str
    agent_name: str
    dependencies: tuple[str, ...] = ()
    state: StepState = "waiting"
    started_seconds: float | None = None
    ended_seconds: float | None = None
    error_kind: str | None = None
    error_message: str | None = None
    # Why it was skipped.
    reason: str | None = None
    # What steps behind it get; None where that is nothing.
    text: str | None = None
    # In the order in which they ended.
    calls: tuple[CallRecord, ...] = ()
    # Of its calls, where these were not read themselves; None for a step without any.
    totals: CallTotals | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run, as far as it got."""

    run_id: str
    workflow_name: str
    description: str = ""
    task: str = ""
    state: RunState = "running"
    started_at: datetime
    # None while it runs, or when its process died.
    ended_at: datetime | None = None
    # Seconds of the part that ran last, from start to end.
    seconds: float | None = None
    # How often it was resumed.
    resumed: int = 0
    usage: Usage = NO_USAGE
    # Dollars for all parts of the run; None where any price is unknown.
    cost_usd: Decimal | None = None
    # In the order of the definition.
    steps: tuple[StepRecord, ...] = ()
