"""Reads what a response says about the rate limits of its model class."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from claude_force.domain.rate_limits import LimitReading, RateSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable

# Digits; a figure above a million millions is an accident of whatever stands between us and the API.
_LONGEST: Final = 12


def _names(limit: str) -> tuple[str, str, str]:
    prefix = f"anthropic-ratelimit-{limit}-"
    return prefix + "limit", prefix + "remaining", prefix + "reset"


_REQUESTS: Final = _names("requests")
_INPUT_TOKENS: Final = _names("input-tokens")
_OUTPUT_TOKENS: Final = _names("output-tokens")
_TOKENS: Final = _names("tokens")
_NOTHING: Final = RateSnapshot()


def read_rate_headers(
    header: Callable[[str], str | None], *, now_epoch_seconds: float
) -> RateSnapshot:
    """The ``anthropic-ratelimit-*`` headers of a response; an empty (false) snapshot where there are none.

    The joint limit of input and output (``tokens``) is read only where input has no limit of its own: it adds
    nothing there.

    Args:
        header: looks a header up by its lower-case name.
        now_epoch_seconds: the wall clock; ``reset`` is a moment as RFC 3339.
    """
    requests = _reading(header, _REQUESTS, now_epoch_seconds)
    input_tokens = _reading(header, _INPUT_TOKENS, now_epoch_seconds)
    output_tokens = _reading(header, _OUTPUT_TOKENS, now_epoch_seconds)
    tokens = None if input_tokens is not None else _reading(header, _TOKENS, now_epoch_seconds)
    if requests is None and input_tokens is None and output_tokens is None and tokens is None:
        return _NOTHING
    return RateSnapshot(
        requests=requests, input_tokens=input_tokens, output_tokens=output_tokens, tokens=tokens
    )


def _reading(
    header: Callable[[str], str | None], names: tuple[str, str, str], now_epoch_seconds: float
) -> LimitReading | None:
    limit_name, remaining_name, reset_name = names
    limit, remaining = header(limit_name), header(remaining_name)
    if limit is None and remaining is None:
        return None
    full, left = _count(limit, smallest=1), _count(remaining, smallest=0)
    if full is None and left is None:
        return None
    reset = header(reset_name)
    moment = None if reset is None else _epoch_seconds(reset)
    return LimitReading(
        full, left, None if moment is None else max(0.0, moment - now_epoch_seconds)
    )


def _count(value: str | None, *, smallest: int) -> int | None:
    # int() takes digits of other scripts, signs and underscores too; the API writes none of them.
    if value is None or len(value) > _LONGEST or not (value.isdecimal() and value.isascii()):
        return None
    number = int(value)
    return number if number >= smallest else None


# Moments have whole seconds, so that many answers in a row carry the same ones.
@lru_cache(maxsize=64)
def _epoch_seconds(value: str) -> float | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    # RFC 3339 demands an offset; without one the moment is anybody's guess.
    return None if moment.tzinfo is None else moment.timestamp()
