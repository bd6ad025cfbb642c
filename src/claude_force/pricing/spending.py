"""Every budget that a request counts against, in one reservation."""

from __future__ import annotations

import asyncio
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import BudgetExceededError
from claude_force.pricing.budget_queue import BudgetPlace, BudgetQueue
from claude_force.pricing.budgets import ZERO as _ZERO
from claude_force.pricing.budgets import (
    Account,
    Budget,
    BudgetLedger,
    Reservation,
    check_fits,
    refuse_unknown_price,
)
from claude_force.pricing.day_ledger import DayAccounts, day_of
from claude_force.pricing.worst_case import worst_case_usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from claude_force.domain.messages import MessageRequest
    from claude_force.pricing.budgets import BudgetKey
    from claude_force.pricing.catalogue import PriceCatalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLimits:
    """What the user allows, in dollars; None for no budget."""

    per_call_usd: Decimal | None = None
    # For each run by its id; calls outside of any run share one.
    per_run_usd: Decimal | None = None
    # By agent name, for as long as the process lives.
    per_agent_usd: Mapping[str, Decimal] = field(default_factory=dict)
    # For all processes of the user together.
    per_day_usd: Decimal | None = None

    def __bool__(self) -> bool:
        return bool(
            self.per_agent_usd
            or self.per_call_usd is not None
            or self.per_run_usd is not None
            or self.per_day_usd is not None
        )


# Checked once and not at every call.
_budget: Final = lru_cache(maxsize=256)(Budget)


@dataclass(slots=True, eq=False)
class SpendingReservation:
    """What one request has reserved, here and with the other processes."""

    own: Reservation
    day: Reservation | None = None
    # Budgets in whose queue others may wait for its end; empty where it does not end soon.
    keys: tuple[BudgetKey, ...] = ()
    day_keys: tuple[BudgetKey, ...] = ()


