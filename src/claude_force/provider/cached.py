"""Answers equal requests from the response cache, and makes one call of equal ones at the same time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from claude_force.cache.answers import entry_of, response_of, shared_response
from claude_force.cache.fingerprint import CacheKey
from claude_force.cache.policy import Freshness, may_store
from claude_force.cache.recent import RecentRequests
from claude_force.domain.errors import CallError, ClaudeForceError
from claude_force.domain.events import TextDelta

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from claude_force.cache.single_flight import SingleFlight
    from claude_force.cache.store import CacheStore
    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import CallContext, MessageRequest, MessageResponse
    from claude_force.provider.client import ModelClient


class CachedClient:
    """A `ModelClient` that asks ``inner`` only for what the store does not hold.

    A hit is told as one `TextDelta` and costs nothing; ``response.cached`` says where it came from. Only complete
    answers are stored, and the store's troubles are never the caller's. ``request.context.cache`` decides for each
    call whether the store is read and written.

    Args:
        inner: answers what is not stored.
        store: keeps answers; it is closed with this client.
        flights: makes one call out of equal ones, in this process and over the machine.
        origin: the provider that answers; equal requests to another one are other requests.
        exclude_agents: names of agents whose answers are neither read nor stored.
        wall_clock: seconds since the epoch, the time of new entries.
    """

    def __init__(
        self,
        inner: ModelClient,
        *,
        store: CacheStore,
        flights: SingleFlight[MessageResponse],
        origin: str,
        exclude_agents: Collection[str] = (),
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._store = store
        self._flights = flights
        self._origin = origin
        self._exclude_agents = frozenset(exclude_agents)
        self._wall_clock = wall_clock
        self._recent = RecentRequests(origin)
        # Refreshes beside an answer that was served stale: held here, or they might be collected while they run.
        self._revalidations: dict[CacheKey, asyncio.Task[None]] = {}

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`."""
        use = request.context.cache
        if not self._takes_part(request):
            return await self._inner.send(request, on_event)
        recent = self._recent.of(request)
        if use.read:
            found = self._store.lookup_memory(recent.key, max_age_seconds=use.max_age_seconds)
            if found is not None and found.freshness is Freshness.FRESH:
                response = recent.response_of(found)
                if response is not None:
                    return _told(response, request, on_event)
        return await self._fly(recent.key, request, on_event)

    async def find(self, request: MessageRequest) -> MessageResponse | None:
        """What is stored for a request, where the call wants it; for those who ask the API in another way."""
        if not self._takes_part(request):
            return None
        return await self._find(self._recent.of(request).key, request)

    def keep(self, request: MessageRequest, response: MessageResponse) -> None:
        """Store an answer that came in another way, where the call wants it and the answer is complete."""
        if self._takes_part(request):
            self._keep(self._recent.of(request).key, request, response, lambda: None)

    async def aclose(self) -> None:
        """Wait for refreshes, which are paid already, write what is waiting, and close the inner client."""
        try:
            # Those of other loops cannot be waited for here.
            here = asyncio.get_running_loop()
            running = [task for task in self._revalidations.values() if task.get_loop() is here]
            await asyncio.gather(*running, return_exceptions=True)
            await self._inner.aclose()
        finally:
            # Closing the store writes what is waiting. Until then other processes find nothing, so they have to wait.
            await self._store.aclose()
            await self._flights.aclose()

    def _takes_part(self, request: MessageRequest) -> bool:
        context = request.context
        return context.cache.write and context.agent_name not in self._exclude_agents

    async def _fly(
        self, key: CacheKey, request: MessageRequest, on_event: EventListener | None
    ) -> MessageResponse:
        async def find() -> MessageResponse | None:
            return await self._find(key, request)

        async def fetch() -> MessageResponse:
            return await self._inner.send(request, on_event)

        def keep(response: MessageResponse, settled: Callable[[], None]) -> None:
            self._keep(key, request, response, settled)

        try:
            landing = await self._flights.run(key, find=find, fetch=fetch, keep=keep)
            while landing.waited and not _may_take(landing.value, request.context):
                landing = await self._flights.run(key, find=find, fetch=fetch, keep=keep)
        except CallError:
            stale = await self._stale(key, request)
            if stale is None:
                raise
            return _told(stale, request, on_event)
        if landing.led:
            return landing.value
        response = landing.value
        if landing.waited and response.cached is None:
            response = shared_response(response)
        return _told(response, request, on_event)

    async def _find(self, key: CacheKey, request: MessageRequest) -> MessageResponse | None:
        use = request.context.cache
        if not use.read:
            return None
        found = await self._store.lookup_async(key, max_age_seconds=use.max_age_seconds)
        if found is None or found.freshness is Freshness.IF_ERROR:
            return None
        response = response_of(found)
        if response is not None and found.freshness is Freshness.REVALIDATE:
            self._revalidate(key, request)
        return response

    async def _stale(self, key: CacheKey, request: MessageRequest) -> MessageResponse | None:
        """What may be served although it is too old, now that asking has failed."""
        use = request.context.cache
        if not use.read:
            return None
        found = await self._store.lookup_async(key, max_age_seconds=use.max_age_seconds)
        return None if found is None else response_of(found)

    def _revalidate(self, key: CacheKey, request: MessageRequest) -> None:
        running = self._revalidations.get(key)
        if running is not None and not running.get_loop().is_closed():
            return
        task = asyncio.create_task(self._refresh(key, request))
        self._revalidations[key] = task
        task.add_done_callback(lambda _: self._revalidations.pop(key, None))

    async def _refresh(self, key: CacheKey, request: MessageRequest) -> None:
        async def find() -> MessageResponse | None:
            found = await self._store.lookup_async(key)
            if found is None or found.freshness is not Freshness.FRESH:
                return None
            return response_of(found)

        async def fetch() -> MessageResponse:
            # What is asked for is a new answer to this very task.
            anew = replace(request, context=replace(request.context, semantic=None))
            return await self._inner.send(anew)

        def keep(response: MessageResponse, settled: Callable[[], None]) -> None:
            self._keep(key, request, response, settled)

        # A flight beside that of the key itself, whose callers are served the stale answer meanwhile.
        flight_key = CacheKey(key[::-1])
        with suppress(ClaudeForceError):
            # The caller has an answer already; after a failure the next one asks again.
            await self._flights.run(flight_key, find=find, fetch=fetch, keep=keep)

    def _keep(
        self,
        key: CacheKey,
        request: MessageRequest,
        response: MessageResponse,
        settled: Callable[[], None],
    ) -> None:
        if not may_store(response, request.context.agent_name):
            settled()
            return
        try:
            entry = entry_of(
                response, request, key=key, origin=self._origin, created_at=self._wall_clock()
            )
        except ValueError:
            # A text that cannot be encoded is an answer all the same.
            settled()
            return
        self._store.put(entry, settled)


def _may_take(response: MessageResponse, context: CallContext) -> bool:
    """True unless the leader of the flight found an answer that this caller does not want to have from a cache."""
    hit = response.cached
    if hit is None:
        # A leader that does not continue a cut answer has nothing for one that does.
        return response.complete or not context.continue_rounds
    if hit.match is not None and context.semantic is None:
        # An agent of the same definition that the semantic cache is not switched on for.
        return False
    use = context.cache
    too_old = use.max_age_seconds is not None and hit.age_seconds >= use.max_age_seconds
    return use.read and not too_old


def _told(
    response: MessageResponse, request: MessageRequest, on_event: EventListener | None
) -> MessageResponse:
    """The answer, told to the listener as if it had just arrived."""
    if on_event is not None and response.text:
        on_event(TextDelta(request.context.call_id, response.text))
    return response
