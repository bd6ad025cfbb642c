"""Builds the layers of a call around each other."""
# ruff: noqa: PLC0415 - each layer is imported when it is built: start-up time

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from claude_force.assembly.lookup import lifetimes_of
from claude_force.config.settings import BudgetSettings
from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.cache.semantic.embedder import Embedder
    from claude_force.cache.store import CacheStore
    from claude_force.config.proxies import Proxies
    from claude_force.config.settings import CacheSettings, PromptCacheSettings
    from claude_force.pricing.catalogue import PriceCatalogue
    from claude_force.pricing.spending import Spending
    from claude_force.provider.client import ModelClient


class CachePlace(TypedDict):
    """Where answers are kept, and what signs them."""

    folder: Path
    secret: str | None
    redis_url: str | None


class Borrowed:
    """A client that belongs to the caller: closing it does nothing."""

    def __init__(self, client: ModelClient) -> None:
        self.send = client.send

    async def aclose(self) -> None:
        """Leave it open."""


def build_transport(*, api_key: str, base_url: str, proxies: Proxies) -> ModelClient:
    """The client that sends each request once, directly to the API."""
    from claude_force.provider.messages_api import MessagesApiClient

    return MessagesApiClient(api_key=api_key, base_url=base_url, proxies=proxies)


def build_chain(
    transport: ModelClient,
    *,
    origin: str,
    address: str,
    max_concurrent: int,
    max_retries: int,
    timeout_seconds: float,
    attempt_timeout_seconds: float = 0,
    budgets: BudgetSettings,
    state_folder: Path | None,
    redis_url: str | None = None,
    prompt_cache: PromptCacheSettings,
    spending: Spending | None = None,
) -> ModelClient:
    """Every layer around ``transport``.

    Outermost first: the rest of answers that were cut off, fallback, prompt cache, price and budget, then deadline, retries and limits.

    Args:
        transport: sends each request once.
        origin: the base URL or platform; limits and breakers belong to it.
        address: where the requests really go, and prompts are kept: each simulator of a simulated run starts empty.
        max_concurrent: requests of this process at the same time.
        max_retries: requests of one call beyond the first.
        timeout_seconds: the deadline of a call that names none.
        attempt_timeout_seconds: the deadline of a single attempt; 0 for that of its call.
        budgets: what may be spent.
        state_folder: where the processes of a user share limits, breakers, the budget of the day and what they have seen
            of prefixes; None shares none.
        redis_url: where the processes of several machines share them.
        prompt_cache: whether and how the provider's prompt cache is used.
        spending: what keeps calls within ``budgets``; None makes it here.
    """
    from claude_force.pricing.catalogue import PriceCatalogue
    from claude_force.provider.continuing import ContinuingClient
    from claude_force.provider.fallback import FallbackClient
    from claude_force.provider.metered import MeteredClient
    from claude_force.provider.resilient import ResilientClient
    from claude_force.resilience.circuit_breakers import CircuitBreakers
    from claude_force.resilience.governor import Governor
    from claude_force.resilience.retries import RetryPolicy

    limits, breakers = None, None
    if state_folder is not None:
        from claude_force.assembly.meeting import open_limits

        limits, breakers = open_limits(state_folder, redis_url)
    resilient = ResilientClient(
        transport,
        governor=Governor(max_concurrent=max_concurrent, shared=limits),
        breakers=CircuitBreakers(shared=breakers),
        origin=origin,
        policy=RetryPolicy(max_retries=max_retries),
        timeout_seconds=timeout_seconds,
        attempt_timeout_seconds=attempt_timeout_seconds or None,
    )
    catalogue = PriceCatalogue()
    if spending is None:
        spending = build_spending(budgets, catalogue, state_folder, redis_url)
    metered = MeteredClient(resilient, catalogue=catalogue, spending=spending)
    marked: ModelClient = metered
    if prompt_cache.enabled:
        marked = build_prompt_cached(
            metered, prompt_cache, catalogue, origin=address, state_folder=state_folder
        )
    return ContinuingClient(FallbackClient(marked, catalogue=catalogue))


