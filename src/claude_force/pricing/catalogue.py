"""Dollars for tokens, by model, date and tier.

The figures come from the package ``genai-prices``, which is kept current by its maintainers. Importing it takes a
third of a second of CPU, so that happens when the first price is asked for, or in a thread before (``preload``).
"""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from claude_force.domain.usage import Usage

ZERO: Final = Decimal(0)


class PriceCatalogue:
    """Prices answers of Claude models. May be used by any number of threads at the same time."""

    def __init__(self) -> None:
        self._preload: threading.Thread | None = None

    def preload(self) -> None:
        """Start loading the prices in a thread, once; returns at once."""
        if self._preload is None:
            self._preload = threading.Thread(target=_load, name="claude-force-prices", daemon=True)
            self._preload.start()

    def cost_usd(self, model: str, usages: Iterable[Usage], *, at: datetime) -> Decimal | None:
        """What the requests cost together, or None where no price of ``model`` is known.

        Args:
            model: the id of the model that answered.
            usages: one entry a request: a tier may depend on the size of a single one.
            at: when it was asked, with a time zone: prices change by date.
        """
        total = ZERO
        for usage in usages:
            cost = _price(model, usage, at)
            if cost is None:
                return None
            total += cost
        return total


def _load() -> None:
    import genai_prices  # noqa: F401, PLC0415 - imported for its effect on sys.modules, in a thread


def _price(model: str, usage: Usage, at: datetime) -> Decimal | None:
    from genai_prices import Usage as Tokens  # noqa: PLC0415 - a third of a second of import
    from genai_prices import calc_price  # noqa: PLC0415 - see above

    if not usage:
        return ZERO
    # The catalogue counts the whole prompt as input and takes the cached parts out of it.
    tokens = Tokens(
        input_tokens=usage.total_input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_tokens=usage.output_tokens,
    )
    try:
        return calc_price(
            tokens, model_ref=model, provider_id="anthropic", genai_request_timestamp=at
        ).total_price
    except LookupError:
        return None
