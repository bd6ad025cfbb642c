"""The layer that marks requests for the prompt cache and lets those that share a prefix take their turns."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from claude_force.domain.events import AnswerStarted
from claude_force.provider.prompt_cache.outlook import USUAL_RATES
from claude_force.provider.prompt_cache.prefixes import prefixes_of, with_marks
from claude_force.provider.prompt_cache.turns import Go, Turns, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.companions import Companions
    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.provider.client import ModelClient
    from claude_force.provider.prompt_cache.outlook import CacheRates
    from claude_force.provider.prompt_cache.prefixes import Prefix
    from claude_force.provider.prompt_cache.shared_history import SharedHistory
    from claude_force.provider.prompt_cache.turns import Write

# An answer begins within seconds; one that takes this long is held up by something that waiting does not help.
PATIENCE_SECONDS: Final = 30.0
# Calls that are made together arrive within milliseconds of each other.
CURIOSITY_SECONDS: Final = 0.5


def _usual_rates(_: str) -> CacheRates:
    return USUAL_RATES


class PromptCacheClient:
    """A `ModelClient` that has the provider keep what several calls begin with, where that costs less than it saves.

    Of calls that share a prefix which nobody can read yet, one goes first and the others wait until its answer begins,
    ``patience_seconds`` at most; then they read what it wrote. If it fails before, or takes too long, another one goes
    first. A call whose prompt is below the model's minimum, or begins with nothing that others share, waits for
    nobody and is sent as it is. So is one that carries marks already.

    Args:
        inner: answers the requests.
        one_hour: whether prefixes may be kept for an hour, where the measured gaps between calls make it cheaper.
        rates_for: prices of a model's prompt cache, by its id.
        patience_seconds: the longest wait of one call for others.
        curiosity_seconds: how long a call waits to know whether those made together with it share its prefix.
        clock: monotonic seconds.
        others: what other processes have seen of the same prefixes; it is closed with this. None for this one alone.
    """

    def __init__(
        self,
        inner: ModelClient,
        *,
        one_hour: bool = True,
        rates_for: Callable[[str], CacheRates] = _usual_rates,
        patience_seconds: float = PATIENCE_SECONDS,
        curiosity_seconds: float = CURIOSITY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        others: SharedHistory | None = None,
    ) -> None:
        self._inner = inner
        self._others = others
        self._turns = Turns(one_hour=one_hour, clock=clock, others=others)
        self._rates_for = rates_for
        self._patience_seconds = patience_seconds
        self._curiosity_seconds = curiosity_seconds

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`."""
        seat = request.context.seat
        prefixes = () if _is_marked(request) else prefixes_of(request)
        if not prefixes:
            if seat is not None:
                seat.settle()
            return await self._inner.send(request, on_event)
        if self._others is not None:
            await self._others.ready()
        rates = self._rates_for(request.model)
        go = await self._turn(request, prefixes, rates)
        if not go.plan.marks:
            return await self._inner.send(request, on_event)
        sent_at = self._turns.now()

        def listen(event: Event) -> None:
            if type(event) is AnswerStarted:
                self._turns.answered(go, prefixes, event.usage, rates, sent_at=sent_at)
            if on_event is not None:
                on_event(event)

        try:
            return await self._inner.send(with_marks(request, go.plan.marks), listen)
        finally:
            self._turns.ended(go)

    async def aclose(self) -> None:
        """Close the inner client, and tell the other processes what was seen."""
        try:
            await self._inner.aclose()
        finally:
            if self._others is not None:
                await self._others.aclose()

    async def _turn(
        self, request: MessageRequest, prefixes: tuple[Prefix, ...], rates: CacheRates
    ) -> Go:
        """Wait until the call may be sent."""
        turns, seat = self._turns, request.context.seat
        companions = None if seat is None else seat.companions
        records = turns.arrive(prefixes, expected=seat is not None)
        if seat is not None:
            seat.settle()
        waiting = _Waiting(self._patience_seconds, self._curiosity_seconds)
        waited = False
        try:
            while True:
                step = turns.next(
                    prefixes,
                    records,
                    rates,
                    companions,
                    patient=waiting.patience_seconds > 0,
                    curious=waiting.curiosity_seconds > 0,
                    waited=waited,
                    gave_up_on=waiting.gave_up_on,
                )
                if isinstance(step, Go):
                    return step
                waited = True
                try:
                    await waiting.wait(step, companions)
                finally:
                    turns.stop_waiting(step, prefixes)
        finally:
            if waited:
                turns.leave(prefixes)


class _Waiting:
    """How much longer one call waits."""

    __slots__ = ("curiosity_seconds", "gave_up_on", "patience_seconds")

    def __init__(self, patience_seconds: float, curiosity_seconds: float) -> None:
        self.patience_seconds = patience_seconds
        self.curiosity_seconds = curiosity_seconds
        # What it waited for when its patience ended.
        self.gave_up_on: Write | None = None

    async def wait(self, step: Wait, companions: Companions | None) -> None:
        """Wait until it is told, or has waited long enough."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        limit = self.curiosity_seconds if step.write is None else self.patience_seconds
        if companions is not None and step.write is None:
            companions.watch(step.waiter.wake)
        try:
            await asyncio.wait((step.waiter.told,), timeout=limit)
        finally:
            if companions is not None and step.write is None:
                companions.unwatch(step.waiter.wake)
            waited = loop.time() - began
            told = step.waiter.told.done()
        if step.write is None:
            self.curiosity_seconds = self.curiosity_seconds - waited if told else 0.0
        else:
            self.patience_seconds = self.patience_seconds - waited if told else 0.0
            self.gave_up_on = None if told else step.write


def _is_marked(request: MessageRequest) -> bool:
    for block in request.system:
        if block.cache_ttl:
            return True
    for message in request.messages:
        for block in message.content:
            if block.cache_ttl:
                return True
    return False
