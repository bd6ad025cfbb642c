"""What the processes of a user tell each other of prefixes, off the event loop: a thread reads and writes the disk."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import weakref
from contextlib import suppress
from threading import Event as Signal
from threading import Lock, Thread, current_thread
from typing import TYPE_CHECKING, Final

from claude_force.provider.prompt_cache.history import Record
from claude_force.provider.prompt_cache.outlook import LIFETIME_SECONDS
from claude_force.provider.prompt_cache.sightings import Sighting
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from claude_force.provider.prompt_cache.prefix_store import Row
    from claude_force.provider.prompt_cache.prefixes import PrefixKey

# The longest that a call waits for the disk; reading takes two to three milliseconds.
PATIENCE_SECONDS: Final = 0.01
# What was read longer ago is read again before the next call.
_FRESH_SECONDS: Final = 5.0
# Gathers a burst of calls into one transaction; what a crash may lose.
_LINGER_SECONDS: Final = 0.05
# A thread without work ends, and closes its connection.
_IDLE_SECONDS: Final = 1.0
# A store that cannot be used is left alone for so long.
_LEFT_ALONE_SECONDS: Final = 60.0
# A disk that hangs must not fill the memory; what exceeds this is lost.
_MOST_WAITING: Final = 20_000

_LOG: Final = logging.getLogger(__name__)


class SharedHistory:
    """Prefixes as all processes have seen them. Any thread and event loop may use it.

    A store that is slow, locked, broken or read-only costs no call: this process then knows what it has seen itself,
    and the reason is logged once.

    Args:
        path: of the database; it is made by the first call that could be cached.
        origin: the provider.
        clock: monotonic seconds, of the records.
        wall_clock: epoch seconds, of what processes tell each other.
        patience_seconds: the longest that a call waits for the disk.
    """

    def __init__(
        self,
        path: Path,
        *,
        origin: str,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._path = path
        self._origin = origin
        self._clock = clock
        self._wall_clock = wall_clock
        self._patience_seconds = patience_seconds
        self._told = False
        self._start_over()
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _start_over(reference))

    def _start_over(self) -> None:
        """Leave thread, locks and connection to the parent process."""
        # Guards what waits and the thread's coming and going.
        self._lock = Lock()
        # Something is to be read or written.
        self._alarm = Signal()
        # Somebody waits for it.
        self._hurry = Signal()
        self._thread: Thread | None = None
        self._known: dict[PrefixKey, Row] = {}
        self._sightings: list[Sighting] = []
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._fresh_until = self._left_alone_until = float("-inf")
        self._closed = False

    async def ready(self) -> None:
        """Wait until what the others have seen is known, or for as long as a call may wait for it."""
        if self._clock() < max(self._fresh_until, self._left_alone_until) or self._closed:
            return
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        with self._lock:
            self._waiting.append((loop, told))
            self._hurry.set()
        self._rouse()
        await asyncio.wait((told,), timeout=self._patience_seconds)

    def find(self, key: PrefixKey) -> Record | None:
        """What is known of a prefix that was asked before or can be read."""
        row = self._known.get(key)
        if row is None:
            return None
        from claude_force.provider.prompt_cache.prefix_store import (  # noqa: PLC0415 - here it is imported already
            seen_in,
        )

        seen = seen_in(row)
        now = self._clock()
        ahead = now - self._wall_clock()
        return Record(
            asked_at=seen.asked_at + ahead,
            gaps=seen.gaps,
            # No longer than an entry lives, should somebody have set the clock back.
            warm_until=min(seen.warm_until + ahead, now + LIFETIME_SECONDS[seen.ttl]),
            ttl=seen.ttl,
            saved=seen.saved,
        )

    def asked(self, key: PrefixKey, at: float, *, expected: bool) -> None:
        """Tell the others of a call; returns at once."""
        self._tell(Sighting(key=key, at=self._date(at), asked=True, expected=expected))

    def answered(self, key: PrefixKey, at: float, record: Record, saved: float) -> None:
        """Tell the others what an answer has made of a prefix; returns at once."""
        warm_until = self._date(record.warm_until) if record.warm_until else 0.0
        self._tell(
            Sighting(key=key, at=self._date(at), saved=saved, warm_until=warm_until, ttl=record.ttl)
        )

    async def aclose(self) -> None:
        """Write what was seen. What comes later is not told to anybody; a second call does nothing."""
        self._closed = True
        self._hurry.set()
        self._alarm.set()
        thread = self._thread
        if thread is not None and thread is not current_thread():
            await asyncio.to_thread(thread.join)

    def _date(self, at: float) -> float:
        return self._wall_clock() - self._clock() + at

    def _tell(self, sighting: Sighting) -> None:
        if self._closed or len(self._sightings) >= _MOST_WAITING:
            return
        if self._clock() < self._left_alone_until:
            return
        with self._lock:
            self._sightings.append(sighting)
        self._rouse()

    def _rouse(self) -> None:
        with self._lock:
            self._alarm.set()
            if self._thread is not None:
                return
            thread = Thread(target=self._run, name="claude-force-prefixes", daemon=True)
            # The interpreter is shutting down: nobody will ask again.
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        try:
            self._work()
        except (StorageError, OSError) as error:
            self._leave_alone(error)

    def _work(self) -> None:
        from claude_force.provider.prompt_cache.prefix_store import (  # noqa: PLC0415 - few calls need SQLite for this
            PrefixStore,
        )

        with PrefixStore(self._path, self._origin) as store:
            while self._has_work():
                with self._lock:
                    waiting, self._waiting = self._waiting, []
                    sightings, self._sightings = self._sightings, []
                    if not self._closed:
                        self._hurry.clear()
                if sightings:
                    store.write(sightings, now=self._wall_clock())
                if waiting:
                    self._known = store.read(now=self._wall_clock())
                    self._fresh_until = self._clock() + _FRESH_SECONDS
                _wake(waiting)

    def _has_work(self) -> bool:
        """Wait for work; False when it is time to end."""
        self._alarm.clear()
        # Looked at after the clearing: whatever came before it has not set the alarm.
        if not (self._waiting or self._sightings or self._closed):
            self._alarm.wait(_IDLE_SECONDS)
        if self._sightings:
            self._hurry.wait(_LINGER_SECONDS)
        with self._lock:
            if self._waiting or self._sightings:
                return True
            self._thread = None
            return False

    def _leave_alone(self, error: Exception) -> None:
        with self._lock:
            self._left_alone_until = self._clock() + _LEFT_ALONE_SECONDS
            waiting, self._waiting, self._sightings = self._waiting, [], []
            self._thread = None
        _wake(waiting)
        if not self._told:
            self._told = True
            _LOG.warning("the prompt cache goes by the gaps of this process only: %s", error)


def _wake(waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]]) -> None:
    def tell(told: asyncio.Future[None]) -> None:
        if not told.done():
            told.set_result(None)

    for loop, told in waiting:
        # Its loop may have been closed meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, told)


def _start_over(reference: weakref.ref[SharedHistory]) -> None:
    history = reference()
    if history is not None:
        history._start_over()  # noqa: SLF001 - of this module
