"""Equal requests at the same time make one call: in a process over all its loops, and over processes."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from claude_force.cache.fingerprint import CacheKey
    from claude_force.cache.machine_lock import MachineLock
    from claude_force.cache.redis_leases import RedisLeases

T = TypeVar("T")

# How soon a process notices that another one's flight has ended.
_FIRST_POLL_SECONDS: Final = 0.005
_LONGEST_POLL_SECONDS: Final = 0.05
# The same for a machine, where asking is a round trip.
_LONGEST_REMOTE_POLL_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Landing(Generic[T]):
    """How a flight ended for one caller."""

    value: T
    # This caller's own call brought it; otherwise it was found, or another's call brought it.
    led: bool
    # Another caller of this process brought it, or found it, while this one waited.
    waited: bool = False


@dataclass(frozen=True, slots=True)
class _Lead:
    """Word to a waiter that it is the leader now."""


@dataclass(slots=True, eq=False)
class _Waiter(Generic[T]):
    loop: asyncio.AbstractEventLoop
    # A value or an error ends the flight; `_Lead` passes it on.
    told: asyncio.Future[T | _Lead]


@dataclass(slots=True)
class _Flight(Generic[T]):
    waiters: deque[_Waiter[T]] = field(default_factory=deque)


class SingleFlight(Generic[T]):
    """One call for equal keys. ``run`` may be called from any thread and event loop, at the same time.

    The first caller leads: it looks whether the value is there by now (``find``), and makes the call (``fetch``) in
    its own task if not. The others wait. A waiter that is cancelled leaves. A leader that is cancelled, or fails in
    a way that is its own (``shares_failure`` says False), hands over to the next waiter, one at a time; a failure
    that is shared ends the flight for all that wait, and the next ``run`` starts anew.

    With ``machine_lock`` the same holds over processes: a leader keeps the lock of the key until what it fetched
    can be found by the others, and a killed leader's lock is free at once. Waiting for it is a system call every
    5 to 50 ms; after ``patience_seconds`` the call is made without the lock, since a second call is better than
    none. With ``leases`` it holds over machines too, asked for once the machine's own lock is held.
    """

    def __init__(
        self,
        *,
        machine_lock: MachineLock | None = None,
        leases: RedisLeases | None = None,
        shares_failure: Callable[[BaseException], bool] = lambda _: False,
        patience_seconds: float = 600.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._machine_lock = machine_lock
        self._leases = leases
        self._shares_failure = shares_failure
        self._patience_seconds = patience_seconds
        self._monotonic = monotonic
        self._sleep = sleep
        self._flights: dict[CacheKey, _Flight[T]] = {}
        # Guards flights and their waiters; never held over an await.
        self._lock = Lock()
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _start_over(reference))

    async def run(
        self,
        key: CacheKey,
        *,
        find: Callable[[], Awaitable[T | None]],
        fetch: Callable[[], Awaitable[T]],
        keep: Callable[[T, Callable[[], None]], None],
    ) -> Landing[T]:
        """The value of ``key``, found, fetched, or brought by another caller.

        ``keep(value, settled)`` is called by the leader with what it fetched. It stores the value, or not, and sees
        to it that ``settled`` is called, on any thread, when other processes can find the value, or never will.

        Raises:
            Exception: what ``find``, ``fetch`` or ``keep`` raised, here or at the leader whose failure is shared.
        """
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                self._flights[key] = flight = _Flight()
                waiter = None
            else:
                loop = asyncio.get_running_loop()
                waiter = _Waiter[T](loop, loop.create_future())
                flight.waiters.append(waiter)
        if waiter is not None:
            told = await self._wait(key, flight, waiter)
            if not isinstance(told, _Lead):
                return Landing(told, led=False, waited=True)
        return await self._lead(key, flight, find, fetch, keep)

    def waiting(self, key: CacheKey) -> int:
        """How many callers of this process wait for ``key`` beside its leader."""
        with self._lock:
            flight = self._flights.get(key)
            return 0 if flight is None else len(flight.waiters)

    def close(self) -> None:
        """Give the locks between processes back."""
        if self._machine_lock is not None:
            self._machine_lock.close()

    async def aclose(self) -> None:
        """Give the locks between processes, and the leases between machines, back."""
        self.close()
        if self._leases is not None:
            await asyncio.to_thread(self._leases.close)

    def start_over_after_fork(self) -> None:
        """Let go of the flights and locks of the parent process."""
        self._flights = {}
        self._lock = Lock()
        # The leases are the parent's, and so is the thread that renews them.
        self._leases = None
        self.close()

    async def _wait(self, key: CacheKey, flight: _Flight[T], waiter: _Waiter[T]) -> T | _Lead:
        try:
            return await waiter.told
        except asyncio.CancelledError:
            with self._lock:
                still_waiting = waiter in flight.waiters
                if still_waiting:
                    flight.waiters.remove(waiter)
            if not still_waiting:
                # Told something in the same moment. If it was to lead, another has to; if not, nobody is left.
                self._hand_over(key, flight)
            raise

    async def _lead(
        self,
        key: CacheKey,
        flight: _Flight[T],
        find: Callable[[], Awaitable[T | None]],
        fetch: Callable[[], Awaitable[T]],
        keep: Callable[[T, Callable[[], None]], None],
    ) -> Landing[T]:
        try:
            landing = await self._alone(key, find, fetch, keep)
        except BaseException as error:
            if isinstance(error, Exception) and self._shares_failure(error):
                self._end(key, flight, partial(_fail, error=error))
            else:
                self._hand_over(key, flight)
            raise
        self._end(key, flight, partial(_bring, value=landing.value))
        return landing

    async def _alone(
        self,
        key: CacheKey,
        find: Callable[[], Awaitable[T | None]],
        fetch: Callable[[], Awaitable[T]],
        keep: Callable[[T, Callable[[], None]], None],
    ) -> Landing[T]:
        """Find or fetch while no other process does. The lock goes with the value: ``keep`` passes it on."""
        release: Callable[[], None] = partial(self._release, key)
        if not await self._acquire(key):
            # Not held, and releasing it would free the lock of another flight of this object.
            release = _nothing
        kept = False
        try:
            found = await find()
            if found is not None:
                return Landing(found, led=False)
            value = await fetch()
            keep(value, release)
            kept = True
        finally:
            if not kept:
                release()
        return Landing(value, led=True)

    async def _acquire(self, key: CacheKey) -> bool:
        deadline = self._monotonic() + self._patience_seconds
        if not await self._acquire_here(key, deadline):
            return False
        if self._leases is None:
            return True
        try:
            return await self._acquire_everywhere(key, self._leases, deadline)
        except BaseException:
            self._release(key)
            raise

    async def _acquire_here(self, key: CacheKey, deadline: float) -> bool:
        if self._machine_lock is None:
            return True
        if not self._machine_lock.ready:
            await asyncio.to_thread(self._machine_lock.prepare)
        pause_seconds = _FIRST_POLL_SECONDS
        while not self._machine_lock.acquire(key):
            if self._monotonic() >= deadline:
                return False
            await self._sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 1.5, _LONGEST_POLL_SECONDS)
        return True

    async def _acquire_everywhere(
        self, key: CacheKey, leases: RedisLeases, deadline: float
    ) -> Literal[True]:
        """Take the lease; True without it when patience ends, for the machine's lock is held all the same."""
        pause_seconds = _FIRST_POLL_SECONDS
        while True:
            asked = asyncio.get_running_loop().run_in_executor(None, leases.acquire, key)
            try:
                taken = await asyncio.shield(asked)
            except asyncio.CancelledError:
                # The thread goes on; what it still gets has to be given back.
                asked.add_done_callback(lambda _: leases.release(key))
                raise
            if taken or self._monotonic() >= deadline:
                return True
            await self._sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 1.5, _LONGEST_REMOTE_POLL_SECONDS)

    def _release(self, key: CacheKey) -> None:
        if self._leases is not None:
            self._leases.release(key)
        if self._machine_lock is not None:
            self._machine_lock.release(key)

    def _end(
        self, key: CacheKey, flight: _Flight[T], tell: Callable[[asyncio.Future[T | _Lead]], None]
    ) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
            waiters = list(flight.waiters)
            flight.waiters.clear()
        for waiter in waiters:
            _tell(waiter, tell)

    def _hand_over(self, key: CacheKey, flight: _Flight[T]) -> None:
        while True:
            with self._lock:
                if not flight.waiters:
                    if self._flights.get(key) is flight:
                        del self._flights[key]
                    return
                heir = flight.waiters.popleft()
            if _tell(heir, partial(_bring, value=_Lead())):
                return


def _tell(waiter: _Waiter[T], tell: Callable[[asyncio.Future[T | _Lead]], None]) -> bool:
    """Tell a waiter on its own loop; False where that loop is closed."""

    def deliver() -> None:
        if not waiter.told.done():
            tell(waiter.told)

    try:
        waiter.loop.call_soon_threadsafe(deliver)
    except RuntimeError:
        return False
    return True


def _bring(told: asyncio.Future[T | _Lead], *, value: T | _Lead) -> None:
    told.set_result(value)


def _fail(told: asyncio.Future[T | _Lead], *, error: Exception) -> None:
    told.set_exception(error)


def _nothing() -> None:
    """There is no lock to give back."""


def _start_over(reference: weakref.ref[SingleFlight[T]]) -> None:
    flight = reference()
    if flight is not None:
        flight.start_over_after_fork()
