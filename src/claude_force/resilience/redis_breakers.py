"""Breaker states that the processes of several machines see, in a Redis server."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from claude_force.resilience import redis_place
from claude_force.resilience.breaker import CLOSED, BreakerState
from claude_force.resilience.shared_database import SILENT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from claude_force.resilience.redis_place import RedisPlace
    from claude_force.storage.redis_link import RedisClient

_READ_KEYS: Final = (redis_place.ID, redis_place.BREAKERS, redis_place.LEASES)
# Somebody who changes a state between our look and our change does so for a reason; nobody does it for ever.
_MOST_TRIES: Final = 20
# A probe so young is alive, whether its process has visited the limits yet or not.
_YOUNG_SECONDS: Final = 10.0


class _Stored(msgspec.Struct, omit_defaults=True):
    failures: int
    opened_at: float | None = None
    probed_at: float | None = None
    probe_by: str | None = None
    errors: tuple[str, ...] = ()


class RedisBreakers:
    """States by key. Every method may wait for the network.

    A state is replaced only if nobody has changed it since it was read, so there is one probe over all machines. Its
    place is given up when its process no longer visits the limits (`RedisLimits`). States are kept in times of the
    server and seen in those of this machine.

    Args:
        place: where the machines meet.
        wall_clock: seconds since the epoch, as whoever changes a state understands them.
    """

    def __init__(self, place: RedisPlace, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._place = place
        self._wall_clock = wall_clock
        # What was last seen, and in which life of the server.
        self._known: dict[str, tuple[str, BreakerState]] = {}
        # Probes of this process that are under way, by breaker.
        self._probes: dict[str, str] = {}

    def change(
        self, key: str, change: Callable[[BreakerState], BreakerState]
    ) -> BreakerState | None:
        """See `BreakerStates.change`; None when the server is slow or gone."""
        after = self._place.call(lambda client: self._change(client, key, change))
        if after is None:
            # Whether this process has a probe is told elsewhere now.
            self._probes.pop(key, None)
        return after

    def take_known(self, key: str) -> BreakerState:
        """The last state that was seen, without anybody's probe; forgotten then."""
        _, state = self._known.pop(key, ("", CLOSED))
        return replace(state, probe_by=None)

    def _change(
        self, client: RedisClient, key: str, change: Callable[[BreakerState], BreakerState]
    ) -> BreakerState:
        for _ in range(_MOST_TRIES):
            life, offset, seen, before = self._read(client, key)
            after = change(before)
            # One that the server has lost is written again.
            kept = after == before and (seen != "" or before == CLOSED)
            if kept or self._swap(client, key, seen, self._text(after, offset)):
                self._known[key] = (life, after)
                if after.probe_by is None:
                    self._probes.pop(key, None)
                elif after.probe_by != before.probe_by:
                    self._probes[key] = after.probe_by
                return after
        message = f"the breaker of {key!r} was changed by others {_MOST_TRIES} times in a row"
        raise ValueError(message)

    def _read(self, client: RedisClient, key: str) -> tuple[str, float, str, BreakerState]:
        """The life of the server, how far its clock is behind ours, what is stored, and what that means."""
        reply = self._place.run(client, "redis_breaker.lua", _READ_KEYS, key, os.urandom(8).hex())
        life, now_text, seen, owner_seen_at = (part.decode() for part in reply)
        now = float(now_text)
        offset = self._wall_clock() - now
        if not seen:
            known_life, known = self._known.get(key, (life, CLOSED))
            # A server that was emptied is told again what was open.
            return (
                life,
                offset,
                seen,
                CLOSED if known_life == life else replace(known, probe_by=None),
            )
        stored = msgspec.json.decode(seen, type=_Stored)
        alive = _is_alive(float(owner_seen_at), stored, now)
        return life, offset, seen, self._state(key, stored, offset, owner_alive=alive)

    def _state(
        self, key: str, stored: _Stored, offset: float, *, owner_alive: bool
    ) -> BreakerState:
        owner, _, prober = (stored.probe_by or "").partition("/")
        probe_by: str | None = None
        if owner == self._place.lease_id:
            # A probe of ours that has ended while the server was gone is over.
            probe_by = prober if self._probes.get(key) == prober else None
        elif owner and owner_alive:
            probe_by = stored.probe_by
        return BreakerState(
            failures=stored.failures,
            opened_at=None if stored.opened_at is None else stored.opened_at + offset,
            probed_at=None if stored.probed_at is None else stored.probed_at + offset,
            probe_by=probe_by,
            errors=stored.errors,
        )

    def _text(self, state: BreakerState, offset: float) -> str:
        """A state as it is stored; "" for one that is at rest."""
        if state == CLOSED:
            return ""
        probe_by = state.probe_by
        if probe_by is not None and "/" not in probe_by:
            probe_by = f"{self._place.lease_id}/{probe_by}"
        stored = _Stored(
            failures=state.failures,
            opened_at=None if state.opened_at is None else state.opened_at - offset,
            probed_at=None if state.probed_at is None else state.probed_at - offset,
            probe_by=probe_by,
            errors=state.errors,
        )
        return msgspec.json.encode(stored).decode()

    def _swap(self, client: RedisClient, key: str, seen: str, text: str) -> bool:
        keys = (redis_place.BREAKERS,)
        return bool(self._place.run(client, "redis_swap.lua", keys, key, seen, text))


def read_breakers(
    stored: Mapping[str, str], *, seen_at: Mapping[str, float], now: float
) -> dict[str, BreakerState]:
    """Every breaker that is not at rest, in times of the server.

    Args:
        stored: as the server has them.
        seen_at: when each process was last seen, by lease.
        now: the time of the server.
    """
    found = {}
    for key, text in stored.items():
        one = msgspec.json.decode(text, type=_Stored)
        owner = (one.probe_by or "").partition("/")[0]
        alive = _is_alive(seen_at.get(owner, 0.0), one, now)
        found[key] = BreakerState(
            failures=one.failures,
            opened_at=one.opened_at,
            probed_at=one.probed_at,
            probe_by=one.probe_by if alive else None,
            errors=one.errors,
        )
    return found


def _is_alive(owner_seen_at: float, stored: _Stored, now: float) -> bool:
    """Whether who has the place of a probe still lives."""
    return now - owner_seen_at < SILENT_SECONDS or now - (stored.probed_at or 0.0) < _YOUNG_SECONDS
