"""Leases by key between machines, kept in a Redis server and renewed while they are held."""

from __future__ import annotations

import os
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from claude_force.cache.fingerprint import CacheKey
    from claude_force.storage.redis_link import RedisClient, RedisLink

_PREFIX: Final = "claude-force:flight:1:"
# A machine that died lets go after this; one that lives renews long before.
_LEASE_SECONDS: Final = 15.0
_RENEW_SECONDS: Final = 4.0
# Deleted only by its holder: a lease that ran out may belong to another by now.
_RELEASE: Final = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
)
_RENEW: Final = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then "
    "return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
)


class RedisLeases:
    """Exclusive leases by key for all machines on one server. Safe in any thread.

    ``acquire`` waits for the network and belongs on a thread; ``release`` never waits. A lease is renewed every 4 s
    and runs out 15 s after its holder died. Where the server is slow or gone every lease is granted: equal requests
    of two machines may then both be sent, which costs money and nothing else.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        # What every lease of this object is signed with.
        self._token = os.urandom(16).hex()
        # Guards the two sets and wakes the thread that renews and releases.
        self._changed = Condition()
        self._held: set[CacheKey] = set()
        self._to_release: set[CacheKey] = set()
        self._thread: Thread | None = None
        self._closed = False

    def acquire(self, key: CacheKey) -> bool:
        """Take the lease of ``key``; False where another holds it. Waits for the network."""
        taken = self._link.call(
            lambda client: bool(
                client.set(_PREFIX + key, self._token, nx=True, px=int(_LEASE_SECONDS * 1000))
            )
        )
        if taken is None:
            return True
        if taken:
            with self._changed:
                self._held.add(key)
                self._start()
        return taken

    def release(self, key: CacheKey) -> None:
        """Give the lease of ``key`` back soon."""
        with self._changed:
            if key in self._held:
                self._held.discard(key)
                self._to_release.add(key)
                self._start()
                self._changed.notify_all()

    def close(self) -> None:
        """Give every lease back; waits for it."""
        with self._changed:
            self._closed = True
            self._to_release |= self._held
            self._held.clear()
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = Thread(target=self._run, name="claude-force-leases", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._to_release and not self._closed:
                    self._changed.wait(_RENEW_SECONDS)
                released, held = tuple(self._to_release), tuple(self._held)
                self._to_release.clear()
                if not released and not held:
                    # No work: the next lease starts a thread of its own.
                    self._thread = None
                    return
            self._link.call(lambda client: self._tell(client, released, held))  # noqa: B023 - done before the next turn

    def _tell(
        self, client: RedisClient, released: tuple[CacheKey, ...], held: tuple[CacheKey, ...]
    ) -> bool:
        with client.pipeline(transaction=False) as pipeline:
            for key in released:
                pipeline.eval(_RELEASE, 1, _PREFIX + key, self._token)
            for key in held:
                pipeline.eval(_RENEW, 1, _PREFIX + key, self._token, int(_LEASE_SECONDS * 1000))
            pipeline.execute()
        return True
