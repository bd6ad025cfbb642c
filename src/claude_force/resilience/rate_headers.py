"""Reads what a response says about the rate limits of its model class."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from claude_force.domain.rate_limits import LimitReading, RateSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable

# Larger than any limit; a figure above it is an accident of whatever stands between us and the API.
_LARGEST: Final = 10**12


def read_rate_headers(
    header: Callable[[str], str | None], *, now_epoch_seconds: float
) -> RateSnapshot:
    """The ``anthropic-ratelimit-*`` headers of a response; an empty (false) snapshot where there are none.

    Args:
        header: looks a header up by its lower-case name.
        now_epoch_seconds: the wall clock; ``reset`` is a moment as RFC 3339.
    """
    return RateSnapshot(
        requests=_reading(header, "anthropic-ratelimit-requests-", now_epoch_seconds),
        input_tokens=_reading(header, "anthropic-ratelimit-input-tokens-", now_epoch_seconds),
        output_tokens=_reading(header, "anthropic-ratelimit-output-tokens-", now_epoch_seconds),
        tokens=_reading(header, "anthropic-ratelimit-tokens-", now_epoch_seconds),
    )


def _reading(
    header: Callable[[str], str | None], prefix: str, now_epoch_seconds: float
) -> LimitReading | None:
    limit = _count(header(prefix + "limit"), smallest=1)
    remaining = _count(header(prefix + "remaining"), smallest=0)
    if limit is None and remaining is None:
        return None
    return LimitReading(
        limit, remaining, _seconds_until(header(prefix + "reset"), now_epoch_seconds)
    )


def _count(value: str | None, *, smallest: int) -> int | None:
    # isdecimal alone takes digits of other scripts too; int() reads those, the API does not write them.
    if value is None or not (value.isascii() and value.isdecimal()) or len(value) > 13:
        return None
    number = int(value)
    return number if smallest <= number <= _LARGEST else None


def _seconds_until(value: str | None, now_epoch_seconds: float) -> float | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    # RFC 3339 demands an offset; without one the moment is anybody's guess.
    if moment.tzinfo is None:
        return None
    return max(0.0, moment.timestamp() - now_epoch_seconds)
