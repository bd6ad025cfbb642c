"""Forecasts on the terminal and as JSON: what those of workflows and of maps have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from claude_force.agents.cleaning import clean_text
from claude_force.cli.render import dollars, terminal_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from claude_force.workflows.plan_values import Forecast, PlannedCalls
    from claude_force.workflows.spans import DollarSpan, Span

FIGURES: Final = ("calls", "tokens in", "tokens out", "expected", "at most")


def print_forecast(
    names: Sequence[str], rows: Iterable[Sequence[str]], found: Forecast, *, left: int
) -> None:
    """A table with a row for each part, and the sums under it.

    Args:
        names: headers of the columns before the `FIGURES`.
        rows: cells of all columns.
        found: has the sums.
        left: how many columns hold texts.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True, padding=(0, 1))
    headers = (*names, *FIGURES)
    footers = ("total", *[""] * (len(names) - 1), *figures(found))
    for number, (header, footer) in enumerate(zip(headers, footers, strict=True)):
        table.add_column(
            header,
            footer,
            justify="left" if number < left else "right",
            no_wrap=number >= left,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(clean_text(cell)) for cell in row))
    Console(width=terminal_width(), highlight=False).print(table)


def figures(found: Forecast | PlannedCalls) -> tuple[str, ...]:
    """The cells of `FIGURES`."""
    cost = found.cost_usd
    return (
        count(found.calls),
        f"{found.input_tokens.expected:,}",
        f"{found.output_tokens.expected:,}",
        _amount(cost.expected),
        _amount(cost.most),
    )


def saving_remarks(found: Forecast) -> list[str]:
    """What the caches save."""
    lines, expected = [], found.cost_usd.expected
    if found.cached_calls and not found.all_cached:
        lines.append(
            "1 answer is in the cache and costs nothing."
            if found.cached_calls == 1
            else f"{found.cached_calls:,} answers are in the cache and cost nothing."
        )
    saving = found.prompt_cache_saving_usd
    if saving and expected is not None:
        lines.append(
            f"The prompt cache is expected to save {dollars(saving)}; without it, {dollars(expected + saving)} are expected."
        )
    return lines


def how_long(seconds: float) -> str:
    """An estimate of a duration."""
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )


def count(span: Span) -> str:
    """The range of a count of calls."""
    if span.most is None:
        return f"{span.least:,} or more"
    return f"{span.most:,}" if span.least == span.most else f"{span.least:,}-{span.most:,}"


def totals_json(found: Forecast) -> dict[str, Any]:
    """The sums of a plan."""
    return {
        "all_cached": found.all_cached,
        **figures_json(found),
        "unpriced_models": list(found.unpriced_models),
    }


def figures_json(found: Forecast | PlannedCalls) -> dict[str, Any]:
    """What a plan and each part of it have."""
    return {
        "calls": _span_json(found.calls),
        "cached_calls": found.cached_calls,
        "input_tokens": _span_json(found.input_tokens),
        "output_tokens": _span_json(found.output_tokens),
        "cost_usd": _dollars_json(found.cost_usd),
        "prompt_cache_saving_usd": amount_json(found.prompt_cache_saving_usd),
    }


def amount_json(amount: Decimal | None) -> str | None:
    """Dollars as text, so that no digit is lost."""
    return None if amount is None else str(amount)


def _amount(cost_usd: Decimal | None) -> str:
    return "unknown" if cost_usd is None else dollars(cost_usd)


def _span_json(span: Span) -> dict[str, int | None]:
    return {"least": span.least, "expected": span.expected, "most": span.most}


def _dollars_json(span: DollarSpan) -> dict[str, str | None]:
    return {
        "least": amount_json(span.least),
        "expected": amount_json(span.expected),
        "most": amount_json(span.most),
    }
