"""The message batches of one run of a workflow: the layers of a call whose request goes out in a batch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from claude_force.assembly.batching import BatchPrices
from claude_force.cache.answers import shared_response
from claude_force.cache.fingerprint import request_key
from claude_force.domain.events import TextDelta
from claude_force.provider.cached import CachedClient
from claude_force.provider.continuing import ContinuingClient
from claude_force.provider.metered import MeteredClient
from claude_force.workflows.batch_client import BatchingClient
from claude_force.workflows.batch_ledger import LEDGER_FILE, BatchLedger
from claude_force.workflows.batch_run import BatchRun

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_force.assembly.runtime import Runtime
    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.provider.client import ModelClient


def held_keys(runtime: Runtime) -> frozenset[str]:
    """What is in a batch and has not been collected, of every run and map of the user. Waits for the disk."""
    folder = runtime.state_folder
    if not (folder / LEDGER_FILE).exists():
        return frozenset()
    ledger = BatchLedger(folder)
    try:
        return ledger.held(runtime.origin)
    finally:
        ledger.close()


class RunBatches:
    """Opened before the run is; belongs to one run and one event loop.

    A batched call has the response cache and the budgets of every other one, at half the price; limits, breakers,
    retries, fallbacks and the prompt cache belong to requests that are sent at once.

    Args:
        runtime: what calls run on.
        held: content keys of requests that are in a batch already, whatever the workflow says now.

    Raises:
        ConfigError: the calls go to a client of the caller's own, which has no batches.
        MissingCredentialsError: there is no key.
    """

    def __init__(self, runtime: Runtime, *, held: frozenset[str] = frozenset()) -> None:
        self._held = held
        self._origin = runtime.origin
        chain = runtime.client()
        self._api = runtime.open_batches()
        self._ledger = BatchLedger(runtime.state_folder)
        self._batching = BatchingClient(
            BatchRun(self._api, self._ledger, origin=runtime.origin), origin=runtime.origin
        )
        prices = BatchPrices()
        spending = runtime.spending
        metered = MeteredClient(
            self._batching,
            catalogue=prices,
            spending=None if spending is None else spending.for_batches(prices),
        )
        self._client: ModelClient = _CachedBatches(
            ContinuingClient(metered),
            batching=self._batching,
            cached=chain if isinstance(chain, CachedClient) else None,
            origin=runtime.origin,
        )

    def client_for(self, request: MessageRequest, *, wanted: bool) -> ModelClient | None:
        """What answers a request by batch, where that is wanted, or where it is in one; None where it is sent at once."""
        if wanted or (self._held and request_key(request, self._origin) in self._held):
            return self._client
        return None

    async def settle(self, kept: Iterable[str]) -> None:
        """Forget the results that were handed on, and those of ``kept``: the run has them."""
        await self._batching.settle(kept)

    async def aclose(self) -> None:
        """Stop waiting; what was sent, and has not been kept, stays noted for the next run."""
        await self._batching.aclose()
        await self._api.aclose()
        await asyncio.to_thread(self._ledger.close)


class _CachedBatches:
    """A `ModelClient` that asks ``inner`` only for what is not stored, and once for what is asked several times.

    Unlike a call that is sent at once, it holds no flight: nobody else should wait for a batch.
    """

    def __init__(
        self,
        inner: ModelClient,
        *,
        batching: BatchingClient,
        cached: CachedClient | None,
        origin: str,
    ) -> None:
        self._inner = inner
        self._batching = batching
        self._cached = cached
        self._origin = origin
        self._under_way: dict[str, asyncio.Future[MessageResponse]] = {}

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`."""
        call_id = request.context.call_id
        self._batching.announce(call_id)
        try:
            response = await self._found(request)
            if response is None:
                return await self._asked(request, on_event)
        finally:
            self._batching.withdraw(call_id)
        if on_event is not None:
            on_event(TextDelta(call_id, response.text))
        return response

    async def aclose(self) -> None:
        """Everything belongs to the run."""

    async def _found(self, request: MessageRequest) -> MessageResponse | None:
        """What is stored, or what an equal call that was made before gets."""
        if self._cached is not None:
            found = await self._cached.find(request)
            if found is not None:
                return found
        under_way = self._under_way.get(request_key(request, self._origin))
        if under_way is None:
            return None
        self._batching.withdraw(request.context.call_id)
        await asyncio.wait((under_way,))
        if under_way.cancelled() or under_way.exception() is not None:
            # An error is told to the call that has met it; this one asks for itself.
            return None
        return shared_response(under_way.result())

    async def _asked(
        self, request: MessageRequest, on_event: EventListener | None
    ) -> MessageResponse:
        key = request_key(request, self._origin)
        asking = asyncio.ensure_future(self._inner.send(request, on_event))
        self._under_way[key] = asking
        try:
            response = await asking
        finally:
            if self._under_way.get(key) is asking:
                del self._under_way[key]
            asking.cancel()
        if self._cached is not None:
            self._cached.keep(request, response)
        return response
