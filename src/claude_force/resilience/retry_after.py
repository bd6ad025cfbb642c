"""Reads how long a response asks its caller to wait."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_DAY_SECONDS: Final = 86_400.0


def retry_after_seconds(
    header: Callable[[str], str | None], *, now_epoch_seconds: float
) -> float | None:
    """Seconds to wait by ``retry-after-ms`` or ``retry-after`` (seconds or an HTTP date), or None.

    A value that cannot be read counts as absent, a date in the past as 0, and more than a day as a day.

    Args:
        header: looks a header up by its lower-case name.
        now_epoch_seconds: the wall clock, for dates.
    """
    milliseconds = _number(header("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    value = header("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        seconds = _seconds_until(value, now_epoch_seconds)
    return None if seconds is None else _bounded(seconds)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), _DAY_SECONDS)


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_until(value: str, now_epoch_seconds: float) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - 15 ms of import that few answers need

    try:
        return parsedate_to_datetime(value).timestamp() - now_epoch_seconds
    except (ValueError, OverflowError):
        return None
