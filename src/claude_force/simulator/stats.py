"""What the simulator counts, so that a test can prove what was asked, answered and paid."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from claude_force.domain.usage import NO_USAGE, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

# Beyond this many different requests the oldest are forgotten: their next attempt counts as the first again.
MAX_FINGERPRINTS: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorStats:
    """Counts since the start or the last reset, at one moment."""

    # Requests to POST /v1/messages, refused ones included.
    requests: int
    # Answers that were sent whole; none of them a refusal by HTTP status.
    answers: int
    # Faults that were shown, by kind.
    faults: Mapping[str, int]
    # HTTP errors that were sent, by status; from validation, limits and faults.
    errors: Mapping[int, int]
    # 429 from an empty bucket, without those from faults.
    rate_limited: int
    # Valid requests by the model they name.
    requests_by_model: Mapping[str, int]
    # Tokens of every answer that began, cut ones included: what the API would bill.
    usage: Usage
    open_connections: int
    # Requests being answered at the same time, at the most.
    max_concurrent_requests: int
    # Valid requests and whole answers by the fingerprint of what was asked: 1 answer each is "paid once".
    requests_by_fingerprint: Mapping[str, int]
    answers_by_fingerprint: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request to the simulator's API, as far as it is kept."""

    method: str
    path: str
    # Names in lower case, without those that carry a key.
    headers: Mapping[str, str]
    # The parsed body; None where there was none, it was no JSON, or it is not kept.
    body: Any


class Counters:
    """The counts while they change. Not thread-safe: they live on the simulator's loop."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Start again from zero; requests that are being answered stay in flight."""
        self.requests = 0
        self.answers = 0
        self.faults: Counter[str] = Counter()
        self.errors: Counter[int] = Counter()
        self.rate_limited = 0
        self.requests_by_model: Counter[str] = Counter()
        self.usage_totals = [0, 0, 0, 0, 0]
        self.max_concurrent_requests = self.in_flight
        self.attempts: OrderedDict[str, int] = OrderedDict()
        self.answered: OrderedDict[str, int] = OrderedDict()

    def request_began(self) -> None:
        """One more request is being answered."""
        self.in_flight += 1
        self.max_concurrent_requests = max(self.max_concurrent_requests, self.in_flight)

    def request_ended(self) -> None:
        """One request less is being answered."""
        self.in_flight -= 1

    def next_attempt(self, fingerprint: str) -> int:
        """The number of this attempt at a request, from 1."""
        return _count(self.attempts, fingerprint)

    def answered_whole(self, fingerprint: str) -> None:
        """An answer was sent to its last byte."""
        self.answers += 1
        _count(self.answered, fingerprint)

    def bill(self, usage: Usage, output_tokens: int) -> None:
        """Add the tokens of one answer."""
        # Five sums instead of Usage.__add__: this runs for every answer.
        totals = self.usage_totals
        totals[0] += usage.input_tokens
        totals[1] += usage.cache_write_5m_tokens
        totals[2] += usage.cache_write_1h_tokens
        totals[3] += usage.cache_read_tokens
        totals[4] += output_tokens

    def snapshot(self, *, open_connections: int) -> SimulatorStats:
        """The counts of this moment."""
        totals = self.usage_totals
        usage = Usage(
            input_tokens=totals[0],
            cache_write_5m_tokens=totals[1],
            cache_write_1h_tokens=totals[2],
            cache_read_tokens=totals[3],
            output_tokens=totals[4],
        )
        return SimulatorStats(
            requests=self.requests,
            answers=self.answers,
            faults=MappingProxyType(dict(self.faults)),
            errors=MappingProxyType(dict(self.errors)),
            rate_limited=self.rate_limited,
            requests_by_model=MappingProxyType(dict(self.requests_by_model)),
            usage=usage or NO_USAGE,
            open_connections=open_connections,
            max_concurrent_requests=self.max_concurrent_requests,
            requests_by_fingerprint=MappingProxyType(dict(self.attempts)),
            answers_by_fingerprint=MappingProxyType(dict(self.answered)),
        )


def _count(counts: OrderedDict[str, int], key: str) -> int:
    number = counts.get(key, 0) + 1
    counts[key] = number
    if len(counts) > MAX_FINGERPRINTS:
        counts.popitem(last=False)
    return number
