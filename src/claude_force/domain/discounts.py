"""What made an answer cheaper than the same request, asked plainly."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOTHING: Final = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discounts:
    """Dollars by which an answer was cheaper than it is asked alone, at once, of the model that was asked for.

    What it cost and the three amounts add up, exactly, to what it would have cost so. Each is less than 0 where it was
    dearer instead: a write to the prompt cache that nobody read, a fallback to a dearer model.
    """

    # All input at the price of plain input, less what it did cost.
    prompt_cache_usd: Decimal = _NOTHING
    # The half that a batch leaves out.
    batch_usd: Decimal = _NOTHING
    # The answer at the price of the model that was asked for, less that of the one that answered.
    fallback_usd: Decimal = _NOTHING

    @property
    def total_usd(self) -> Decimal:
        """All of them together."""
        return self.prompt_cache_usd + self.batch_usd + self.fallback_usd


NO_DISCOUNTS: Final = Discounts()


def total_discounts(parts: Sequence[Discounts | None]) -> Discounts | None:
    """The sum, or None if any part is unknown."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return Discounts(
        prompt_cache_usd=sum((part.prompt_cache_usd for part in known), _NOTHING),
        batch_usd=sum((part.batch_usd for part in known), _NOTHING),
        fallback_usd=sum((part.fallback_usd for part in known), _NOTHING),
    )
