"""What can be asked of the metrics, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar

from claude_force.metrics.schema import DAY_SECONDS, HOUR_SECONDS, dollars

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from claude_force.metrics.cells import Cell
    from claude_force.metrics.rows import CallRow

T = TypeVar("T")

Dimension: TypeAlias = Literal["agent", "model", "workflow", "hour", "day"]
# In which order single calls are listed.
Listing: TypeAlias = Literal["slowest", "failures"]

_MINUTE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a number of calls came to."""

    calls: int
    # Calls without a complete answer.
    failures: int
    # Answered by the response cache, or by a call that was under way already.
    cached: int
    # Requests beyond the first of their call.
    retries: int
    # Billed tokens. Input is what was neither read from nor written to the prompt cache.
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    # Dollars of the calls whose price is known, and how many there are besides.
    cost_usd: Decimal
    unpriced: int
    # Dollars that cached answers cost when they were paid for.
    saved_usd: Decimal
    # Seconds in which the API gave complete answers, within 1 %; None where it gave none.
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None

    @property
    def success_rate(self) -> float | None:
        """Share of the calls that ended in a complete answer; None where there was no call."""
        return 1 - self.failures / self.calls if self.calls else None

    @property
    def hit_rate(self) -> float | None:
        """Share of the complete answers that were not paid for; None where there was none."""
        answered = self.calls - self.failures
        return self.cached / answered if answered else None

    @property
    def prompt_cache_rate(self) -> float | None:
        """Share of the billed input that was read from the prompt cache; None where there was none."""
        billed = self.input_tokens + self.cache_read_tokens + self.cache_write_tokens
        return self.cache_read_tokens / billed if billed else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The calls that agree in what was grouped by; the rest is None."""

    agent: str | None = None
    model: str | None = None
    # An empty text for calls outside of any workflow.
    workflow: str | None = None
    # The hour or the day of UTC.
    start: datetime | None = None
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCount:
    """How often one kind of error ended a call of one agent."""

    error_kind: str
    agent: str
    calls: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How a result came about."""

    # From the query-result cache.
    hit: bool
    # Of the database: it changes with every write of any process.
    version: int
    seconds: float
    # What was read, such as "30 days, 7 hours".
    read: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """A result, from which moment on it counts, and how it came about."""

    value: T
    # None for everything that was ever recorded.
    since: datetime | None
    explanation: Explanation


Groups: TypeAlias = "tuple[Group, ...]"
Calls: TypeAlias = "tuple[CallRow, ...]"


def totals_of(cell: Cell) -> Totals:
    """The sums of a cell, with its percentiles."""
    calls, failures, cached, retries, *tokens, cost, unpriced, saved = cell.sums[:11]
    input_tokens, output_tokens, read_tokens, written_tokens = tokens
    p50, p95, p99 = cell.latency.quantiles(0.5, 0.95, 0.99)
    return Totals(
        calls=calls,
        failures=failures,
        cached=cached,
        retries=retries,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=read_tokens,
        cache_write_tokens=written_tokens,
        cost_usd=dollars(cost),
        unpriced=unpriced,
        saved_usd=dollars(saved),
        p50_seconds=p50,
        p95_seconds=p95,
        p99_seconds=p99,
    )


def start_of(since_seconds: float | None, now: float) -> int:
    """The second from which on "the last ``since_seconds``" counts; 0 for everything.

    The last days begin with a whole hour and shorter times with a whole minute, so that the same question asked again
    is the same query.
    """
    if since_seconds is None:
        return 0
    step = HOUR_SECONDS if since_seconds >= DAY_SECONDS else _MINUTE_SECONDS
    return max(int((now - since_seconds) // step) * step, 0)
