"""Bounds how many requests are under way, over every thread and event loop of one orchestrator."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterStatistics:
    """A limiter at one moment."""

    limit: int
    in_use: int
    waiting: int


class ConcurrencyLimiter:
    """At most ``limit`` holders at the same time, first come, first served.

    `asyncio.Semaphore` belongs to one event loop; this one may be shared by several loops in several threads, as a
    blocking caller and a notebook do. Use it as ``async with limiter:``.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a limit of {limit} would let nothing run; give 1 or more")
        self._limit = limit
        self._in_use = 0
        # Ordered by arrival; a plain dict would slow down quadratically when emptied from the front.
        self._waiters: OrderedDict[asyncio.Future[None], asyncio.AbstractEventLoop] = OrderedDict()
        # Places that were handed to a waiter who has not run since.
        self._handed: set[asyncio.Future[None]] = set()
        # Protects the counter and the queue between threads; held for a few instructions, never across an await.
        self._lock = threading.Lock()

    def statistics(self) -> LimiterStatistics:
        """The limit, and how many hold or wait for a place."""
        with self._lock:
            return LimiterStatistics(
                limit=self._limit, in_use=self._in_use, waiting=len(self._waiters)
            )

    async def __aenter__(self) -> Self:
        with self._lock:
            if self._in_use < self._limit and not self._waiters:
                self._in_use += 1
                return self
            loop = asyncio.get_running_loop()
            place: asyncio.Future[None] = loop.create_future()
            self._waiters[place] = loop
        try:
            await place
        except BaseException:
            self._leave(place)
            raise
        self._handed.discard(place)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        with self._lock:
            self._in_use -= 1
            self._admit()

    def _leave(self, place: asyncio.Future[None]) -> None:
        with self._lock:
            self._waiters.pop(place, None)
            # The place was already ours when the wait was cancelled, so it is handed on.
            if place in self._handed:
                self._handed.discard(place)
                self._in_use -= 1
                self._admit()

    def _admit(self) -> None:
        """Hand free places to waiters; a waiter whose loop is closed has gone and is passed over."""
        running = _running_loop()
        while self._waiters and self._in_use < self._limit:
            place, loop = self._waiters.popitem(last=False)
            try:
                if loop is running:
                    _wake(place)
                else:
                    loop.call_soon_threadsafe(_wake, place)
            except RuntimeError:
                continue
            self._handed.add(place)
            self._in_use += 1


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop of this thread; None where a waiter is cleaned up after its loop."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _wake(place: asyncio.Future[None]) -> None:
    if not place.done():
        place.set_result(None)
