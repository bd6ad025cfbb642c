"""Amounts, tokens and times as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.agents.cleaning import clean_text

if TYPE_CHECKING:
    from decimal import Decimal

    from claude_force.domain.messages import CacheHit
    from claude_force.domain.usage import Usage

_SHOWN_CHARACTERS: Final = 80
_AGE_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60))


def dollars(cost_usd: Decimal | None) -> str:
    """An amount with enough digits to be worth reading; an unknown one says so."""
    if cost_usd is None:
        return "price unknown"
    if cost_usd == 0:
        return "$0"
    if cost_usd >= 1:
        return f"${cost_usd:,.2f}"
    return f"${cost_usd:.4f}" if cost_usd >= 0.0001 else f"${cost_usd:.7f}"


def tokens(usage: Usage) -> str:
    """Tokens in and out; cached ones are named where there are any."""
    cached = (
        f", {usage.cache_read_tokens:,} from the prompt cache" if usage.cache_read_tokens else ""
    )
    return f"{usage.total_input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out"


def age(seconds: float) -> str:
    """An age in the largest unit that gives at least 1, such as ``3 min`` or ``2 d``."""
    for unit, length in _AGE_UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def duration(seconds: float) -> str:
    """A length of time in at most two units: ``340 ms``, ``12.3 s``, ``2 min 05 s``, ``1 h 03 min``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def cached(hit: CacheHit) -> str:
    """Where an answer came from that was not paid for this time."""
    stale = ", stale" if hit.stale else ""
    saved = f", saved {dollars(hit.saved_usd)}" if hit.saved_usd is not None else ""
    return f"from the cache ({source(hit)}, {age(hit.age_seconds)} old{stale}){saved}"


def source(hit: CacheHit) -> str:
    """The tier; of an answer to a similar task also how similar it is, and the task."""
    if hit.match is None:
        return hit.tier
    return f'{hit.tier}: {hit.match.similarity:.3f} like "{one_line(hit.match.task)}"'


def one_line(task: str) -> str:
    """A task on one line, without anything that would steer the terminal, and cut where it is long."""
    line = " ".join(clean_text(task).split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…"


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 step``, ``1,000 steps``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
