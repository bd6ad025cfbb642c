"""What one model charges, as plain numbers: prices of token kinds with their tiers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from claude_force.domain.usage import Usage

_MILLION: Final = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Rate:
    """Dollars for a million tokens of one kind."""

    base: Decimal
    # (prompt size in tokens, dollars), ascending: above the size the whole request costs that much a million.
    tiers: tuple[tuple[int, Decimal], ...] = ()

    def at(self, prompt_tokens: int) -> Decimal:
        """The price for a request whose whole prompt has this many tokens."""
        price = self.base
        for above_tokens, tier_price in self.tiers:
            if prompt_tokens > above_tokens:
                price = tier_price
        return price


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """Rates of one model at one time."""

    input: Rate
    cache_write_5m: Rate
    cache_write_1h: Rate
    cache_read: Rate
    output: Rate

    def cost_usd(self, usage: Usage) -> Decimal:
        """What one request costs, to the last fraction of a cent."""
        prompt_tokens = usage.total_input_tokens
        total = (
            self.input.at(prompt_tokens) * usage.input_tokens
            + self.output.at(prompt_tokens) * usage.output_tokens
        )
        # Most requests have none of these, and every call is priced.
        if prompt_tokens != usage.input_tokens:
            total += (
                self.cache_write_5m.at(prompt_tokens) * usage.cache_write_5m_tokens
                + self.cache_write_1h.at(prompt_tokens) * usage.cache_write_1h_tokens
                + self.cache_read.at(prompt_tokens) * usage.cache_read_tokens
            )
        return total / _MILLION
