"""One call as a row: what came out, how long it took, what it cost. Never what was asked or answered."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from claude_force.domain.discounts import NO_DISCOUNTS
from claude_force.domain.events import CallFailed, CallFinished, RunFinished, RunStarted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from claude_force.domain.discounts import Discounts
    from claude_force.domain.events import Event
    from claude_force.domain.messages import CacheHit

_NOTHING: Final = Decimal(0)
# Runs that never told their end, because they were cancelled, are forgotten beyond this many.
_MOST_RUNS: Final = 1000
_NO_DISCOUNT: Final = (_NOTHING, _NOTHING, _NOTHING)
_NOT_COMPARED: Final = (None, _NOTHING, _NOTHING)


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
    # The same without prompt cache, batch and fallback; 0 for what was not cached.
    plain_usd: Decimal = _NOTHING
    # Dollars by which prompt cache, batch and fallback made the call cheaper than asked plainly. The first is None where
    # that is not known, of a cached answer too; then nothing in this row can be compared.
    prompt_cache_saved_usd: Decimal | None = None
    batch_saved_usd: Decimal = _NOTHING
    fallback_saved_usd: Decimal = _NOTHING

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
            if isinstance(event, CallFinished):
                yield (
                    self._finished(ended_at, event, first_text_seconds)
                    if event.result.cached is None
                    else self._cached(ended_at, event, event.result.cached)
                )
            elif isinstance(event, CallFailed):
                yield self._failed(ended_at, event, first_text_seconds)
            elif isinstance(event, RunStarted):
                self._begin(event)
            elif isinstance(event, RunFinished):
                self._workflow_by_run.pop(event.run_id, None)

    def _begin(self, event: RunStarted) -> None:
        workflows = self._workflow_by_run
        if len(workflows) >= _MOST_RUNS:
            del workflows[next(iter(workflows))]
        workflows[event.run_id] = event.workflow_name

    def _workflow(self, run_id: str | None) -> str | None:
        return None if run_id is None else self._workflow_by_run.get(run_id)

    def _finished(self, ended_at: float, event: CallFinished, first_text: float | None) -> CallRow:
        result, run_id = event.result, event.run_id
        usage = sum(result.lost_usages, result.usage) if result.lost_usages else result.usage
        # Made as the tuple that it is: the constructor, which takes names too, costs twice as much.
        return tuple.__new__(
            CallRow,
            (
                ended_at,
                event.call_id,
                result.agent_name,
                result.model,
                result.requested_model,
                result.seconds,
                result.attempts,
                None if run_id is None else self._workflow_by_run.get(run_id),
                run_id,
                event.step_id,
                None,
                first_text,
                usage.input_tokens,
                usage.output_tokens,
                usage.cache_read_tokens,
                usage.cache_write_tokens,
                result.cost_usd,
                None,
                None,
                _NOTHING,
                *_discounted(result.cost_usd, result.discounts),
            ),
        )

    def _cached(self, ended_at: float, event: CallFinished, hit: CacheHit) -> CallRow:
        result = event.result
        plain = hit.saved_usd if hit.plain_usd is None else hit.plain_usd
        return CallRow(
            ended_at,
            event.call_id,
            result.agent_name,
            result.model,
            result.requested_model,
            result.seconds,
            # Nothing was sent, and its tokens were billed when it was paid for.
            attempts=0,
            workflow_name=self._workflow(event.run_id),
            run_id=event.run_id,
            step_id=event.step_id,
            cached_tier=hit.tier,
            saved_usd=hit.saved_usd,
            plain_usd=_NOTHING if plain is None else plain,
            prompt_cache_saved_usd=None if plain is None else _NOTHING,
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
            None,
            None,
            _NOTHING,
            *_discounted(event.cost_usd, event.discounts),
        )


def _discounted(
    cost_usd: Decimal | None, discounts: Discounts | None
) -> tuple[Decimal | None, Decimal, Decimal]:
    """The last three columns of a row."""
    if discounts is NO_DISCOUNTS and cost_usd is not None:
        return _NO_DISCOUNT
    if discounts is None or cost_usd is None:
        return _NOT_COMPARED
    return discounts.prompt_cache_usd, discounts.batch_usd, discounts.fallback_usd
