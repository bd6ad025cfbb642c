"""Dollars for tokens, by model and date.

The figures come from the package ``genai-prices``, which its maintainers keep current. Importing it takes a third of
a second and one of its calculations a quarter of a millisecond, so it is imported beside the first answer, and each
model's tariff is read from it once a day; a test holds the tariff against the package's own calculation.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from claude_force.pricing.tariff import Rate, Tariff

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime

    from claude_force.domain.usage import Usage

ZERO: Final = Decimal(0)


class PriceCatalogue:
    """Prices answers of Claude models. Any number of threads may use it at the same time."""

    def __init__(self) -> None:
        self._preload: threading.Thread | None = None
        self._tariffs: dict[tuple[str, date], Tariff | None] = {}

    @property
    def is_loaded(self) -> bool:
        """True once a price has been found, so that nothing has to be loaded any more."""
        return bool(self._tariffs)

    def preload(self) -> None:
        """Start loading the price list in a thread, once; returns at once."""
        if self._preload is None and not _is_loaded():
            self._preload = threading.Thread(target=_load, name="claude-force-prices", daemon=True)
            self._preload.start()

    async def cost_usd(
        self, model: str, usages: Iterable[Usage], *, at: datetime
    ) -> Decimal | None:
        """What the requests cost together, or None where no price of ``model`` is known.

        Args:
            model: the id of the model that answered.
            usages: one entry a request: a tier depends on the size of a single one.
            at: when it was asked, with a time zone: prices change by date.
        """
        key = (model, at.date())
        if key in self._tariffs:
            tariff = self._tariffs[key]
        else:
            if not _is_loaded():
                await asyncio.to_thread(_load)
            tariff = self.tariff(model, at=at)
        return None if tariff is None else sum(map(tariff.cost_usd, usages), ZERO)

    def left_out_usd(self, cost_usd: Decimal) -> Decimal:
        """What this price list left out of a bill of ``cost_usd``; nothing in the plain one."""
        del cost_usd
        return ZERO

    def tariff(self, model: str, *, at: datetime) -> Tariff | None:
        """What ``model`` charges at that time, or None where no price is known; loads the price list where need be."""
        key = (model, at.date())
        if key not in self._tariffs:
            if not _is_loaded():
                _load()
            self._tariffs[key] = _tariff(model, at)
        return self._tariffs[key]

    def tariff_at_hand(self, model: str, *, at: datetime) -> Tariff | None:
        """The same, and None too for as long as the price list is not loaded: takes no time."""
        return self.tariff(model, at=at) if self._knows(model, at) or _is_loaded() else None

    def _knows(self, model: str, at: datetime) -> bool:
        return (model, at.date()) in self._tariffs


def _is_loaded() -> bool:
    module = sys.modules.get("genai_prices")
    # While another thread is importing it, the module is there but not whole.
    return module is not None and hasattr(module, "__all__")


def _load() -> None:
    import genai_prices  # noqa: F401, PLC0415 - a third of a second of import, in a thread


def _tariff(model: str, at: datetime) -> Tariff | None:
    from genai_prices import Usage as Tokens  # noqa: PLC0415 - loaded by now
    from genai_prices import calc_price  # noqa: PLC0415 - loaded by now

    try:
        prices = calc_price(
            Tokens(input_tokens=0, output_tokens=0),
            model_ref=model,
            provider_id="anthropic",
            genai_request_timestamp=at,
        ).model_price
    except LookupError:
        return None
    plain, output = _rate(prices.input_mtok), _rate(prices.output_mtok)
    if plain is None or output is None:
        return None
    # Tokens of a kind that has no price of its own are charged as the kind that contains it.
    written = _rate(prices.cache_write_mtok) or plain
    return Tariff(
        input=plain,
        cache_write_5m=_rate(prices.cache_write_5m_mtok) or written,
        cache_write_1h=_rate(prices.cache_write_1h_mtok) or written,
        cache_read=_rate(prices.cache_read_mtok) or plain,
        output=output,
    )


def _rate(price: object) -> Rate | None:
    from genai_prices.types import TieredPrices  # noqa: PLC0415 - loaded by now

    if isinstance(price, Decimal):
        return Rate(price)
    if isinstance(price, TieredPrices):
        return Rate(price.base, tuple((tier.start, tier.price) for tier in price.tiers))
    return None