class Spending:
    """Reserves before a request is sent, and settles after it.

    Only a budget of the day touches a disk, in a thread. Any number of tasks and event loops may use it at once.

    Args:
        limits: what the user allows.
        catalogue: prices requests.
        day_ledger: needed for a budget of the day.
    """

    def __init__(
        self,
        limits: BudgetLimits,
        *,
        catalogue: PriceCatalogue,
        day_ledger: DayAccounts | None = None,
    ) -> None:
        if limits.per_day_usd is not None and day_ledger is None:
            raise ValueError("a budget of the day needs a ledger that all processes share")
        self._limits = limits
        self._catalogue = catalogue
        self._day_ledger = day_ledger
        self.ledger = BudgetLedger()
        self._queue = BudgetQueue()
        self._calls_end_soon = True

    async def reserve_for_call(
        self, request: MessageRequest, *, at: datetime, spent_usd: Decimal = _ZERO
    ) -> SpendingReservation:
        """As `reserve`, for a call that ends soon.

        One that belongs to a run waits while it does not fit only for what such calls hold here: nearly all of them
        cost less than their worst case. A single call is refused at once.

        Raises:
            BudgetExceededError: it does not fit, whatever calls under way will cost.
            CallError: its run was stopped while it waited.
            StorageError: the ledger of the day cannot be used.
        """
        halt = request.context.halt if self._calls_end_soon else None
        place: BudgetPlace | None = None
        try:
            while True:
                seen = self._queue.settlements
                try:
                    return await self.reserve(
                        request, at=at, spent_usd=spent_usd, ends_soon=self._calls_end_soon
                    )
                except BudgetExceededError as refusal:
                    if halt is None:
                        raise
                    place = place or BudgetPlace(halt)
                    if not await self._queue.wait(place, refusal, seen=seen):
                        raise
        finally:
            if place is not None:
                self._queue.leave(place)

    async def reserve(
        self,
        request: MessageRequest,
        *,
        at: datetime,
        spent_usd: Decimal = _ZERO,
        ends_soon: bool = False,
    ) -> SpendingReservation:
        """Reserve the worst case of one request that is about to be sent at ``at`` (with a time zone).

        ``spent_usd`` is what the same call has cost already: a budget of the call has so much less left.

        Raises:
            BudgetExceededError: it does not fit into a budget, or has no known price while there is one.
            StorageError: the ledger of the day cannot be used.
        """
        budgets = self.budgets_of(request)
        per_day = self._limits.per_day_usd
        if not budgets and per_day is None:
            return SpendingReservation(Reservation(_ZERO, ()))
        worst = await self._catalogue.cost_usd(request.model, (worst_case_usage(request),), at=at)
        if worst is None and per_day is not None:
            refuse_unknown_price((*budgets, Budget("day", day_of(at), per_day)), request.model)
        per_call = self._limits.per_call_usd
        if per_call is not None and worst is not None and spent_usd:
            check_fits(Budget("call", "", per_call), Account(spent_usd=spent_usd), worst)
        own = self.ledger.reserve(worst, budgets, model=request.model)
        keys: tuple[BudgetKey, ...] = ()
        if ends_soon:
            keys = _keys(budgets)
            self._queue.hold(keys, own.amount_usd)
        if per_day is None or worst is None or self._day_ledger is None:
            return SpendingReservation(own, None, keys)
        day: Reservation | None = None
        try:
            # Shielded: a reservation that is made although nobody waits for it any more has to be found again.
            making = asyncio.ensure_future(
                asyncio.to_thread(self._day_ledger.reserve, worst, per_day, at=at)
            )
            day = await asyncio.shield(making)
        finally:
            if day is None:
                self.ledger.settle(own, _ZERO)
                self._queue.withdrawn(keys, own.amount_usd)
                making.add_done_callback(self._undo)
        day_keys: tuple[BudgetKey, ...] = ()
        if ends_soon:
            day_keys = _keys(day.budgets)
            self._queue.hold(day_keys, day.amount_usd)
        return SpendingReservation(own, day, keys, day_keys)

    async def settle(self, reservation: SpendingReservation, actual_usd: Decimal | None) -> None:
        """Put what the request really cost in the place of its reservation.

        None means that nobody knows; the worst case then counts as spent. Zero is for a request that was not sent.

        Raises:
            StorageError: the ledger of the day cannot be used.
        """
        self.ledger.settle(reservation.own, actual_usd)
        keys, reservation.keys = reservation.keys, ()
        if keys:
            self._queue.settled(keys, reservation.own.amount_usd)
        if reservation.day is not None and self._day_ledger is not None:
            # Shielded: settling has to happen also when the caller is cancelled.
            settling = asyncio.ensure_future(
                asyncio.to_thread(self._day_ledger.settle, reservation.day, actual_usd)
            )
            day_keys, reservation.day_keys = reservation.day_keys, ()
            if day_keys:
                amount = reservation.day.amount_usd
                settling.add_done_callback(lambda _: self._queue.settled(day_keys, amount))
            await asyncio.shield(settling)

    def budgets_of(self, request: MessageRequest) -> tuple[Budget, ...]:
        """The budgets in this process that a request counts against."""
        limits, context = self._limits, request.context
        budgets = []
        if limits.per_call_usd is not None:
            budgets.append(_budget("call", "", limits.per_call_usd))
        if limits.per_run_usd is not None:
            budgets.append(_budget("run", context.run_id or "", limits.per_run_usd))
        if context.step_budget_usd is not None:
            name = f"{context.run_id or ''} {context.step_id or ''}"
            budgets.append(_budget("step", name, context.step_budget_usd))
        per_agent = limits.per_agent_usd.get(context.agent_name)
        if per_agent is not None:
            budgets.append(_budget("agent", context.agent_name, per_agent))
        return tuple(budgets)

    def for_batches(self, catalogue: PriceCatalogue) -> Spending:
        """The same budgets and what was spent of them, for batches: at other prices, and nobody waits for their end."""
        same = copy(self)
        same._catalogue = catalogue  # noqa: SLF001 - of the same class
        same._calls_end_soon = False  # noqa: SLF001 - as above
        return same

    def close(self) -> None:
        """Close the ledger of the day."""
        if self._day_ledger is not None:
            self._day_ledger.close()

    def _undo(self, making: asyncio.Future[Reservation]) -> None:
        if not making.cancelled() and making.exception() is None and self._day_ledger is not None:
            asyncio.get_running_loop().run_in_executor(
                None, self._day_ledger.settle, making.result(), _ZERO
            )


def _keys(budgets: Sequence[Budget]) -> tuple[BudgetKey, ...]:
    """What others may wait for; a budget of a call holds nothing that another one could use."""
    return tuple([budget.key for budget in budgets if budget.scope != "call"])
