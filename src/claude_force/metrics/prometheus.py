"""What the store holds, as metrics of Prometheus."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import OptionalDependencyError
from claude_force.metrics.cells import Cell, day_of
from claude_force.metrics.cover import FOREVER, Part
from claude_force.metrics.schema import DAY_SECONDS, SUMS, dollars
from claude_force.metrics.source import CallSource

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
except ImportError as error:
    raise OptionalDependencyError(
        "Prometheus is asked for, but its package is not installed. "
        "Install it with: pip install 'claude-force[prometheus]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from prometheus_client.core import Metric

# Bounds of a histogram, in seconds: answers of a language model take from half a second to minutes.
BUCKETS: Final = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 60.0, 120.0, 300.0, 600.0)  # fmt: skip
OTHER: Final = "other"
_MOST_AGENTS: Final = 50
_MOST_MODELS: Final = 30
_MOST_KINDS: Final = 30
_MOST_CLASSES: Final = 30
_TOKENS: Final = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
}
_DISCOUNTS: Final = {
    "prompt_cache": "prompt_cache_saved",
    "batch": "batch_saved",
    "fallback": "fallback_saved",
}
_LABELS: Final = ("agent", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Limits and breakers at one moment, as far as they are known."""

    # By model and origin: whether it is open.
    breakers: Mapping[str, bool] = field(default_factory=dict)
    # By class and kind: what there is a minute, and what of it is free.
    limits: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    blocked: Sequence[str] = ()
    paused: bool = False
    processes: int = 0
    in_flight: int = 0
    waiting: int = 0


