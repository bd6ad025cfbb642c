"""What calls would have cost without response cache, prompt cache, batches and fallbacks, line by line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from claude_force.metrics.schema import SUMS, dollars

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from claude_force.metrics.cells import Cell

SavingName: TypeAlias = Literal["response cache", "prompt cache", "batches", "fallbacks"]

# The sum of a cell that each line is.
_SUM_BY_NAME: Final[Mapping[SavingName, str]] = {
    "response cache": "plain",
    "prompt cache": "prompt_cache_saved",
    "batches": "batch_saved",
    "fallbacks": "fallback_saved",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """What calls cost, and what the same answers would have cost asked plainly: each alone, at once, of its own model.

    The sums are of whole picodollars, so ``naive_usd`` is ``actual_usd`` and the four lines to the last digit. A line
    is less than 0 where it cost more than it saved: the prompt cache where it was written and not read, a fallback to
    a dearer model.
    """

    calls: int
    # What was paid, failed calls too.
    actual_usd: Decimal
    # What cached answers would have cost, asked plainly.
    response_cache_usd: Decimal
    # Input at the price of plain input, less what it did cost.
    prompt_cache_usd: Decimal
    # The half that batches leave out.
    batch_usd: Decimal
    # Answers of other models at the price of the one that was asked for, less their own.
    fallback_usd: Decimal
    # Calls whose saving is not known, for want of a price or because they were recorded before it was: they are in
    # ``actual_usd`` as far as their cost is known, and in no line.
    uncompared: int = 0

    @property
    def lines(self) -> dict[SavingName, Decimal]:
        """The four lines by name, in the order in which they are shown."""
        return {
            "response cache": self.response_cache_usd,
            "prompt cache": self.prompt_cache_usd,
            "batches": self.batch_usd,
            "fallbacks": self.fallback_usd,
        }

    @property
    def saved_usd(self) -> Decimal:
        """All lines together."""
        return self.response_cache_usd + self.prompt_cache_usd + self.batch_usd + self.fallback_usd

    @property
    def naive_usd(self) -> Decimal:
        """What the same answers would have cost."""
        return self.actual_usd + self.saved_usd

    @property
    def share(self) -> float | None:
        """Share of ``naive_usd`` that was saved; None where that is nothing."""
        return float(self.saved_usd / self.naive_usd) if self.naive_usd else None


def savings_of(cell: Cell) -> Savings:
    """What the sums of a cell say."""
    sums = dict(zip(SUMS, cell.sums, strict=True))
    lines = {name: dollars(sums[column]) for name, column in _SUM_BY_NAME.items()}
    return Savings(
        calls=sums["calls"],
        actual_usd=dollars(sums["cost"]),
        response_cache_usd=lines["response cache"],
        prompt_cache_usd=lines["prompt cache"],
        batch_usd=lines["batches"],
        fallback_usd=lines["fallbacks"],
        uncompared=sums["uncompared"],
    )
