"""Settings as the rest of the package sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceSettings:
    """``performance`` of claude.json."""

    async_enabled: bool = True
    # Requests to the API at the same time, over all agents.
    max_concurrent_agents: int = 10
    # Deadline of one call, retries included.
    timeout_seconds: float = 120
    # Deadline of a single attempt; 0 for that of its call.
    attempt_timeout_seconds: float = 0
    # Requests of one call beyond the first.
    max_retries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticSettings:
    """``cache.semantic`` of claude.json: answers to similar tasks."""

    # Agents that it is switched on for, with the least cosine similarity that will do; None takes the default.
    agents: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """``cache`` of claude.json."""

    enabled: bool = True
    ttl_hours: float = 24
    max_size_mb: float = 100
    # Share of `max_size_mb` that answers of pinned runs may take.
    max_pinned_share: float = 0.5
    exclude_agents: tuple[str, ...] = ()
    use_integrity_check: bool = True
    stale_while_revalidate_seconds: float = 0
    stale_if_error_seconds: float = 0
    semantic: SemanticSettings = field(default_factory=SemanticSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCacheSettings:
    """``prompt_cache`` of claude.json."""

    enabled: bool = True
    # Whether a prefix may be kept for an hour: where it is measured to be cheaper, or not at all.
    one_hour: Literal["auto", "never"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """``budgets`` of claude.json, in dollars; None for no budget."""

    per_call_usd: Decimal | None = None
    # For each run of a workflow or map; calls outside of any run share one.
    per_run_usd: Decimal | None = None
    # For all processes of the user together, by the day in UTC.
    per_day_usd: Decimal | None = None
    # By agent name, for as long as a process lives.
    per_agent_usd: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """``metrics.alerts`` of claude.json: from where on an alert fires; None for no such alert."""

    # Share of the calls of 5 minutes that fail.
    error_rate: float | None = 0.10
    # 95th percentile of an hour, in seconds.
    p95_seconds: float | None = 15
    # Dollars of 24 hours, as a multiple of the usual.
    cost_factor: float | None = 2
    # Share of the calls of 24 hours that end in a complete answer; fires below.
    success_rate: float | None = 0.95
    # Share of the answers of 24 hours that the response cache did not have, where it usually has more.
    cache_miss_rate: float | None = 0.80
    # How much slower, as a share, the median of 24 hours is than the usual.
    latency_regression: float | None = 0.15
    # Whether an hour of an agent is compared with the same hour of earlier days.
    anomalies: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """``metrics`` of claude.json."""

    enabled: bool = True
    # How long the rows of calls are kept; the sums of their days stay.
    retention_days: int = 30
    alerts: AlertSettings = field(default_factory=AlertSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """``memory`` of claude.json."""

    # Whether calls and agents that ask for a memory have one.
    enabled: bool = True
    # What is recalled for one call, in tokens; 0 recalls nothing.
    max_tokens: int = 1000
    retention_days: int = 365
    # For all agents and projects of the user together; the oldest records make room.
    max_size_mb: float = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that claude.json says; the defaults where there is no such file."""

    performance: PerformanceSettings = field(default_factory=PerformanceSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    prompt_cache: PromptCacheSettings = field(default_factory=PromptCacheSettings)
    budgets: BudgetSettings = field(default_factory=BudgetSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    # Agents registered by name, as the file has them: {"name": {"file": …, "domains": […], "priority": …}}.
    agents: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    # Workflows by name, as the file has them: a list of agent names, or a mapping with `steps`.
    workflows: Mapping[str, object] = field(default_factory=dict)
    # The file that was read; None for defaults.
    path: Path | None = None
