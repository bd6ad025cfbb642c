"""Where processes meet: a folder of one machine, and a Redis server of several."""
# ruff: noqa: PLC0415 - each part is imported when it is built: start-up time

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from claude_force.assembly.lookup import limits_path

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.pricing.day_ledger import DayAccounts
    from claude_force.resilience.breaker import BreakerStates
    from claude_force.resilience.sharing import LimitsExchange


def open_limits(
    state_folder: Path, redis_url: str | None = None
) -> tuple[LimitsExchange, BreakerStates]:
    """Where limits are divided and breakers agreed on; nothing is opened before it is used.

    Raises:
        ConfigError: the address of Redis has a form that is not known.
        OptionalDependencyError: Redis is asked for, and its library is not installed.
    """
    from claude_force.resilience.shared_breakers import SharedBreakers
    from claude_force.resilience.shared_database import SharedDatabase
    from claude_force.resilience.shared_limits import SharedLimits

    database = SharedDatabase(limits_path(state_folder))
    limits, breakers = SharedLimits(database), SharedBreakers(database)
    if redis_url is None:
        return limits, breakers
    from claude_force.resilience.redis_breakers import RedisBreakers
    from claude_force.resilience.redis_fallback import MachineBreakers, MachineLimits
    from claude_force.resilience.redis_limits import RedisLimits
    from claude_force.resilience.redis_place import open_place

    host = _host_name()
    place = open_place(redis_url, machine=_machine(host, state_folder), host=host)
    return (
        MachineLimits(RedisLimits(place), limits),
        MachineBreakers(RedisBreakers(place), breakers),
    )


def open_day_accounts(state_folder: Path, redis_url: str | None = None) -> DayAccounts:
    """What keeps the budget of the day; nothing is opened before it is used.

    Raises:
        ConfigError: the address of Redis has a form that is not known.
        OptionalDependencyError: Redis is asked for, and its library is not installed.
    """
    if redis_url is None:
        from claude_force.pricing.day_ledger import DayLedger

        return DayLedger(state_folder / "spending.db")
    from claude_force.pricing.redis_day_ledger import RedisDayLedger

    return RedisDayLedger(redis_url, state_folder / "shared-spending.db")


def _host_name() -> str:
    import socket

    return socket.gethostname()


def _machine(host: str, state_folder: Path) -> str:
    """Tells machines apart: processes that share no folder go on alone when the server is gone."""
    return sha256(f"{host} {state_folder.absolute()}".encode()).hexdigest()[:12]
