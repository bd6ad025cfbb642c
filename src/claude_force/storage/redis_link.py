"""The connection to a Redis server that may be slow or gone: then it costs hits, and nothing else."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from claude_force.domain.errors import ConfigError, OptionalDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# The library types its commands for its blocking and its asynchronous client at once, which says nothing.
RedisClient: TypeAlias = Any

_LOG = logging.getLogger(__name__)

# A server that answers slowly so many times in a row is left alone like one that is gone.
_SLOW_IN_A_ROW: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a server may take, and how long it is left alone when it fails. The defaults are those of a cache."""

    # What takes longer is a failure; a URL may say otherwise (`?socket_timeout=1`).
    timeout_seconds: float = 0.25
    # An answer that takes longer is slow: not worth its wait, where the server only saves work.
    slow_seconds: float = 0.05
    # How long it is left alone, doubled each time it fails again.
    first_pause_seconds: float = 2.0
    longest_pause_seconds: float = 60.0
    # What becomes of the work meanwhile, for the log.
    meanwhile: str = "it is left alone for now"


CACHE_PATIENCE: Final = Patience()


class RedisLink:
    """Does work on a Redis server while the server is well. Safe in any thread; nothing is dialled before it is used.

    After a failure, or several slow answers in a row, the server is left alone for a while, then one call tries
    again; each further failure doubles the pause. The first failure of a row is logged once.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with user and password where the server wants them.
        patience: how long it may take, and how long it is left alone.
        monotonic: seconds, for pauses.

    Raises:
        ConfigError: the URL has another form.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: Patience = CACHE_PATIENCE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigError(
                "The address of Redis has to begin with redis://, rediss:// or unix://."
            )
        self._url = url
        self._patience = patience
        self._monotonic = monotonic
        # Guards the making of the client and the few fields of the circuit; never held while the server is asked.
        self._lock = Lock()
        self._client: RedisClient = None
        self._failure_types: tuple[type[Exception], ...] = ()
        self._closed = False
        self._open_until = 0.0
        self._pause_seconds = 0.0
        self._slow = 0
        self.failures = 0

    def __repr__(self) -> str:
        return "RedisLink(<address>)"

    def check(self) -> None:
        """Pass when the library is there.

        Raises:
            OptionalDependencyError: it is not installed.
        """
        import importlib.util  # noqa: PLC0415 - only where Redis is asked for

        if importlib.util.find_spec("redis") is None:
            raise OptionalDependencyError(
                "An address of Redis is set, but the package redis is not installed. "
                "Install it with: pip install 'claude-force[redis]'"
            )

    def call(self, work: Callable[[RedisClient], T]) -> T | None:
        """What ``work`` makes of the client; None when the server is left alone or fails. Waits for the network."""
        began = self._monotonic()
        if not self._may_try(began):
            return None
        try:
            result = work(self._client or self._connect())
        except self._known_failures() as error:
            self._failed(error)
            return None
        self._answered(self._monotonic() - began)
        return result

    def close(self) -> None:
        """Close the connections; afterwards every call is None."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _may_try(self, now: float) -> bool:
        with self._lock:
            if self._closed or now < self._open_until:
                return False
            if self._pause_seconds:
                # One caller probes; until it knows, the others stay away.
                self._open_until = now + self._pause_seconds
            return True

    def _connect(self) -> RedisClient:
        from redis import Redis  # noqa: PLC0415 - a quarter of a second, and only where it is used
        from redis.backoff import NoBackoff  # noqa: PLC0415 - as above
        from redis.retry import Retry  # noqa: PLC0415 - as above

        with self._lock:
            if self._client is None:
                options = {
                    name: self._patience.timeout_seconds
                    for name in ("socket_timeout", "socket_connect_timeout")
                    if f"{name}=" not in self._url
                }
                self._client = Redis.from_url(self._url, retry=Retry(NoBackoff(), 0), **options)
            return self._client

    def _known_failures(self) -> tuple[type[Exception], ...]:
        if not self._failure_types:
            from redis.exceptions import RedisError  # noqa: PLC0415 - as in `_connect`

            self._failure_types = (RedisError, OSError, ValueError)
        return self._failure_types

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self.failures += 1
            first = not self._pause_seconds
            self._pause()
        if first:
            # The name only: a message of the library may show the address, and that may hold a password.
            _LOG.warning("redis failed (%s); %s", type(error).__name__, self._patience.meanwhile)

    def _answered(self, seconds: float) -> None:
        with self._lock:
            self._slow = self._slow + 1 if seconds > self._patience.slow_seconds else 0
            if self._slow >= _SLOW_IN_A_ROW:
                self._slow = 0
                self._pause()
            else:
                self._pause_seconds = self._open_until = 0.0

    def _pause(self) -> None:
        self._pause_seconds = min(
            max(2 * self._pause_seconds, self._patience.first_pause_seconds),
            self._patience.longest_pause_seconds,
        )
        self._open_until = self._monotonic() + self._pause_seconds
