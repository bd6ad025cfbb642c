"""What a user gets back."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import CallError
from claude_force.domain.messages import COMPLETE_STOP_REASONS
from claude_force.domain.usage import NO_USAGE, Usage, total_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from claude_force.domain.discounts import Discounts
    from claude_force.domain.errors import ClaudeForceError
    from claude_force.domain.messages import CacheHit

_NOTHING_SPENT: Final = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentResult:
    """One agent's answer."""

    agent_name: str
    text: str
    stop_reason: str | None
    # The model that answered, and the one that was asked.
    model: str
    requested_model: str
    usage: Usage
    # The model that was asked first, when another one of the fallback chain had to answer; None for the ordinary case.
    fallback_from: str | None = None
    # Tokens of failed attempts before this answer, which the API may bill, one entry a request.
    lost_usages: tuple[Usage, ...] = ()
    # Dollars for `usage` and `lost_usages`; None where no price is known. Zero for a cache hit.
    cost_usd: Decimal | None = None
    # What made it cheaper than asked plainly; None where a price is not known, and for a cache hit.
    discounts: Discounts | None = None
    # Set when the answer came from a cache: from which tier, how old, stale or not.
    cached: CacheHit | None = None
    # Numbers of the memories that it was given (`claude-force memory show`); None for a call without a memory.
    recalled: tuple[int, ...] | None = None
    # Requests sent for it.
    attempts: int = 1
    # From the call to the whole answer.
    seconds: float = 0.0
    request_id: str | None = None

    @property
    def ok(self) -> bool:
        """True only for a complete answer."""
        return self.stop_reason in COMPLETE_STOP_REASONS and bool(
            self.text.strip() or self.stop_reason == "tool_use"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOutcome:
    """How one item of many ended: exactly one of ``result`` and ``error`` is set."""

    # Position in the input, from 0.
    index: int
    # The caller's id for the item, or the position as text.
    item_id: str
    agent_name: str
    result: AgentResult | None = None
    error: ClaudeForceError | None = None

    @property
    def ok(self) -> bool:
        """True when the item ended in a complete answer."""
        return self.result is not None and self.result.ok

    @property
    def cost_usd(self) -> Decimal | None:
        """Dollars that the item cost, whether it succeeded or not; None where no price is known."""
        return _spent_usd(self.result, self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How one step of a workflow ended."""

    step_id: str
    agent_name: str
    # succeeded, failed or skipped.
    state: str
    # The last answer; None for a step that fans out, failed or was skipped.
    result: AgentResult | None = None
    # Answers before ``result``, which were paid as well: rounds of a loop, an answer that had to be repaired.
    earlier: tuple[AgentResult, ...] = ()
    # How each item of a step that fans out ended, in the order of the items.
    items: tuple[AgentOutcome, ...] = ()
    # The answer as JSON, where the step has a schema; for a step that fans out the list of its items' answers, with None
    # for those that have none.
    data: object = None
    error: ClaudeForceError | None = None
    # Errors of calls that were made again; what they cost counts.
    retried: tuple[ClaudeForceError, ...] = ()
    # Why it was skipped.
    reason: str | None = None
    # Its failure is not one of the run: ``on_error`` is ``continue``.
    tolerated: bool = False
    # Seconds from the start of the run.
    started_seconds: float | None = None
    ended_seconds: float | None = None

    @property
    def text(self) -> str | None:
        """What the steps behind it get: its answer, or of a fan-out the JSON list of its items' answers.

        Where the failure of a fan-out is tolerated, the list has null for each item that failed, as long as one did not.
        """
        if self.result is not None:
            return self.result.text
        if self.state != "succeeded" and not (self.tolerated and any(map(_has_answer, self.items))):
            return None
        import json  # noqa: PLC0415 - only a fan-out needs it

        texts = [None if item.result is None else item.result.text for item in self.items]
        return json.dumps(texts if self.data is None else self.data, ensure_ascii=False)

    @property
    def answers(self) -> tuple[AgentResult, ...]:
        """Every answer of the step, also those of rounds and repairs."""
        of_items = tuple(item.result for item in self.items if item.result is not None)
        return (*self.earlier, *of_items, *(() if self.result is None else (self.result,)))

    @property
    def usage(self) -> Usage:
        """Tokens of its answers, but for those from a cache, and of attempts that came to nothing but may be billed."""
        if self._is_one_answer and self.result is not None:
            return self.result.usage if self.result.cached is None else NO_USAGE
        usages = [answer.usage for answer in self.answers if answer.cached is None]
        for answer in self.answers:
            usages += answer.lost_usages
        for error in self._errors:
            if isinstance(error, CallError):
                usages += error.usages
        return total_usage(usages)

    @property
    def cost_usd(self) -> Decimal | None:
        """Dollars that the step cost, whether it succeeded or not; None where no price is known."""
        if self._is_one_answer and self.result is not None:
            return self.result.cost_usd
        return total_cost_usd(
            (
                *(answer.cost_usd for answer in self.answers),
                *(_spent_usd(None, error) for error in self._errors),
            )
        )

    @property
    def _is_one_answer(self) -> bool:
        """Most are: a result at the first attempt, and nothing else that was paid."""
        result = self.result
        return result is not None and not (
            result.lost_usages or self.earlier or self.items or self.retried or self.error
        )

    @property
    def _errors(self) -> tuple[ClaudeForceError | None, ...]:
        # The error of a fan-out is made of those of its items.
        own = tuple(item.error for item in self.items) if self.items else (self.error,)
        return (*self.retried, *own)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowResult:
    """A whole run of a workflow."""

    workflow_name: str
    run_id: str
    # Every step, in the order of the definition; not in `repr`, which would hold every answer.
    steps: Mapping[str, StepResult] = field(repr=False)
    # Ids of the steps that ran, in the order in which they are started; the same for equal definitions.
    execution_order: tuple[str, ...]
    total_time_seconds: float
    usage: Usage = NO_USAGE
    # None where the price of any step is unknown.
    cost_usd: Decimal | None = None
    # Steps that nothing depends on: what the workflow is for.
    final_steps: tuple[str, ...] = field(default=())

    @property
    def results(self) -> dict[str, str]:
        """Texts of the finished steps by step id."""
        return {
            step_id: text for step_id, step in self.steps.items() if (text := step.text) is not None
        }

    @property
    def ok(self) -> bool:
        """True when no step failed, other than those whose failure is tolerated."""
        return all(step.state != "failed" or step.tolerated for step in self.steps.values())

    @property
    def text(self) -> str:
        """The answers of the final steps, joined by a blank line."""
        results = self.results
        return "\n\n".join(results[step_id] for step_id in self.final_steps if step_id in results)


def _has_answer(item: AgentOutcome) -> bool:
    return item.result is not None


def total_cost_usd(costs: Iterable[Decimal | None]) -> Decimal | None:
    """The sum, or None if any part is unknown: a total that leaves something out would be wrong."""
    total = _NOTHING_SPENT
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


def _spent_usd(result: AgentResult | None, error: ClaudeForceError | None) -> Decimal | None:
    if result is not None:
        return result.cost_usd
    if isinstance(error, CallError) and error.usages:
        return error.cost_usd
    return _NOTHING_SPENT
