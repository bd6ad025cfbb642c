"""Many calls by way of message batches: at half the price, within a day, collected now or tomorrow."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final

from claude_force.assembly.caller import new_id
from claude_force.cache.answers import shared_response
from claude_force.cache.fingerprint import request_key
from claude_force.domain.discounts import Discounts
from claude_force.domain.errors import CallError, ClaudeForceError, InputError, RunStoppedError
from claude_force.domain.events import AttemptStarted
from claude_force.domain.messages import API_VERSION, CallContext
from claude_force.domain.results import AgentOutcome
from claude_force.pricing.catalogue import PriceCatalogue
from claude_force.pricing.prompt_cache_saving import saving_usd
from claude_force.provider.ask import ask
from claude_force.provider.batches_api import encode_item
from claude_force.provider.cached import CachedClient
from claude_force.workflows.batch_ledger import BatchLedger
from claude_force.workflows.batch_run import BatchRun

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from claude_force.agents.calls import AgentCall
    from claude_force.assembly.caller import Caller
    from claude_force.assembly.runtime import Runtime
    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.domain.usage import Usage
    from claude_force.pricing.spending import Spending, SpendingReservation
    from claude_force.provider.batches_api import BatchResult

_HALF: Final = Decimal("0.5")
_STOP_NOTICED_SECONDS: Final = 0.2


class BatchPrices(PriceCatalogue):
    """The price list for batches: half of everything."""

    async def cost_usd(
        self, model: str, usages: Iterable[Usage], *, at: datetime
    ) -> Decimal | None:
        """What the requests cost together in a batch, or None where no price of ``model`` is known."""
        cost = await super().cost_usd(model, usages, at=at)
        return None if cost is None else cost * _HALF

    def left_out_usd(self, cost_usd: Decimal) -> Decimal:
        """As much as it cost."""
        return cost_usd

    async def priced(self, response: MessageResponse) -> MessageResponse:
        """The answer of a batch with what it cost there."""
        now = datetime.now(UTC)
        cost = await self.cost_usd(response.model, (response.usage,), at=now)
        discounts = self.discounts(response.model, response.usage, cost, at=now)
        return replace(response, cost_usd=cost, discounts=discounts)

    def discounts(
        self, model: str, usage: Usage, cost_usd: Decimal | None, *, at: datetime
    ) -> Discounts | None:
        """What a batch left out of the bill of one request that is priced, and what the prompt cache did."""
        tariff = None if cost_usd is None else self.tariff(model, at=at)
        if cost_usd is None or tariff is None:
            return None
        return Discounts(prompt_cache_usd=saving_usd(usage, tariff), batch_usd=cost_usd)


@dataclass(slots=True)
class Asked:
    """One request, and the calls that ask exactly it."""

    request: MessageRequest
    calls: list[tuple[int, AgentCall]] = field(default_factory=list)
    reservation: SpendingReservation | None = None


class Arrived:
    """A `ModelClient` that gives the one answer, or error, that a batch has brought."""

    def __init__(self, response: MessageResponse | None, error: CallError | None) -> None:
        self._response = response
        self._error = error

    async def send(
        self,
        request: MessageRequest,  # noqa: ARG002 - the protocol's
        on_event: EventListener | None = None,  # noqa: ARG002 - the protocol's
    ) -> MessageResponse:
        """What has arrived."""
        if self._response is None:
            raise self._error or CallError("nothing arrived", attempts=1)
        return self._response

    async def aclose(self) -> None:
        """Nothing is open."""


class BatchedCalls:
    """Calls of one orchestrator that go by batches.

    Args:
        runtime: what calls run on.
        caller: who listens.
        on_look: told, each time the batches were looked at, how many requests still have no result.
    """

    def __init__(
        self, runtime: Runtime, caller: Caller, *, on_look: Callable[[int], None] | None = None
    ) -> None:
        self._runtime = runtime
        self._caller = caller
        self._on_look = on_look
        self._prices = BatchPrices()
        self._stop = caller.new_run()

    async def run(
        self, calls: Iterable[AgentCall], *, wait: bool
    ) -> AsyncGenerator[AgentOutcome, None]:
        """Outcomes of the calls as they come; without ``wait`` only of those that are answered already.

        Raises:
            InputError: a call cannot be sent as it is; then none was.
            CallError: a batch was refused, or cannot be read.
        """
        asked = requests_of(self._runtime, calls)
        chain = self._runtime.client()
        cached = chain if isinstance(chain, CachedClient) else None
        for key, one in list(asked.items()):
            found = None if cached is None else await cached.find(one.request)
            if found is not None:
                del asked[key]
                async for outcome in outcomes_of(one, found, None, self._caller.listener(None)):
                    yield outcome
        ledger = BatchLedger(self._runtime.state_folder)
        api = self._runtime.open_batches()
        spending = self._runtime.spending
        if spending is not None:
            spending = spending.for_batches(self._prices)
        run = BatchRun(api, ledger, origin=self._runtime.origin, sleep=self._sleep)
        try:
            await reserve_all(spending, asked.values())
            await run.submit(
                {key: partial(encode_item, key, one.request) for key, one in asked.items()}
            )
            if not wait:
                return
            async with aclosing(run.collect(list(asked), on_look=self._on_look)) as results:
                async for result in results:
                    async for outcome in self._take(
                        asked[result.custom_id], result, cached, spending
                    ):
                        yield outcome
        except RunStoppedError:
            # Everything is noted: the same calls, now or tomorrow, go on from here.
            return
        finally:
            # What was sent, and is not known yet, counts with the most that it can cost.
            await settle_all(spending, asked.values(), None)
            await api.aclose()
            ledger.close()

    async def _sleep(self, seconds: float) -> None:
        """Wait, but not for longer than the user wants to.

        Raises:
            RunStoppedError: `stop` was called on the orchestrator.
        """
        left = seconds
        while left > 0:
            self._stop(AttemptStarted("", 1))
            await asyncio.sleep(min(left, _STOP_NOTICED_SECONDS))
            left -= _STOP_NOTICED_SECONDS

    async def _take(
        self,
        one: Asked,
        result: BatchResult,
        cached: CachedClient | None,
        spending: Spending | None,
    ) -> AsyncGenerator[AgentOutcome, None]:
        response, error = result.response, result.error
        cost: Decimal | None = Decimal(0)
        if response is not None:
            response = await self._prices.priced(response)
            cost = response.cost_usd
            if cached is not None:
                cached.keep(one.request, response)
        if spending is not None and one.reservation is not None:
            reservation, one.reservation = one.reservation, None
            await spending.settle(reservation, cost)
        async for outcome in outcomes_of(one, response, error, self._caller.listener(None)):
            yield outcome


def requests_of(runtime: Runtime, calls: Iterable[AgentCall]) -> dict[str, Asked]:
    """What is asked, by content key: equal calls are one request.

    Raises:
        InputError: a call cannot be sent in a batch.
    """
    asked: dict[str, Asked] = {}
    run_id = new_id()
    for index, call in enumerate(calls):
        context = CallContext(
            call_id=new_id(), agent_name=call.agent_name, run_id=run_id, cache=call.cache
        )
        request = call.to_request(runtime.registry, context)
        check_batchable(call, request)
        key = request_key(request, runtime.origin)
        asked.setdefault(key, Asked(request)).calls.append((index, call))
    return asked


def check_batchable(call: AgentCall, request: MessageRequest) -> None:
    """Pass a call that can be sent in a batch of calls.

    Raises:
        InputError: it cannot.
    """
    if request.api_version != API_VERSION:
        raise InputError("A batch takes no temperature; leave it out, or call without a batch.")
    if call.use_memory:
        raise InputError(
            "A batch recalls nothing (use_memory): what is remembered changes before the results are there, and "
            "the same calls would then be other questions. Leave it out, or call without a batch."
        )
    if call.continue_truncated:
        raise InputError(
            "What comes back from a batch of calls is not continued (continue_truncated); allow longer answers with "
            "max_tokens, or call without a batch."
        )


async def reserve_all(spending: Spending | None, asked: Iterable[Asked]) -> None:
    """Reserve the worst case of everything, before anything is sent.

    Raises:
        BudgetExceededError: all of it together does not fit; nothing is reserved.
    """
    if spending is None:
        return
    now, reserved = datetime.now(UTC), []
    try:
        for one in asked:
            one.reservation = await spending.reserve(one.request, at=now)
            reserved.append(one)
    except ClaudeForceError:
        await settle_all(spending, reserved, Decimal(0))
        raise


async def settle_all(
    spending: Spending | None, asked: Iterable[Asked], actual_usd: Decimal | None
) -> None:
    """Put ``actual_usd`` in the place of every reservation that still stands; None counts the worst case as spent."""
    if spending is None:
        return
    for one in asked:
        if one.reservation is not None:
            reservation, one.reservation = one.reservation, None
            await spending.settle(reservation, actual_usd)


async def outcomes_of(
    one: Asked,
    response: MessageResponse | None,
    error: CallError | None,
    listener: EventListener | None,
) -> AsyncGenerator[AgentOutcome, None]:
    """One outcome for each call that asked it; told to the listeners like any other call."""
    for index, call in one.calls:
        context = replace(one.request.context, call_id=new_id())
        request = replace(one.request, context=context)
        result, failure = None, None
        try:
            result = await ask(Arrived(response, error), request, listener)
        except ClaudeForceError as caught:
            failure = caught
        yield AgentOutcome(
            index=index,
            item_id=call.item_id if call.item_id is not None else str(index),
            agent_name=call.agent_name,
            result=result,
            error=failure,
        )
        if response is not None and response.cached is None:
            # What a second call of the same gets was paid for by the first.
            response = shared_response(response)
