"""One governor over the processes of several machines: visits, each one script in a Redis server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import msgspec

from claude_force.resilience import redis_place
from claude_force.resilience.rate_bucket import WINDOW_SECONDS
from claude_force.resilience.shared_database import SILENT_SECONDS
from claude_force.resilience.sharing import ClassStanding, Share, Standing, UserLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.resilience.redis_place import RedisPlace
    from claude_force.resilience.sharing import Ask, ClassReport, Report
    from claude_force.storage.redis_link import RedisClient

_KEYS: Final = (
    redis_place.ID,
    redis_place.SETTINGS,
    redis_place.LEASES,
    redis_place.DEMANDS,
    redis_place.HOLDINGS,
    redis_place.POOLS,
    redis_place.PAUSES,
    redis_place.ERRORS,
)


class _Share(msgspec.Struct):
    held: float
    elsewhere: float
    corrected: float
    limit: float | None = None


class _Class(msgspec.Struct):
    shares: dict[str, _Share]
    blocked_seconds: float
    wait_seconds: float


class _Limits(msgspec.Struct):
    paused: bool
    max_concurrent: int | None = None
    requests_per_minute: int | None = None


class _Reply(msgspec.Struct):
    id: str
    limits: _Limits
    classes: dict[str, _Class]
    rate_share: float
    machines: int
    places: int | None = None


class RedisLimits:
    """Limits that live in a Redis server. Every method may wait for the network, so none is called on an event loop.

    A process that is silent for 5 s gives its share back. A server that was emptied is told again what the processes
    know: what the user has set, and the limits of the API, which then fill up from nothing.

    Args:
        place: where the machines meet.
        window_seconds: in which a bucket of the API refills.
    """

    def __init__(self, place: RedisPlace, *, window_seconds: float = WINDOW_SECONDS) -> None:
        self._place = place
        self._window_seconds = window_seconds
        # Which life of the server the figures of this process are from; "" when they are from elsewhere.
        self._id = ""
        # What the last visit told: how many machines there are, what the user has set, and the limits by class and
        # kind. None before the first visit.
        self.machines = 1
        self.user_limits: UserLimits | None = None
        self.limits: dict[str, dict[str, float]] = {}

    def exchange(self, report: Report) -> Standing | None:
        """See `LimitsExchange.exchange`; None when the server is slow or gone."""
        standing = self._place.call(lambda client: self._visit(client, report))
        if standing is None:
            # What is held now will be from elsewhere when the server is back.
            self._id = ""
        return standing

    def close(self) -> None:
        """Close the connections."""
        self._place.close()

    def _visit(self, client: RedisClient, report: Report) -> Standing:
        told = msgspec.json.encode(self._told(report)).decode()
        raw = self._place.run(client, "redis_visit.lua", _KEYS, told)
        reply = msgspec.json.decode(raw, type=_Reply)
        self._id = reply.id
        standing = _standing(reply)
        self.machines, self.user_limits = reply.machines, standing.limits
        for key, given in standing.classes.items():
            self.limits[key] = {
                kind: share.limit for kind, share in given.shares.items() if share.limit is not None
            }
        return standing

    def _told(self, report: Report) -> dict[str, Any]:
        place = self._place
        told: dict[str, Any] = {
            "lease_id": place.lease_id,
            "pid": os.getpid(),
            "host": place.host,
            "machine": place.machine,
            "id": self._id,
            "new_id": os.urandom(8).hex(),
            "silent_seconds": SILENT_SECONDS,
            "window_seconds": self._window_seconds,
            "in_flight": report.in_flight,
            "waiting": report.waiting,
            "classes": {
                key: _class_told(told_of, self.limits.get(key, {}))
                for key, told_of in report.classes.items()
            },
            "errors": [
                {"class_key": key, "kind": kind, "message": message}
                for key, kind, message in report.errors
            ],
        }
        if self.user_limits is not None and self.user_limits != UserLimits():
            told["settings"] = settings_of(self.user_limits)
        if place.server_clock is not None:
            told["now"] = place.server_clock()
        return told


def settings_of(limits: UserLimits) -> dict[str, int]:
    """What the user has set, as the server keeps it: 0 for no limit."""
    return {
        "max_concurrent": limits.max_concurrent or 0,
        "requests_per_minute": limits.requests_per_minute or 0,
        "paused": int(limits.paused),
    }


def _class_told(told: ClassReport, known_limits: Mapping[str, float]) -> dict[str, Any]:
    return {
        "asks": {kind: _ask_told(ask) for kind, ask in told.asks.items()},
        "hints": known_limits,
        "demand": told.demand,
        "blocked_seconds": told.blocked_seconds,
    }


def _ask_told(ask: Ask) -> dict[str, float | str]:
    """An ask without what is None: JSON's null is a value to a script."""
    told: dict[str, float | str | None] = {
        "held": ask.held,
        "claim": ask.claim,
        "wanted": ask.wanted,
        "needed": ask.needed,
        "limit": ask.limit,
        "error": ask.error,
        "corrected_then": ask.corrected_then,
        "source": ask.source,
    }
    return {name: value for name, value in told.items() if value is not None}


def _standing(reply: _Reply) -> Standing:
    return Standing(
        limits=UserLimits(
            max_concurrent=reply.limits.max_concurrent,
            requests_per_minute=reply.limits.requests_per_minute,
            paused=reply.limits.paused,
        ),
        places=reply.places,
        rate_share=reply.rate_share,
        classes={
            key: ClassStanding(
                shares={
                    kind: Share(
                        limit=share.limit,
                        held=share.held,
                        elsewhere=share.elsewhere,
                        corrected=share.corrected,
                        source=reply.id,
                    )
                    for kind, share in given.shares.items()
                },
                blocked_seconds=given.blocked_seconds,
                wait_seconds=given.wait_seconds,
            )
            for key, given in reply.classes.items()
        },
    )
