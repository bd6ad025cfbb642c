"""Everything that an orchestrator runs on, made when it is first needed."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from claude_force.assembly.layers import (
    Borrowed,
    build_cached,
    build_chain,
    build_spending,
    build_store,
    build_transport,
)
from claude_force.assembly.lookup import (
    api_key_of,
    base_url_of,
    build_library,
    build_registry,
    cache_folder,
    find_settings,
    limits_redis_url_of,
    redis_url_of,
)
from claude_force.assembly.memories import Memories
from claude_force.assembly.metering import open_recorder
from claude_force.assembly.options import check_number
from claude_force.assembly.semantic import SemanticAgents
from claude_force.config.environment import read_environment
from claude_force.domain.errors import ClosedError, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.agents.registry import AgentRegistry
    from claude_force.assembly.layers import CachePlace
    from claude_force.assembly.options import RuntimeOptions
    from claude_force.cache.store import CacheStore
    from claude_force.config.settings import BudgetSettings, CacheSettings, Settings
    from claude_force.metrics.recorder import Recorder
    from claude_force.pricing.spending import Spending
    from claude_force.provider.batches_api import BatchesApi
    from claude_force.provider.client import ModelClient
    from claude_force.workflows.library import WorkflowLibrary


class Runtime:
    """Settings, agents and the chain of layers, each made when it is first needed and then kept.

    Args:
        options: what the caller decides.
        client: answers the requests instead of a connection to the API; it belongs to the caller and stays open.
    """

    def __init__(self, options: RuntimeOptions, *, client: ModelClient | None = None) -> None:
        self._options = options
        self._given_client = client
        self._environment = read_environment()
        self._timeout_seconds = options.timeout_seconds
        self._settings: Settings | None = None
        self._registry: AgentRegistry | None = None
        self._chain: ModelClient | None = None
        self._spending: Spending | None = None
        # None until it is known whether there is to be one.
        self._recorders: tuple[Recorder, ...] | None = None
        self._semantic: SemanticAgents | None = None
        # What agents remember.
        self.memories = Memories(self, self._environment)
        self._closed = False
        # Threads may make the first call at the same time: a second chain would have limits of its own.
        self._building = Lock()

    @property
    def settings(self) -> Settings:
        """What ``claude.json`` says, or the defaults."""
        if self._settings is None:
            self._settings = find_settings(self._options.config_path, self._environment)
        return self._settings

    @property
    def registry(self) -> AgentRegistry:
        """The agents of every scope."""
        if self._registry is None:
            self._registry = build_registry(
                self.settings, self._environment, agents_dir=self._options.agents_dir
            )
        return self._registry

    @property
    def semantic(self) -> SemanticAgents:
        """The agents that the semantic cache is switched on for.

        Raises:
            ConfigError: a threshold cannot be used.
        """
        if self._semantic is None:
            settings, given = self.settings.cache, self._options.semantic_cache
            self._semantic = SemanticAgents(
                settings.semantic.agents if given is None else given, settings.exclude_agents
            )
        return self._semantic

    @property
    def library(self) -> WorkflowLibrary:
        """The workflows that can be run by name."""
        return build_library(self.settings, self._environment)

    @property
    def max_concurrent(self) -> int:
        """Requests under way at the same time."""
        return self._options.max_concurrent or self.settings.performance.max_concurrent_agents

    @property
    def max_retries(self) -> int:
        """Requests of one call beyond the first."""
        given = self._options.max_retries
        return self.settings.performance.max_retries if given is None else given

    @property
    def attempt_timeout_seconds(self) -> float:
        """Deadline of a single attempt; 0 for that of its call."""
        given = self._options.attempt_timeout_seconds
        return self.settings.performance.attempt_timeout_seconds if given is None else given

    @property
    def budgets(self) -> BudgetSettings:
        """What may be spent."""
        budgets, own = self.settings.budgets, self._options.budget_usd
        return budgets if own is None else replace(budgets, per_run_usd=own)

    @property
    def uses_prompt_cache(self) -> bool:
        """Whether the provider's prompt cache is used."""
        given = self._options.prompt_cache
        return self.settings.prompt_cache.enabled if given is None else given

    @property
    def timeout_seconds(self) -> float:
        """Deadline of a call that names none."""
        return self._timeout_seconds or self.settings.performance.timeout_seconds

    @timeout_seconds.setter
    def timeout_seconds(self, value: float) -> None:
        check_number("timeout_seconds", value, minimum=0.001)
        self._timeout_seconds = value

    def client(self) -> ModelClient:
        """The whole chain.

        Raises:
            MissingCredentialsError: there is no key.
            ConfigError: the key or the address cannot be used.
            ClosedError: `aclose` was called.
        """
        chain = self._chain
        if chain is None:
            with self._building:
                if self._closed:
                    raise ClosedError("This orchestrator is closed; make a new one.")
                chain = self._chain = self._chain or self._build()
        return chain

    def recorders(self) -> tuple[Recorder, ...]:
        """What keeps a row of every call: one recorder, or none."""
        recorders = self._recorders
        if recorders is None:
            with self._building:
                if self._recorders is None:
                    self._recorders = self._open_recorders()
                recorders = self._recorders
        return recorders

    @property
    def project_folder(self) -> Path:
        """The project: where its ``.claude`` is, else where its ``claude.json`` is, else the working folder."""
        path = self.settings.path
        if path is None:
            return self._environment.cwd
        return path.parent.parent if path.parent.name == ".claude" else path.parent

    @property
    def state_folder(self) -> Path:
        """Where the processes of a user share limits, breakers, budgets and what is in batches."""
        return self._options.state_dir or self._environment.state_home

    @property
    def limits_redis_url(self) -> str | None:
        """Where the processes of several machines share limits, breakers and the budget of the day; None for nowhere."""
        return limits_redis_url_of(self._options.limits_redis_url, self._environment)

    @property
    def shares_state(self) -> bool:
        """Whether anything is kept in ``state_folder`` unasked: not for a double that says for nobody it speaks."""
        given = self._given_client
        return given is None or hasattr(given, "origin") or self._options.state_dir is not None

    @property
    def asks_api(self) -> bool:
        """Whether calls go to the API itself, and not to a client of the caller's own."""
        return self._given_client is None

    @property
    def origin(self) -> str:
        """The provider, as keys of journals, batches and the response cache name it."""
        return self._origin_of_answers() or base_url_of(self._options.base_url, self._environment)

    @property
    def spending(self) -> Spending | None:
        """What keeps the calls of the chain within their budgets; None where there are none."""
        self.client()
        return self._spending

    def open_batches(self) -> BatchesApi:
        """A connection to the batches of the key; the caller closes it.

        Raises:
            ConfigError: the calls go to a client of the caller's own, which has no batches.
            MissingCredentialsError: there is no key.
        """
        from claude_force.provider.batches_api import BatchesApi  # noqa: PLC0415 - few calls need it

        if self._given_client is not None:
            raise ConfigError("Batches need the API itself; a client of your own has none.")
        return BatchesApi(
            api_key=api_key_of(self._options.api_key, self._environment),
            base_url=base_url_of(self._options.base_url, self._environment),
            proxies=self._environment.proxies,
        )

    def open_answers(self) -> tuple[CacheStore, str] | None:
        """The response cache, and the provider as its keys name it; None where no call would look there.

        Needs no key, and sends nothing. The caller closes the store.
        """
        origin = self._origin_of_answers()
        if not self._caches or origin is None:
            return None
        return build_store(self._cache_settings(), **self._cache_place()), origin

    def _origin_of_answers(self) -> str | None:
        """None for a client that does not say for which provider it speaks."""
        if self._options.cache_origin is not None:
            return self._options.cache_origin
        if self._given_client is not None:
            return getattr(self._given_client, "origin", None)
        from claude_force.provider.http.target import parse_target  # noqa: PLC0415 - few calls need it

        target = parse_target(
            base_url_of(self._options.base_url, self._environment), self._environment.proxies
        )
        return target.origin + target.path

    async def aclose(self) -> None:
        """Close what was made here; a second call does nothing."""
        with self._building:
            self._closed = True
            chain, self._chain = self._chain, None
            recorders, self._recorders = self._recorders or (), ()
        try:
            if chain is not None:
                await chain.aclose()
        finally:
            for recorder in recorders:
                await recorder.aclose()
            await self.memories.aclose()

    def _build(self) -> ModelClient:
        given, options = self._given_client, self._options
        transport = self._own_transport() if given is None else given
        # A client that does not say for which provider it speaks is a double or a stranger: it shares nothing.
        origin: str | None = options.cache_origin or getattr(transport, "origin", None)
        state_folder = None if origin is None else self.state_folder
        self._spending = self._open_spending(state_folder)
        chain = build_chain(
            transport if given is None else Borrowed(given),
            origin=origin or "",
            address=getattr(transport, "origin", None) or origin or "",
            max_concurrent=self.max_concurrent,
            max_retries=self.max_retries,
            timeout_seconds=self.timeout_seconds,
            attempt_timeout_seconds=self.attempt_timeout_seconds,
            budgets=self.budgets,
            state_folder=state_folder,
            redis_url=self.limits_redis_url,
            prompt_cache=replace(self.settings.prompt_cache, enabled=self.uses_prompt_cache),
            spending=self._spending,
        )
        return self._cached(chain, origin)

    def _open_spending(self, state_folder: Path | None) -> Spending | None:
        from claude_force.pricing.catalogue import PriceCatalogue  # noqa: PLC0415 - a plan needs none

        return build_spending(self.budgets, PriceCatalogue(), state_folder, self.limits_redis_url)

    def _open_recorders(self) -> tuple[Recorder, ...]:
        given = self._given_client
        # As for the limits: a double, or a stranger, leaves nothing behind.
        if given is not None and not (self._options.cache_origin or hasattr(given, "origin")):
            return ()
        recorder = open_recorder(self.settings.metrics, self.state_folder)
        return () if recorder is None else (recorder,)

    def _cached(self, chain: ModelClient, origin: str | None) -> ModelClient:
        """The chain behind the response cache, where there is to be one."""
        if not self._caches or origin is None:
            return chain
        return build_cached(
            chain,
            self._cache_settings(),
            origin=origin,
            semantic=bool(self.semantic),
            embedder=self._options.semantic_embedder,
            **self._cache_place(),
        )

    @property
    def _caches(self) -> bool:
        given = self._options.enable_cache
        return self.settings.cache.enabled if given is None else given

    def _cache_settings(self) -> CacheSettings:
        settings, ttl_hours = self.settings.cache, self._options.cache_ttl_hours
        return settings if ttl_hours is None else replace(settings, ttl_hours=ttl_hours)

    def _cache_place(self) -> CachePlace:
        options = self._options
        return {
            "folder": options.cache_dir or cache_folder(self._environment),
            "secret": options.cache_secret or self._environment.cache_secret,
            "redis_url": redis_url_of(options.cache_redis_url, self._environment),
        }

    def _own_transport(self) -> ModelClient:
        return build_transport(
            api_key=api_key_of(self._options.api_key, self._environment),
            base_url=base_url_of(self._options.base_url, self._environment),
            proxies=self._environment.proxies,
        )
