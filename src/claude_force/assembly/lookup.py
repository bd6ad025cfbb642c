"""What arguments, configuration and environment come to: settings, agents, key, address, folders."""
# ruff: noqa: PLC0415 - the registry is imported by what uses it

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.config.claude_json import find_config, load_settings
from claude_force.config.environment import DEFAULT_BASE_URL
from claude_force.config.settings import Settings
from claude_force.domain.errors import ConfigError, MissingCredentialsError

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.agents.registry import AgentRegistry
    from claude_force.cache.policy import Lifetimes
    from claude_force.config.environment import Environment
    from claude_force.config.settings import CacheSettings
    from claude_force.workflows.library import WorkflowLibrary


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


def build_library(settings: Settings, environment: Environment) -> WorkflowLibrary:
    """The workflows of claude.json and of the folder ``workflows`` beside it.

    Without a claude.json it is the nearest ``.claude/workflows`` from the working folder up to the root of its
    repository.
    """
    from claude_force.workflows.library import WorkflowLibrary

    return WorkflowLibrary(
        registered=settings.workflows,
        config_path=settings.path,
        folder=_workflows_folder(environment.cwd)
        if settings.path is None
        else settings.path.parent / "workflows",
        root=environment.cwd,
    )


def _workflows_folder(start: Path) -> Path | None:
    for folder in (start, *start.parents):
        candidate = folder / ".claude" / "workflows"
        if candidate.is_dir():
            return candidate
        if (folder / ".git").exists():
            break
    return None


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


def redis_url_of(explicit: str | None, environment: Environment) -> str | None:
    """The Redis server in which machines share answers: the argument, else that of the environment; "" means none."""
    if explicit is None:
        return environment.redis_url if environment.redis_shares != "limits" else None
    return explicit or None


def limits_redis_url_of(explicit: str | None, environment: Environment) -> str | None:
    """The Redis server in which machines share limits, breakers and the budget of the day; see `redis_url_of`."""
    if explicit is None:
        return environment.redis_url if environment.redis_shares != "answers" else None
    return explicit or None


def cache_folder(environment: Environment, *, simulated: bool = False) -> Path:
    """Where answers are kept; those of the simulator lie apart, so that they displace no paid one."""
    return environment.cache_home / ("simulated" if simulated else "responses")


def lifetimes_of(settings: CacheSettings) -> Lifetimes:
    """How long answers are good."""
    from claude_force.cache.policy import Lifetimes

    return Lifetimes(
        ttl_seconds=settings.ttl_hours * 3600,
        stale_while_revalidate_seconds=settings.stale_while_revalidate_seconds,
        stale_if_error_seconds=settings.stale_if_error_seconds,
    )


def state_folder(environment: Environment, *, simulated: bool = False) -> Path:
    """Where processes share limits and breakers; those of simulated runs lie apart."""
    return environment.state_home / "simulated" if simulated else environment.state_home


def limits_path(state_folder: Path) -> Path:
    """The database in which the processes of a user share limits and breakers."""
    return state_folder / "limits.db"
