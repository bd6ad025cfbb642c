"""Puts a price on every answer, and on what failed attempts cost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from claude_force.domain.copies import copied
from claude_force.domain.discounts import NO_DISCOUNTS, Discounts
from claude_force.domain.errors import CallError
from claude_force.domain.events import AnswerStarted
from claude_force.pricing.prompt_cache_saving import saving_usd
from claude_force.pricing.purse import Purse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.domain.usage import Usage
    from claude_force.pricing.catalogue import PriceCatalogue
    from claude_force.pricing.spending import Spending
    from claude_force.provider.client import ModelClient


_NOTHING: Final = Decimal(0)


def _now() -> datetime:
    return datetime.now(UTC)


class MeteredClient:
    """A `ModelClient` that fills in ``cost_usd`` and ``discounts`` of answers and of errors, and keeps calls within budgets.

    The worst case of a call is reserved in every budget before it is sent, and replaced by what it really cost after.
    That is one attempt: what an attempt that broke off has cost is counted before the worst case of the next one is
    reserved, so that retries overshoot nothing.

    Without budgets the price list is loaded in a thread while the first answer is on its way, so that no request
    waits for it. A cost is None where the price of the model is unknown, never zero.

    Args:
        inner: answers the requests.
        catalogue: prices them.
        spending: the budgets; None for none.
        now: the wall clock, with a time zone: prices change by date.
    """

    def __init__(
        self,
        inner: ModelClient,
        *,
        catalogue: PriceCatalogue,
        spending: Spending | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._inner = inner
        self._catalogue = catalogue
        self._spending = spending
        self._now = now

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`.

        Raises:
            BudgetExceededError: its worst case does not fit into a budget; nothing was sent.
        """
        asked_at = self._now()
        spending = self._spending
        if spending is None:
            if request.context.step_budget_usd is None:
                return await self._send(request, on_event, asked_at)
            spending = self._for_steps()
        purse = Purse(request, spending, self._catalogue, asked_at)
        await purse.open()
        # Until it is known what it cost: the worst case, if it was sent.
        cost: Decimal | None = None
        try:
            allowed = copied(request, context=copied(request.context, allowance=purse))
            response = await self._send(allowed, on_event, asked_at)
            cost = response.cost_usd
        except CallError as error:
            cost = error.cost_usd if error.usages else _NOTHING
            raise
        finally:
            await purse.close(cost)
        return response

    def _for_steps(self) -> Spending:
        """What keeps the budgets of steps, where there are no others."""
        from claude_force.pricing.spending import (  # noqa: PLC0415 - few steps have a budget: start-up time
            BudgetLimits,
            Spending,
        )

        if self._spending is None:
            self._spending = Spending(BudgetLimits(), catalogue=self._catalogue)
        return self._spending

    async def aclose(self) -> None:
        """Close the inner client and the ledger of the day."""
        await self._inner.aclose()
        if self._spending is not None:
            # It may have something to tell the others.
            await asyncio.to_thread(self._spending.close)

    async def _send(
        self, request: MessageRequest, on_event: EventListener | None, asked_at: datetime
    ) -> MessageResponse:
        listener = on_event if self._catalogue.is_loaded else self._preloading(on_event)
        try:
            response = await self._inner.send(request, listener)
        except CallError as error:
            if error.usages:
                error.cost_usd = await self._catalogue.cost_usd(
                    request.model, error.usages, at=asked_at
                )
                error.discounts = self._discounts(
                    request.model, error.usages, error.cost_usd, asked_at
                )
            raise
        usages = (response.usage, *response.lost_usages)
        cost = await self._catalogue.cost_usd(response.model, usages, at=asked_at)
        discounts = self._discounts(response.model, usages, cost, asked_at)
        return copied(response, cost_usd=cost, discounts=discounts)

    def _preloading(self, on_event: EventListener | None) -> EventListener:
        """A listener that has the price list loaded while the first answer is on its way."""

        def listen(event: Event) -> None:
            if type(event) is AnswerStarted:
                self._catalogue.preload()
            if on_event is not None:
                on_event(event)

        return listen

    def _discounts(
        self, model: str, usages: Sequence[Usage], cost: Decimal | None, asked_at: datetime
    ) -> Discounts | None:
        """What the prompt cache, or a batch, left out of a bill."""
        if cost is None:
            return None
        left_out = self._catalogue.left_out_usd(cost)
        for usage in usages:
            if usage.total_input_tokens != usage.input_tokens:
                break
        else:
            return Discounts(batch_usd=left_out) if left_out else NO_DISCOUNTS
        tariff = self._catalogue.tariff(model, at=asked_at)
        if tariff is None:
            return None
        return Discounts(
            prompt_cache_usd=sum((saving_usd(usage, tariff) for usage in usages), _NOTHING),
            batch_usd=left_out,
        )
