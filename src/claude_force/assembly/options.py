"""What the caller of the API decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal
    from pathlib import Path

    from claude_force.cache.semantic.embedder import Embedder


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """What the caller of the API decides; None leaves it to ``claude.json``, the environment or the default."""

    config_path: Path | None = None
    agents_dir: Path | None = None
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    max_concurrent: int | None = None
    max_retries: int | None = None
    timeout_seconds: float | None = None
    # 0 for none.
    attempt_timeout_seconds: float | None = None
    enable_cache: bool | None = None
    cache_ttl_hours: float | None = None
    cache_dir: Path | None = None
    cache_secret: str | None = field(default=None, repr=False)
    cache_origin: str | None = None
    # None takes the environment's, an empty text none.
    cache_redis_url: str | None = field(default=None, repr=False)
    # Thresholds by agent, None for the default one; an empty mapping switches the semantic cache off.
    semantic_cache: Mapping[str, float | None] | None = None
    semantic_embedder: Embedder | None = None
    # As above, for limits, breakers and the budget of the day.
    limits_redis_url: str | None = field(default=None, repr=False)
    # Whether the provider's prompt cache is used.
    prompt_cache: bool | None = None
    # What this orchestrator may spend, over all its calls.
    budget_usd: Decimal | None = None
    # Where processes share limits, breakers and the budget of the day.
    state_dir: Path | None = None

    def __post_init__(self) -> None:
        check_number("max_concurrent", self.max_concurrent, minimum=1)
        check_number("max_retries", self.max_retries, minimum=0)
        check_number("timeout_seconds", self.timeout_seconds, minimum=0.001)
        check_number("attempt_timeout_seconds", self.attempt_timeout_seconds, minimum=0)
        check_number("cache_ttl_hours", self.cache_ttl_hours, minimum=0)
        check_number("budget_usd", self.budget_usd, minimum=0)


def check_number(name: str, value: float | Decimal | None, *, minimum: float) -> None:
    """Refuse a number below its minimum; None passes."""
    if value is not None and not value >= minimum:
        raise ConfigError(f"{name} is {value!r}; it has to be {minimum:g} or more.")
