"""What a machine does while the Redis server in which machines meet is gone: it goes on with its part."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from claude_force.resilience.breaker import CLOSED
from claude_force.resilience.sharing import UserLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.resilience.breaker import BreakerState
    from claude_force.resilience.redis_breakers import RedisBreakers
    from claude_force.resilience.redis_limits import RedisLimits
    from claude_force.resilience.shared_breakers import SharedBreakers
    from claude_force.resilience.shared_limits import SharedLimits
    from claude_force.resilience.sharing import Ask, ClassReport, Report, Standing


class MachineLimits:
    """The limits of all machines while their server is there, and this machine's part of them while it is not.

    The processes of a machine then meet in its own database. Its part is an equal one: the limits of the API, and
    what the user has set for all of them, divided by the number of machines that were last seen. So all machines
    together keep to the limits without a word between them. What is set for this machine holds too. A process that has never seen the server knows of no other machine and
    takes everything; it corrects itself by the headers of the answers.

    Args:
        redis: where the machines meet.
        own: where the processes of this machine meet.
    """

    def __init__(self, redis: RedisLimits, own: SharedLimits) -> None:
        self._redis = redis
        self._own = own
        self._is_alone = False

    def exchange(self, report: Report) -> Standing:
        """See `LimitsExchange.exchange`.

        Raises:
            StorageError: the server is gone, and this machine's own database cannot be used.
        """
        standing = self._redis.exchange(report)
        if standing is not None:
            self._is_alone = False
            return standing
        redis = self._redis
        parts = redis.machines
        if not self._is_alone:
            self._own.start_over(
                {
                    key: {kind: limit / parts for kind, limit in by_kind.items()}
                    for key, by_kind in redis.limits.items()
                }
            )
            self._is_alone = True
        return self._own.exchange(
            _part_of(report, parts),
            user_limits=_limits_of(redis.user_limits or UserLimits(), parts),
        )

    def close(self) -> None:
        """Close the connections and the database."""
        self._redis.close()
        self._own.close()


class MachineBreakers:
    """The breakers of all machines while their server is there, and this machine's own while it is not.

    What was open stays open, and each machine then sends probes of its own.
    """

    def __init__(self, redis: RedisBreakers, own: SharedBreakers) -> None:
        self._redis = redis
        self._own = own

    def change(self, key: str, change: Callable[[BreakerState], BreakerState]) -> BreakerState:
        """See `BreakerStates.change`.

        Raises:
            StorageError: the server is gone, and this machine's own database cannot be used.
        """
        after = self._redis.change(key, change)
        if after is not None:
            return after
        known = self._redis.take_known(key)
        return self._own.change(
            key, lambda mine: change(known if mine.opened_at is None and known != CLOSED else mine)
        )


def _limits_of(limits: UserLimits, parts: int) -> UserLimits:
    """One machine's part of what the user allows all of them; at least 1, since 0 would be for ever."""
    most, rate = limits.max_concurrent, limits.requests_per_minute
    return UserLimits(
        max_concurrent=most and max(1, most // parts),
        requests_per_minute=rate and max(1, rate // parts),
        paused=limits.paused,
    )


def _part_of(report: Report, parts: int) -> Report:
    """The report as one of several machines: what a response says of the limits is said to all of them."""
    return replace(
        report,
        classes={key: _class_part(told, parts) for key, told in report.classes.items()},
    )


def _class_part(told: ClassReport, parts: int) -> ClassReport:
    return replace(told, asks={kind: _ask_part(ask, parts) for kind, ask in told.asks.items()})


def _ask_part(ask: Ask, parts: int) -> Ask:
    if parts == 1 and not ask.source:
        return ask
    # What is left according to a response is left to all machines, and nobody knows what the others do with it.
    return replace(ask, limit=None if ask.limit is None else ask.limit / parts, error=None)
