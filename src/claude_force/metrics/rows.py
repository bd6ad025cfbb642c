"""One call as a row: what came out, how long it took, what it cost. Never what was asked or answered."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from claude_force.domain.events import CallFailed, CallFinished, RunFinished, RunStarted
from claude_force.domain.usage import NO_USAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from claude_force.domain.events import Event

_NOTHING: Final = Decimal(0)
# Runs that never told their end, because they were cancelled, are forgotten beyond this many.
_MOST_RUNS: Final = 1000


# A tuple, not a dataclass: it is made for every call, at a fifth of the price.
class CallRow(NamedTuple):
    """What is kept of one call."""

    # Seconds since the epoch.
    ended_at: float
    call_id: str
    agent_name: str
    # The model that answered, else the one that was asked; and the one that was asked.
    model: str
    requested_model: str
    # From the call to its end, retries and waits included.
    seconds: float
    # Requests sent; 0 for a hit of the cache and for what was refused before it was sent.
    attempts: int = 1
    workflow_name: str | None = None
    run_id: str | None = None
    step_id: str | None = None
    # None for a complete answer.
    error_kind: str | None = None
    # Seconds until the first piece of the answer's text; None where none came or it is not known.
    first_text_seconds: float | None = None
    # Billed tokens, of failed attempts too. Input is what was neither read from nor written to the prompt cache.
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    # None where no price is known.
    cost_usd: Decimal | None = _NOTHING
    # The tier of the response cache that answered; None for the API.
    cached_tier: str | None = None
    # What the cached answer cost when it was paid for; None where that is not known, or nothing was cached.
    saved_usd: Decimal | None = None

    @property
    def ok(self) -> bool:
        """True for a complete answer."""
        return self.error_kind is None

    @property
    def answered_by_api(self) -> bool:
        """True for a complete answer that the API gave: only these say how fast it is."""
        return self.error_kind is None and self.cached_tier is None


# When an event came, the event, and for the end of a call the seconds until its first text.
Heard = tuple[float, "Event", float | None]


class RowMaker:
    """Makes rows of events, in the order in which they came. Used by one thread at a time."""

    def __init__(self) -> None:
        self._workflow_by_run: dict[str, str] = {}

    def rows(self, heard: Iterable[Heard]) -> Iterator[CallRow]:
        """A row for every call that ended."""
        for ended_at, event, first_text_seconds in heard:
            match event:
                case CallFinished():
                    yield self._finished(ended_at, event, first_text_seconds)
                case CallFailed():
                    yield self._failed(ended_at, event, first_text_seconds)
                case RunStarted():
                    self._begin(event)
                case RunFinished():
                    self._workflow_by_run.pop(event.run_id, None)
                case _:
                    pass

    def _begin(self, event: RunStarted) -> None:
        workflows = self._workflow_by_run
        if len(workflows) >= _MOST_RUNS:
            del workflows[next(iter(workflows))]
        workflows[event.run_id] = event.workflow_name

    def _workflow(self, run_id: str | None) -> str | None:
        return None if run_id is None else self._workflow_by_run.get(run_id)

    def _finished(self, ended_at: float, event: CallFinished, first_text: float | None) -> CallRow:
        result = event.result
        hit = result.cached
        # The tokens of a cached answer were billed when it was paid for.
        usage = NO_USAGE if hit is not None else sum(result.lost_usages, result.usage)
        return CallRow(
            ended_at,
            event.call_id,
            result.agent_name,
            result.model,
            result.requested_model,
            result.seconds,
            result.attempts if hit is None else 0,
            self._workflow(event.run_id),
            event.run_id,
            event.step_id,
            None,
            first_text if hit is None else None,
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            result.cost_usd if hit is None else _NOTHING,
            None if hit is None else hit.tier,
            None if hit is None else hit.saved_usd,
        )

    def _failed(self, ended_at: float, event: CallFailed, first_text: float | None) -> CallRow:
        usage = event.usage
        return CallRow(
            ended_at,
            event.call_id,
            event.agent_name,
            event.model,
            event.model,
            event.seconds,
            event.attempts,
            self._workflow(event.run_id),
            event.run_id,
            event.step_id,
            event.error_kind,
            first_text,
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            event.cost_usd,
        )
