"""The only place where parts are built from settings and wired together.

What a part needs is imported when it is built: a command that lists agents loads no HTTP library.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

from claude_force.config.claude_json import find_config, load_settings
from claude_force.config.environment import DEFAULT_BASE_URL, read_environment
from claude_force.config.settings import Settings
from claude_force.domain.errors import ClosedError, ConfigError, MissingCredentialsError

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.agents.registry import AgentRegistry
    from claude_force.cache.store import CacheStore
    from claude_force.config.environment import Environment
    from claude_force.config.proxies import Proxies
    from claude_force.config.settings import CacheSettings
    from claude_force.provider.client import ModelClient


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
    enable_cache: bool | None = None
    cache_ttl_hours: float | None = None
    cache_dir: Path | None = None
    cache_secret: str | None = field(default=None, repr=False)
    cache_origin: str | None = None

    def __post_init__(self) -> None:
        _check_number("max_concurrent", self.max_concurrent, minimum=1)
        _check_number("max_retries", self.max_retries, minimum=0)
        _check_number("timeout_seconds", self.timeout_seconds, minimum=0.001)
        _check_number("cache_ttl_hours", self.cache_ttl_hours, minimum=0)


class Borrowed:
    """A client that belongs to the caller: closing it does nothing."""

    def __init__(self, client: ModelClient) -> None:
        self.send = client.send

    async def aclose(self) -> None:
        """Leave it open."""


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
    def max_concurrent(self) -> int:
        """Requests under way at the same time."""
        return self._options.max_concurrent or self.settings.performance.max_concurrent_agents

    @property
    def max_retries(self) -> int:
        """Requests of one call beyond the first."""
        given = self._options.max_retries
        return self.settings.performance.max_retries if given is None else given

    @property
    def timeout_seconds(self) -> float:
        """Deadline of a call that names none."""
        return self._timeout_seconds or self.settings.performance.timeout_seconds

    @timeout_seconds.setter
    def timeout_seconds(self, value: float) -> None:
        _check_number("timeout_seconds", value, minimum=0.001)
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

    async def aclose(self) -> None:
        """Close what was made here; a second call does nothing."""
        with self._building:
            self._closed = True
            chain, self._chain = self._chain, None
        if chain is not None:
            await chain.aclose()

    def _build(self) -> ModelClient:
        given = self._given_client
        transport = self._own_transport() if given is None else given
        chain = build_chain(
            transport if given is None else Borrowed(given),
            max_concurrent=self.max_concurrent,
            max_retries=self.max_retries,
            timeout_seconds=self.timeout_seconds,
        )
        return self._cached(chain, self._options.cache_origin or getattr(transport, "origin", None))

    def _cached(self, chain: ModelClient, origin: str | None) -> ModelClient:
        """The chain behind the response cache, where there is to be one."""
        settings, options = self.settings.cache, self._options
        enabled = settings.enabled if options.enable_cache is None else options.enable_cache
        if not enabled or origin is None:
            return chain
        ttl_hours = (
            settings.ttl_hours if options.cache_ttl_hours is None else options.cache_ttl_hours
        )
        return build_cached(
            chain,
            replace(settings, ttl_hours=ttl_hours),
            origin=origin,
            folder=options.cache_dir or cache_folder(self._environment),
            secret=options.cache_secret or self._environment.cache_secret,
        )

    def _own_transport(self) -> ModelClient:
        return build_transport(
            api_key=api_key_of(self._options.api_key, self._environment),
            base_url=base_url_of(self._options.base_url, self._environment),
            proxies=self._environment.proxies,
        )


def find_settings(config_path: Path | None, environment: Environment) -> Settings:
    """The settings of ``config_path``, else of the project around the working folder, else the defaults.

    Raises:
        ConfigError: the file is missing or cannot be used.
    """
    if config_path is not None:
        if not config_path.is_file():
            raise ConfigError(f"There is no configuration file at {str(config_path)!r}.")
        return load_settings(config_path)
    found = find_config(environment.cwd)
    return load_settings(found) if found is not None else Settings()


def build_registry(
    settings: Settings, environment: Environment, *, agents_dir: Path | None = None
) -> AgentRegistry:
    """The registry over every scope that is visible from the working folder."""
    from claude_force.agents.registry import AgentRegistry
    from claude_force.agents.scopes import discover_scopes

    return AgentRegistry(
        discover_scopes(
            environment.cwd,
            environment.home,
            explicit=agents_dir,
            registry=settings.agents,
            registry_folder=settings.path.parent if settings.path else None,
        )
    )


def api_key_of(explicit: str | None, environment: Environment) -> str:
    """The key to use.

    Raises:
        MissingCredentialsError: there is none; the message names both ways on.
    """
    key = explicit or environment.api_key
    if not key:
        raise MissingCredentialsError(
            "There is no API key, so nothing was sent. Two ways on:\n"
            "  export ANTHROPIC_API_KEY=…    to call Claude (ANTHROPIC_AUTH_TOKEN works too)\n"
            "  --simulate                    to try it against the built-in simulator; no model runs"
        )
    return key


def base_url_of(explicit: str | None, environment: Environment) -> str:
    """The address to use: the argument, else ANTHROPIC_BASE_URL, else the API itself."""
    return explicit or environment.base_url or DEFAULT_BASE_URL


def build_transport(*, api_key: str, base_url: str, proxies: Proxies) -> ModelClient:
    """The client that sends each request once, directly to the API."""
    from claude_force.provider.messages_api import MessagesApiClient

    return MessagesApiClient(api_key=api_key, base_url=base_url, proxies=proxies)


def build_chain(
    transport: ModelClient, *, max_concurrent: int, max_retries: int, timeout_seconds: float
) -> ModelClient:
    """Every layer around ``transport``, outermost first: price, then deadline, limit and retries."""
    from claude_force.pricing.catalogue import PriceCatalogue
    from claude_force.provider.metered import MeteredClient
    from claude_force.provider.resilient import ResilientClient
    from claude_force.resilience.limiter import ConcurrencyLimiter
    from claude_force.resilience.retries import RetryPolicy

    resilient = ResilientClient(
        transport,
        limiter=ConcurrencyLimiter(max_concurrent),
        policy=RetryPolicy(max_retries=max_retries),
        timeout_seconds=timeout_seconds,
    )
    return MeteredClient(resilient, catalogue=PriceCatalogue())


def cache_folder(environment: Environment, *, simulated: bool = False) -> Path:
    """Where answers are kept; those of the simulator lie apart, so that they displace no paid one."""
    return environment.cache_home / ("simulated" if simulated else "responses")


def build_store(settings: CacheSettings, *, folder: Path, secret: str | None) -> CacheStore:
    """The store of answers that the settings ask for; nothing is opened before it is used."""
    from claude_force.cache.policy import Lifetimes
    from claude_force.cache.store import open_store

    return open_store(
        folder,
        lifetimes=Lifetimes(
            ttl_seconds=settings.ttl_hours * 3600,
            stale_while_revalidate_seconds=settings.stale_while_revalidate_seconds,
            stale_if_error_seconds=settings.stale_if_error_seconds,
        ),
        max_bytes=int(settings.max_size_mb * 1_048_576),
        secret=secret,
        use_integrity_check=settings.use_integrity_check,
    )


def build_cached(
    inner: ModelClient, settings: CacheSettings, *, origin: str, folder: Path, secret: str | None
) -> ModelClient:
    """``inner`` behind the response cache in ``folder``."""
    from claude_force.cache.machine_lock import MachineLock
    from claude_force.cache.policy import shares_failure
    from claude_force.cache.single_flight import SingleFlight
    from claude_force.provider.cached import CachedClient

    return CachedClient(
        inner,
        store=build_store(settings, folder=folder, secret=secret),
        flights=SingleFlight(
            machine_lock=MachineLock(folder / "flights"), shares_failure=shares_failure
        ),
        origin=origin,
        exclude_agents=settings.exclude_agents,
    )


def _check_number(name: str, value: float | None, *, minimum: float) -> None:
    if value is not None and not value >= minimum:
        raise ConfigError(f"{name} is {value!r}; it has to be {minimum:g} or more.")
