"""The money of one call: reserved for one attempt at a time."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from claude_force.domain.messages import MessageRequest
    from claude_force.domain.usage import Usage
    from claude_force.pricing.catalogue import PriceCatalogue
    from claude_force.pricing.spending import Spending, SpendingReservation

_NOTHING: Final = Decimal(0)


class Purse:
    """An `Allowance` out of all budgets that a request counts against. `open` it, then `close` it with the whole cost.

    Args:
        request: what is sent.
        spending: keeps the budgets.
        catalogue: prices attempts that came to nothing.
        asked_at: prices and the budget of the day are those of this moment, with a time zone.
    """

    __slots__ = (
        "_asked_at",
        "_catalogue",
        "_held",
        "_lost_usd",
        "_request",
        "_spending",
        "_spent_usd",
        "_was_sent",
    )

    def __init__(
        self,
        request: MessageRequest,
        spending: Spending,
        catalogue: PriceCatalogue,
        asked_at: datetime,
    ) -> None:
        self._request = request
        self._spending = spending
        self._catalogue = catalogue
        self._asked_at = asked_at
        # By earlier requests of the call, which others have settled, and by attempts of this one.
        self._spent_usd = request.context.spent_usd or _NOTHING
        # By attempts of this one, settled already.
        self._lost_usd = _NOTHING
        self._held: SpendingReservation | None = None
        # What is held may be billed.
        self._was_sent = False

    async def open(self) -> None:
        """Reserve the worst case of an attempt.

        Raises:
            BudgetExceededError: it does not fit into a budget.
            CallError: its run was stopped while it waited for others to end.
            StorageError: the budget of the day cannot be kept.
        """
        self._held = await self._spending.reserve_for_call(
            self._request, at=self._asked_at, spent_usd=self._spent_usd
        )
        self._was_sent = False

    def spend(self) -> None:
        """See `Allowance.spend`."""
        self._was_sent = True

    async def renew(self, lost: Sequence[Usage]) -> None:
        """See `Allowance.renew`."""
        cost: Decimal | None = _NOTHING
        if lost:
            cost = await self._catalogue.cost_usd(self._request.model, lost, at=self._asked_at)
        held = self._held
        if held is not None:
            lost_usd = held.own.amount_usd if cost is None else cost
            self._lost_usd += lost_usd
            self._spent_usd += lost_usd
        await self._settle(cost)
        await self.open()

    async def close(self, cost_usd: Decimal | None) -> None:
        """Settle with what the call has cost in all; None means that nobody knows.

        The worst case then counts, unless the request has not gone out.
        """
        if cost_usd is None:
            await self._settle(None if self._was_sent else _NOTHING)
        else:
            await self._settle(max(cost_usd - self._lost_usd, _NOTHING))

    async def _settle(self, cost_usd: Decimal | None) -> None:
        held, self._held = self._held, None
        if held is not None:
            await self._spending.settle(held, cost_usd)
