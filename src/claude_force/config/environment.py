"""What the process environment says. No other module of the package reads it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from claude_force.config.proxies import Proxies, read_proxies
from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

RedisShares: TypeAlias = Literal["all", "answers", "limits"]

DEFAULT_BASE_URL: Final = "https://api.anthropic.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The variables that the package honours, read once. A variable that is set but empty counts as unset."""

    # ANTHROPIC_API_KEY, else ANTHROPIC_AUTH_TOKEN.
    api_key: str | None = field(default=None, repr=False)
    # ANTHROPIC_BASE_URL, for a gateway or a simulator.
    base_url: str | None = None
    # CLAUDE_CACHE_SECRET signs the entries of the response cache.
    cache_secret: str | None = field(default=None, repr=False)
    # CLAUDE_FORCE_REDIS_URL, a server that machines share. Not in claude.json: a project must not choose who gets
    # the answers of its user.
    redis_url: str | None = field(default=None, repr=False)
    # CLAUDE_FORCE_REDIS_SHARES, what it is for: answers of the cache, limits (with breakers and budgets), or all.
    redis_shares: RedisShares = "all"
    # HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY.
    proxies: Proxies = field(default_factory=Proxies)
    # Where files of the user's own are kept: XDG_CACHE_HOME and XDG_STATE_HOME, or their defaults.
    cache_home: Path
    state_home: Path
    # HOME, where the user's own agents are.
    home: Path
    # The folder that the process works in; projects are looked for from here upwards.
    cwd: Path


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """The environment of this process, or of ``variables`` where given.

    Raises:
        ConfigError: there is no home, or the folder that the process works in was removed.
    """
    values = os.environ if variables is None else variables
    home, cwd = _folders(values)
    return Environment(
        api_key=values.get("ANTHROPIC_API_KEY") or values.get("ANTHROPIC_AUTH_TOKEN") or None,
        base_url=values.get("ANTHROPIC_BASE_URL") or None,
        cache_secret=values.get("CLAUDE_CACHE_SECRET") or None,
        redis_url=values.get("CLAUDE_FORCE_REDIS_URL") or None,
        redis_shares=_redis_shares(values.get("CLAUDE_FORCE_REDIS_SHARES") or "all"),
        proxies=read_proxies(values),
        cache_home=_xdg(values.get("XDG_CACHE_HOME"), home / ".cache"),
        state_home=_xdg(values.get("XDG_STATE_HOME"), home / ".local" / "state"),
        home=home,
        cwd=cwd,
    )


def _redis_shares(value: str) -> RedisShares:
    match value:
        case "all" | "answers" | "limits":
            return value
        case _:
            raise ConfigError(
                f"CLAUDE_FORCE_REDIS_SHARES is {value!r}; it has to be all, answers or limits."
            )


def _folders(values: Mapping[str, str]) -> tuple[Path, Path]:
    try:
        home = Path(values.get("HOME") or Path.home())
    except RuntimeError as error:
        raise ConfigError("There is no home folder; set HOME.") from error
    try:
        return home, Path.cwd()
    except OSError as error:
        raise ConfigError(
            f"The folder you work in cannot be used ({error.strerror}); change into another one."
        ) from error


def _xdg(value: str | None, default: Path) -> Path:
    # The XDG base directory specification: a relative path is to be ignored.
    base = Path(value) if value and Path(value).is_absolute() else default
    return base / "claude-force"
