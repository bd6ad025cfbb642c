"""Budgets in dollars: the worst case of a request is reserved before it is sent and settled after. No clock, no I/O."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

from claude_force.domain.errors import BudgetExceededError

if TYPE_CHECKING:
    from collections.abc import Sequence

ZERO: Final = Decimal(0)
_CENT: Final = Decimal("0.01")
_MILLIONTH: Final = Decimal("0.000001")

Scope = Literal["call", "run", "step", "agent", "day"]
# Scope and name of a budget.
BudgetKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent on one thing."""

    scope: Scope
    # The run's id, the agent's name, the date; "" where there is only one.
    name: str
    limit_usd: Decimal

    def __post_init__(self) -> None:
        if not self.limit_usd.is_finite() or self.limit_usd < 0:
            raise ValueError(f"a budget of {self.limit_usd!r} dollars is none; give 0 or more")

    @property
    def key(self) -> BudgetKey:
        """What its account is kept by."""
        return self.scope, self.name

    def __str__(self) -> str:
        what = f"the {self.scope}'s budget"
        return f"{what} ({self.name!r})" if self.name else what


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How far one budget is used."""

    spent_usd: Decimal = ZERO
    # Worst cases of requests under way.
    reserved_usd: Decimal = ZERO

    @property
    def used_usd(self) -> Decimal:
        """What is not available any more."""
        return self.spent_usd + self.reserved_usd


@dataclass(slots=True, eq=False)
class Reservation:
    """What one request has reserved, in every budget that it counts against."""

    amount_usd: Decimal
    budgets: tuple[Budget, ...]
    settled: bool = field(default=False, repr=False)


class _Sums:
    """An account that changes with every call; a value made anew each time would be half of what a budget costs."""

    __slots__ = ("reserved_usd", "spent_usd")

    def __init__(self) -> None:
        self.spent_usd = ZERO
        self.reserved_usd = ZERO

    def account(self) -> Account:
        return Account(spent_usd=self.spent_usd, reserved_usd=self.reserved_usd)


class BudgetLedger:
    """Keeps the accounts of one process. Any number of threads may use it at the same time.

    At no moment do spent and reserved dollars of a budget together exceed it by a reservation; only an answer that
    costs more than its own worst case could, and then everything after it is refused.
    """

    def __init__(self) -> None:
        self._accounts: dict[BudgetKey, _Sums] = {}
        # Protects the accounts: a reservation is checked and made in one step.
        self._lock = threading.Lock()

    def reserve(
        self, worst_case_usd: Decimal | None, budgets: Sequence[Budget], *, model: str
    ) -> Reservation:
        """Reserve in all budgets, or in none of them.

        Args:
            worst_case_usd: the most the request can cost; None for a model without a known price.
            budgets: what the request counts against; empty for no budget at all.
            model: for the message.

        Raises:
            BudgetExceededError: it does not fit into one of them, or its price is unknown.
        """
        if worst_case_usd is None:
            refuse_unknown_price(budgets, model)
            return Reservation(ZERO, ())
        with self._lock:
            found = [self._of(budget) for budget in budgets]
            for budget, sums in zip(budgets, found, strict=True):
                if worst_case_usd > budget.limit_usd - sums.spent_usd - sums.reserved_usd:
                    check_fits(budget, sums.account(), worst_case_usd)
            for sums in found:
                sums.reserved_usd += worst_case_usd
        return Reservation(worst_case_usd, tuple(budgets))

    def settle(self, reservation: Reservation, actual_usd: Decimal | None) -> None:
        """Put what the request really cost in the place of its reservation; a second time does nothing.

        None means that nobody knows; the worst case then counts as spent. Zero is for a request that was not sent.
        """
        with self._lock:
            if reservation.settled:
                return
            reservation.settled = True
            spent = reservation.amount_usd if actual_usd is None else actual_usd
            for budget in reservation.budgets:
                sums = self._of(budget)
                sums.reserved_usd -= reservation.amount_usd
                sums.spent_usd += spent

    def account(self, budget: Budget) -> Account:
        """How far a budget is used."""
        with self._lock:
            return self._of(budget).account()

    def close(self, scope: Scope, name: str) -> None:
        """Forget an account: its run has ended."""
        with self._lock:
            self._accounts.pop((scope, name), None)

    def _of(self, budget: Budget) -> _Sums:
        key = budget.key
        sums = self._accounts.get(key)
        if sums is None:
            sums = _Sums()
            # A call's budget bounds a single request, so nothing of it is kept.
            if budget.scope != "call":
                self._accounts[key] = sums
        return sums


def check_fits(budget: Budget, account: Account, worst_case_usd: Decimal) -> None:
    """Let a request pass that fits.

    Raises:
        BudgetExceededError: it does not; the message tells what is left.
    """
    left = budget.limit_usd - account.used_usd
    if worst_case_usd <= left:
        return
    under_way = (
        f", {dollars(account.reserved_usd)} of it held by calls under way"
        if account.reserved_usd
        else ""
    )
    used = f" ({dollars(account.used_usd)} is used{under_way})" if account.used_usd else ""
    raise BudgetExceededError(
        f"This call can cost up to {dollars(worst_case_usd)}, and of {budget}, {dollars(budget.limit_usd)}, "
        f"{dollars(max(left, ZERO))} is left{used}. It was not sent. Raise the budget, or ask for less "
        "(--max-tokens, a smaller prompt, a cheaper model).",
        budget=budget.key,
        missing_usd=worst_case_usd - left,
    )


def refuse_unknown_price(budgets: Sequence[Budget], model: str) -> None:
    """Let a request without a known price pass only where no budget could be broken by it.

    Raises:
        BudgetExceededError: there is a budget.
    """
    if budgets:
        raise BudgetExceededError(
            f"No price of the model {model!r} is known, so nobody can tell whether it fits into {budgets[0]}, "
            f"{dollars(budgets[0].limit_usd)}. It was not sent. Use a model with a known price, or no budget.",
            budget=budgets[0].key,
        )


def dollars(amount_usd: Decimal) -> str:
    """An amount for a message: cents, or as many digits as a smaller amount needs."""
    rounded = amount_usd.quantize(_CENT)
    if rounded == amount_usd:
        return f"${rounded}"
    return f"${amount_usd.quantize(_MILLIONTH).normalize():f}"
