"""What a prefix in the prompt cache is likely to cost, from what is known of its readers. No clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from claude_force.domain.messages import PromptCacheTtl
    from claude_force.pricing.tariff import Tariff
    from claude_force.provider.prompt_cache.prefixes import Prefix

LIFETIME_SECONDS: Final[dict[PromptCacheTtl, float]] = {"5m": 300.0, "1h": 3600.0}
# Gaps that only an hour's lifetime outlasts have to be measured, more than once, before one is paid for.
_GAPS_BEFORE_AN_HOUR: Final = 2
# Old habits fade: when so many gaps of a kind are counted, all counts are halved.
_MOST_GAPS: Final = 64
_PLAIN: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRates:
    """Prices of the prompt cache as shares of the price of plain input."""

    write_5m: float = 1.25
    write_1h: float = 2.0
    # The dearest of any model.
    read: float = 0.1

    def write(self, ttl: PromptCacheTtl) -> float:
        """The price of a write with this lifetime."""
        return self.write_5m if ttl == "5m" else self.write_1h


# What every model charges at most, for as long as the price list is not loaded.
USUAL_RATES: Final = CacheRates()


def rates_of(tariff: Tariff | None) -> CacheRates:
    """The rates of one model; the usual ones where its price is not known."""
    if tariff is None or not tariff.input.base:
        return USUAL_RATES
    plain = tariff.input.base
    return CacheRates(
        write_5m=float(tariff.cache_write_5m.base / plain),
        write_1h=float(tariff.cache_write_1h.base / plain),
        read=float(tariff.cache_read.base / plain),
    )


@dataclass(frozen=True, slots=True)
class GapCounts:
    """How long it took until the same prefix was asked again, by the lifetime that would have lasted."""

    within_5m: int = 0
    within_1h: int = 0
    longer: int = 0

    def after(self, gap_seconds: float) -> GapCounts:
        """The counts with one more gap."""
        short = gap_seconds < LIFETIME_SECONDS["5m"]
        middle = not short and gap_seconds < LIFETIME_SECONDS["1h"]
        counted = (
            self.within_5m + short,
            self.within_1h + middle,
            self.longer + (not short and not middle),
        )
        if max(counted) > _MOST_GAPS:
            counted = tuple((count + 1) // 2 for count in counted)  # type: ignore[assignment] # three again
        return GapCounts(*counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """One prefix at the moment at which a call that begins with it is about to be sent."""

    prefix: Prefix
    # The lifetime of the entry that can be read; None where there is none.
    warm: PromptCacheTtl | None = None
    # Calls that are known to follow within minutes.
    readers: int = 0
    gaps: GapCounts = GapCounts()

    def reads(self, ttl: PromptCacheTtl) -> float:
        """How often an entry is likely to be read before it lapses.

        The measured odds of another call in time, where one more gap is taken to have no end: that there is a next
        call at all is never certain.
        """
        gaps = self.gaps
        if ttl == "5m":
            return self.readers + gaps.within_5m / (gaps.within_1h + gaps.longer + 1)
        return self.readers + (gaps.within_5m + gaps.within_1h) / (gaps.longer + 1)

    def best_lifetime(self, rates: CacheRates, *, one_hour: bool) -> PromptCacheTtl | None:
        """The lifetime at which a write is likely to pay; None where none is, and the prefix is to be left plain.

        Five minutes are for readers that follow at once. An hour is for the gaps between one such burst and the next:
        it is chosen where the first call of a burst costs less with it than without.
        """
        five_minutes = cost_of_a_call(self.reads("5m"), rates.write_5m, rates.read) < _PLAIN
        if one_hour and self.gaps.within_1h >= _GAPS_BEFORE_AN_HOUR:
            outlasted = self.gaps.within_1h / (self.gaps.longer + 1)
            an_hour = cost_of_a_call(outlasted, rates.write_1h, rates.read)
            if an_hour < (rates.write_5m if five_minutes else _PLAIN):
                return "1h"
        return "5m" if five_minutes else None


def cost_of_a_call(reads: float, write: float, read: float) -> float:
    """What a token of the prefix costs a call on average: one write is shared by the calls that read it."""
    return (write + reads * read) / (1 + reads)
