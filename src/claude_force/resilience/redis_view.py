"""What the processes of several machines share in a Redis server, for commands that show or change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from claude_force.resilience import redis_place
from claude_force.resilience.redis_breakers import read_breakers
from claude_force.resilience.shared_database import SILENT_SECONDS
from claude_force.resilience.shared_view import (
    ErrorSeen,
    LimitSeen,
    ProcessSeen,
    SharedState,
    changes_of,
)
from claude_force.resilience.sharing import UserLimits
from claude_force.storage.errors import StorageError
from claude_force.storage.redis_link import Patience, RedisLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.storage.redis_link import RedisClient

T = TypeVar("T")

_HASHES: Final = (
    redis_place.SETTINGS,
    redis_place.LEASES,
    redis_place.POOLS,
    redis_place.PAUSES,
    redis_place.ERRORS,
    redis_place.BREAKERS,
)
# Somebody waits for it at a terminal.
_PATIENCE: Final = Patience(timeout_seconds=2.0, slow_seconds=float("inf"))


class _Lease(msgspec.Struct):
    pid: int
    host: str
    started_at: float
    seen_at: float
    in_flight: int
    waiting: int


class _Pool(msgspec.Struct):
    level: float
    reported_at: float
    limit: float | None = None


class _Error(msgspec.Struct):
    class_key: str
    kind: str
    message: str
    count: int
    last_at: float


def read_redis_state(url: str) -> SharedState:
    """What is shared at the server, in times of the server. Changes nothing.

    Raises:
        StorageError: the server cannot be reached.
    """
    return _asked(url, _read)


def change_redis_limits(
    url: str,
    *,
    max_concurrent: int | None = None,
    requests_per_minute: int | None = None,
    paused: bool | None = None,
) -> UserLimits:
    """Change what all processes of all machines together may do; see `change_limits`.

    Raises:
        InputError: a negative limit.
        StorageError: the server cannot be reached; nothing was changed.
    """
    changes = changes_of(
        max_concurrent=max_concurrent, requests_per_minute=requests_per_minute, paused=paused
    )

    def change(client: RedisClient) -> UserLimits:
        with client.pipeline(transaction=True) as pipeline:
            if changes:
                pipeline.hset(redis_place.SETTINGS, mapping=changes)
            pipeline.hgetall(redis_place.SETTINGS)
            return _user_limits(_texts(pipeline.execute()[-1]))

    return _asked(url, change)


def _asked(url: str, work: Callable[[RedisClient], T]) -> T:
    link = RedisLink(url, patience=_PATIENCE)
    link.check()
    try:
        found = link.call(work)
    finally:
        link.close()
    if found is None:
        message = (
            "The Redis server in which machines share limits does not answer; nothing was changed. Start it, or unset "
            "CLAUDE_FORCE_REDIS_URL to see and change this machine alone."
        )
        raise StorageError(message)
    return found


def _read(client: RedisClient) -> SharedState:
    with client.pipeline(transaction=True) as pipeline:
        pipeline.time()
        for key in _HASHES:
            pipeline.hgetall(key)
        (seconds, micros), *hashes = pipeline.execute()
    now = seconds + micros / 1e6
    settings, leases, pools, pauses, errors, breakers = (_texts(one) for one in hashes)
    return SharedState(
        user_limits=_user_limits(settings),
        processes=_processes(leases, now),
        limits=_limits(pools),
        blocked_until_epoch_seconds={
            key: float(until) for key, until in pauses.items() if float(until) > now
        },
        errors=_errors(errors),
        breakers=read_breakers(breakers, seen_at=_seen_at(leases), now=now),
        at_epoch_seconds=now,
    )


def _texts(found: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in sorted(found.items())}


def _user_limits(settings: dict[str, str]) -> UserLimits:
    return UserLimits(
        max_concurrent=int(settings.get("max_concurrent", 0)) or None,
        requests_per_minute=int(settings.get("requests_per_minute", 0)) or None,
        paused=settings.get("paused") == "1",
    )


def _seen_at(leases: dict[str, str]) -> dict[str, float]:
    return {
        lease_id: msgspec.json.decode(text, type=_Lease).seen_at
        for lease_id, text in leases.items()
    }


def _processes(leases: dict[str, str], now: float) -> tuple[ProcessSeen, ...]:
    seen = (msgspec.json.decode(text, type=_Lease) for text in leases.values())
    return tuple(
        ProcessSeen(
            pid=one.pid,
            started_at_epoch_seconds=one.started_at,
            seen_at_epoch_seconds=one.seen_at,
            in_flight=one.in_flight,
            waiting=one.waiting,
            host=one.host,
        )
        for one in sorted(seen, key=lambda lease: (lease.host, lease.pid))
        if now - one.seen_at < SILENT_SECONDS
    )


def _limits(pools: dict[str, str]) -> tuple[LimitSeen, ...]:
    found = [
        LimitSeen(
            class_key=class_key,
            kind=kind,
            per_minute=pool.limit,
            free=pool.level,
            reported_at_epoch_seconds=pool.reported_at,
        )
        for class_key, text in pools.items()
        for kind, pool in msgspec.json.decode(text, type=dict[str, _Pool]).items()
        if pool.limit is not None
    ]
    return tuple(sorted(found, key=lambda limit: (limit.class_key, limit.kind)))


def _errors(errors: dict[str, str]) -> tuple[ErrorSeen, ...]:
    seen = (msgspec.json.decode(text, type=_Error) for text in errors.values())
    return tuple(
        ErrorSeen(
            class_key=one.class_key,
            kind=one.kind,
            message=one.message,
            count=one.count,
            last_at_epoch_seconds=one.last_at,
        )
        for one in sorted(seen, key=lambda error: -error.last_at)
    )