def build_prompt_cached(
    inner: ModelClient,
    settings: PromptCacheSettings,
    catalogue: PriceCatalogue,
    *,
    origin: str,
    state_folder: Path | None,
) -> ModelClient:
    """``inner`` behind the layer that uses the provider's prompt cache, with what processes share of it there."""
    from datetime import UTC, datetime

    from claude_force.provider.prompt_cache.client import PromptCacheClient
    from claude_force.provider.prompt_cache.outlook import rates_of

    others = None
    if state_folder is not None:
        from claude_force.provider.prompt_cache.shared_history import SharedHistory

        others = SharedHistory(state_folder / "prompt_cache.db", origin=origin)
    return PromptCacheClient(
        inner,
        others=others,
        one_hour=settings.one_hour == "auto",
        rates_for=lambda model: rates_of(catalogue.tariff_at_hand(model, at=datetime.now(UTC))),
    )


def build_spending(
    budgets: BudgetSettings,
    catalogue: PriceCatalogue,
    state_folder: Path | None,
    redis_url: str | None = None,
) -> Spending | None:
    """What keeps calls within the budgets; None where there are none."""
    if budgets == BudgetSettings():
        return None
    from claude_force.assembly.meeting import open_day_accounts
    from claude_force.pricing.spending import BudgetLimits, Spending

    day_ledger = None
    if budgets.per_day_usd is not None:
        if state_folder is None:
            raise ConfigError("A budget of the day needs a folder that all processes share.")
        day_ledger = open_day_accounts(state_folder, redis_url)
    return Spending(
        BudgetLimits(
            per_call_usd=budgets.per_call_usd,
            per_run_usd=budgets.per_run_usd,
            per_agent_usd=budgets.per_agent_usd,
            per_day_usd=budgets.per_day_usd,
        ),
        catalogue=catalogue,
        day_ledger=day_ledger,
    )


def build_store(
    settings: CacheSettings, *, folder: Path, secret: str | None, redis_url: str | None = None
) -> CacheStore:
    """The store of answers that the settings ask for; nothing is opened before it is used.

    Raises:
        ConfigError: Redis is asked for without a secret that machines could share.
        OptionalDependencyError: Redis is asked for, and its library is not installed.
    """
    if redis_url is not None and secret is None:
        raise ConfigError(
            "An address of Redis is set, but no CLAUDE_CACHE_SECRET: without the same secret no machine can read what "
            "another one stored. Set one, or CLAUDE_FORCE_REDIS_SHARES=limits, or unset CLAUDE_FORCE_REDIS_URL."
        )
    from claude_force.cache.store import open_store

    return open_store(
        folder,
        lifetimes=lifetimes_of(settings),
        max_bytes=int(settings.max_size_mb * 1_048_576),
        pinned_share=settings.max_pinned_share,
        secret=secret,
        use_integrity_check=settings.use_integrity_check,
        redis_url=redis_url,
    )


def build_cached(
    inner: ModelClient,
    settings: CacheSettings,
    *,
    origin: str,
    folder: Path,
    secret: str | None,
    redis_url: str | None = None,
    semantic: bool = False,
    embedder: Embedder | None = None,
) -> ModelClient:
    """``inner`` behind the response cache in ``folder``, and in Redis where ``redis_url`` names a server.

    With ``semantic`` a miss is answered by similarity, where the call allows it; ``embedder`` goes before our own.
    """
    from claude_force.cache.machine_lock import MachineLock
    from claude_force.cache.policy import shares_failure
    from claude_force.cache.single_flight import SingleFlight
    from claude_force.provider.cached import CachedClient

    store = build_store(settings, folder=folder, secret=secret, redis_url=redis_url)
    if semantic:
        from claude_force.assembly.semantic import build_semantic

        inner = build_semantic(
            inner,
            settings,
            store=store,
            origin=origin,
            folder=folder,
            secret=secret,
            embedder=embedder,
        )
    leases = None
    if redis_url is not None:
        from claude_force.cache.redis_leases import RedisLeases
        from claude_force.storage.redis_link import RedisLink

        # A connection of its own: leases are given back after the store is closed.
        leases = RedisLeases(RedisLink(redis_url))
    return CachedClient(
        inner,
        store=store,
        flights=SingleFlight(
            machine_lock=MachineLock(folder / "flights"),
            leases=leases,
            shares_failure=shares_failure,
        ),
        origin=origin,
        exclude_agents=settings.exclude_agents,
    )