class StoreCollector:
    """A collector of ``prometheus_client``: registers anywhere, and reads the store at each scrape.

    Counters are what the store has ever counted, by whichever process; they go on where they were when this process
    starts anew, and rows that are swept stay counted. The first agents, models and kinds of errors that the store met
    have a label of their own, the others share ``other``: which those are never changes. Any thread may collect.

    Args:
        path: of the database of metrics; while there is none, nothing is counted.
        standing: asked at each scrape for limits and breakers; None leaves them out.
        max_agents: agents with a label of their own; of models there are 30.
        wall_clock: seconds since the epoch.

    Raises:
        StorageError: by `collect`, when the database cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        standing: Callable[[], Standing | None] | None = None,
        max_agents: int = _MOST_AGENTS,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = CallSource(path)
        self._standing = standing
        self._max_agents = max_agents
        self._wall_clock = wall_clock
        # Protects the source and what is kept: one scrape at a time.
        self._lock = threading.Lock()
        # Days that are over do not change: what they came to by agent and model, and where they end.
        self._past: dict[tuple[int, int], Cell] = defaultdict(Cell)
        self._past_until = 0

    def collect(self) -> Iterator[Metric]:
        """The families of metrics, as they are now."""
        with self._lock:
            if self._source.opened():
                yield from self._calls()
        standing = None if self._standing is None else self._standing()
        if standing is not None:
            yield from _gauges(standing)

    def close(self) -> None:
        """Close the database; the next scrape opens it again."""
        with self._lock:
            self._source.close()

    def _calls(self) -> Iterator[Metric]:
        cells = self._by_labels()
        yield from _counters(cells)
        yield _histogram(cells)
        yield self._failures()

    def _by_labels(self) -> dict[tuple[str, str], Cell]:
        # Rows come late by seconds, never by a day.
        past_until = day_of(self._wall_clock()) - DAY_SECONDS
        if past_until > self._past_until:
            self._read(self._past, self._past_until, past_until)
            self._past_until = past_until
        present: dict[tuple[int, int], Cell] = defaultdict(Cell)
        self._read(present, self._past_until, FOREVER)
        keys = sorted({*self._past, *present})
        agents = self._labels((key[0] for key in keys), self._max_agents)
        models = self._labels((key[1] for key in keys), _MOST_MODELS)
        merged: dict[tuple[str, str], Cell] = defaultdict(Cell)
        for key in keys:
            labels = agents[key[0]], models[key[1]]
            for cells in (self._past, present):
                if key in cells:
                    merged[labels].merge(cells[key])
        return merged

    def _read(self, cells: dict[tuple[int, int], Cell], since: int, until: int) -> None:
        for _, agent, model, _, cell in self._source.cells(Part("days", since, until), None):
            cells[agent, model].merge(cell)

    def _failures(self) -> Metric:
        rows = self._source.execute(
            "SELECT agent, error_kind, sum(calls) FROM failure_days GROUP BY 1, 2"
        )
        agents = self._labels((row[0] for row in rows), self._max_agents)
        kinds = self._labels((row[1] for row in rows), _MOST_KINDS)
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for agent, kind, calls in rows:
            counts[agents[agent], kinds[kind]] += calls
        family = CounterMetricFamily(
            "claude_force_call_failures",
            "Calls that ended without a complete answer, by kind of error.",
            labels=("agent", "kind"),
        )
        for labels, count in counts.items():
            family.add_metric(labels, count)
        return family

    def _labels(self, numbers: Iterable[int], most: int) -> dict[int, str]:
        """A label for each number of a name. Names are numbered as they come, so those with their own keep it."""
        ordered = sorted(set(numbers))
        return {
            number: self._source.name(number) if place < most else OTHER
            for place, number in enumerate(ordered)
        }


def _counters(cells: Mapping[tuple[str, str], Cell]) -> Iterator[Metric]:
    calls = CounterMetricFamily(
        "claude_force_calls", "Calls that ended, by how.", labels=(*_LABELS, "outcome")
    )
    tokens = CounterMetricFamily(
        "claude_force_tokens", "Billed tokens, by sort.", labels=(*_LABELS, "sort")
    )
    plain = {
        name: CounterMetricFamily(f"claude_force_{name}", text, labels=_LABELS)
        for name, text in (
            ("cost_dollars", "Dollars of the calls whose price is known."),
            ("unpriced_calls", "Calls whose price is not known."),
            ("retries", "Requests beyond the first of their call."),
            ("cache_hits", "Answers that were not paid for."),
            ("cache_saved_dollars", "Dollars that those answers cost when they were paid for."),
        )
    }
    discounts = GaugeMetricFamily(
        "claude_force_discount_dollars",
        "Dollars by which prompt cache, batches and fallbacks made calls cheaper; less than 0 where they cost more.",
        labels=(*_LABELS, "by"),
    )
    for labels, cell in cells.items():
        sums = dict(zip(SUMS, cell.sums, strict=True))
        outcomes = {
            "answered": sums["calls"] - sums["failures"] - sums["cached"],
            "cached": sums["cached"],
            "failed": sums["failures"],
        }
        for outcome, count in outcomes.items():
            calls.add_metric((*labels, outcome), count)
        for sort, column in _TOKENS.items():
            tokens.add_metric((*labels, sort), sums[column])
        plain["cost_dollars"].add_metric(labels, float(dollars(sums["cost"])))
        plain["unpriced_calls"].add_metric(labels, sums["unpriced"])
        plain["retries"].add_metric(labels, sums["retries"])
        plain["cache_hits"].add_metric(labels, sums["cached"])
        plain["cache_saved_dollars"].add_metric(labels, float(dollars(sums["saved"])))
        for by, column in _DISCOUNTS.items():
            discounts.add_metric((*labels, by), float(dollars(sums[column])))
    yield from (calls, tokens, *plain.values(), discounts)


def _histogram(cells: Mapping[tuple[str, str], Cell]) -> Metric:
    family = HistogramMetricFamily(
        "claude_force_call_duration_seconds",
        "Seconds from a call to its complete answer of the API, retries and waits included; within 1 %.",
        labels=_LABELS,
    )
    for labels, cell in cells.items():
        counts = cell.latency.counts_up_to(BUCKETS)
        buckets = [(str(bound), count) for bound, count in zip(BUCKETS, counts, strict=True)]
        buckets.append(("+Inf", cell.latency.count))
        family.add_metric(labels, buckets, cell.latency.total_seconds)
    return family


def _gauges(standing: Standing) -> Iterator[Metric]:
    breakers = GaugeMetricFamily(
        "claude_force_breaker_open", "1 while the circuit breaker is open.", labels=("target",)
    )
    for key, is_open in sorted(standing.breakers.items())[:_MOST_CLASSES]:
        breakers.add_metric((key,), int(is_open))
    blocked = GaugeMetricFamily(
        "claude_force_blocked", "1 while the API asks to wait.", labels=("target",)
    )
    for key in sorted(standing.blocked)[:_MOST_CLASSES]:
        blocked.add_metric((key,), 1)
    per_minute = GaugeMetricFamily(
        "claude_force_limit_per_minute", "A limit of the API.", labels=("target", "kind")
    )
    free = GaugeMetricFamily(
        "claude_force_limit_free", "What of it nobody has taken yet.", labels=("target", "kind")
    )
    for labels, (whole, left) in sorted(standing.limits.items())[: 3 * _MOST_CLASSES]:
        per_minute.add_metric(labels, whole)
        free.add_metric(labels, left)
    yield from (breakers, blocked, per_minute, free)
    for name, text, value in (
        ("paused", "1 while no request is let out.", int(standing.paused)),
        ("processes", "Processes that use the limits.", standing.processes),
        ("requests_in_flight", "Requests under way.", standing.in_flight),
        ("requests_waiting", "Requests that wait for their turn.", standing.waiting),
    ):
        yield GaugeMetricFamily(f"claude_force_{name}", text, value=value)
