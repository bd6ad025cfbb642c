"""Puts a price on every answer, and on what failed attempts cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from claude_force.domain.errors import CallError
from claude_force.domain.events import AnswerStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.pricing.catalogue import PriceCatalogue
    from claude_force.provider.client import ModelClient


def _now() -> datetime:
    return datetime.now(UTC)


class MeteredClient:
    """A `ModelClient` that fills in ``cost_usd`` of answers and of errors.

    The price list is loaded in a thread while the first answer is on its way, so that no request waits for it.
    A cost is None where the price of the model is unknown, never zero.
    """

    def __init__(
        self, inner: ModelClient, *, catalogue: PriceCatalogue, now: Callable[[], datetime] = _now
    ) -> None:
        self._inner = inner
        self._catalogue = catalogue
        self._now = now

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`."""
        asked_at = self._now()

        def listen(event: Event) -> None:
            if type(event) is AnswerStarted:
                self._catalogue.preload()
            if on_event is not None:
                on_event(event)

        try:
            response = await self._inner.send(request, listen)
        except CallError as error:
            if error.usages:
                error.cost_usd = await self._catalogue.cost_usd(
                    request.model, error.usages, at=asked_at
                )
            raise
        usages = (response.usage, *response.lost_usages)
        return replace(
            response, cost_usd=await self._catalogue.cost_usd(response.model, usages, at=asked_at)
        )

    async def aclose(self) -> None:
        """Close the inner client."""
        await self._inner.aclose()
