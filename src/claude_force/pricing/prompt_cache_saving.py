"""What the prompt cache saved, to the last fraction of a cent."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from claude_force.domain.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from claude_force.domain.results import AgentResult
    from claude_force.pricing.tariff import Tariff


def saving_usd(usage: Usage, tariff: Tariff) -> Decimal:
    """What one request would have cost more without the prompt cache; less than 0 where a write was not read.

    All input at the price of plain input, less what it did cost. A tier is that of the whole prompt in both cases.
    """
    plain = Usage(input_tokens=usage.total_input_tokens, output_tokens=usage.output_tokens)
    return tariff.cost_usd(plain) - tariff.cost_usd(usage)


class PromptCacheSaving:
    """Adds up what was saved on many answers.

    Args:
        tariff_of: what a model charges, by its id; None where no price is known. Asked only for answers that the
            prompt cache had a part in.
    """

    def __init__(self, tariff_of: Callable[[str], Tariff | None]) -> None:
        self._tariff_of = tariff_of
        # None once a price is unknown: a sum that leaves something out would be wrong.
        self.total_usd: Decimal | None = Decimal(0)

    def add(self, results: Iterable[AgentResult]) -> None:
        """Add answers; those of the response cache were not paid for and count nothing."""
        for result in results:
            if result.cached is None:
                for usage in (result.usage, *result.lost_usages):
                    self._add(result.model, usage)

    def _add(self, model: str, usage: Usage) -> None:
        if self.total_usd is None or not (usage.cache_read_tokens or usage.cache_write_tokens):
            return
        tariff = self._tariff_of(model)
        self.total_usd = None if tariff is None else self.total_usd + saving_usd(usage, tariff)
