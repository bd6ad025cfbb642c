"""``metrics savings``: what the same calls would have cost without caches, batches and fallbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from claude_force.cli.durations import age
from claude_force.cli.metrics_options import nothing_recorded, opened, query_options, tell_how
from claude_force.cli.render import dollars, print_json

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

    from claude_force.metrics.savings import Savings

_WIDTH = 16


@click.command()
@query_options
def savings(  # noqa: PLR0917 - click passes options by name
    since: float,
    agent: str | None,
    explain: bool,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Show what the same calls would have cost without caches, batches and fallbacks, line by line."""
    with opened(folder, simulated=simulated) as reader:
        answer = reader.savings(since, agent=agent)
    if as_json:
        began = None if answer.since is None else answer.since.isoformat()
        print_json({"since": began, **savings_json(answer.value)})
    elif not answer.value.calls:
        click.echo(nothing_recorded(since, agent, folder, simulated=simulated))
    else:
        _print(answer.value, since=age(since))
    tell_how(answer, explain=explain)


def savings_json(found: Savings) -> dict[str, object]:
    """Savings as JSON; dollars as text, so that no digit is lost."""
    return {
        "calls": found.calls,
        "calls_without_comparison": found.uncompared,
        "naive_usd": f"{found.naive_usd:f}",
        "saved_by_response_cache_usd": f"{found.response_cache_usd:f}",
        "saved_by_prompt_cache_usd": f"{found.prompt_cache_usd:f}",
        "saved_by_batches_usd": f"{found.batch_usd:f}",
        "saved_by_fallbacks_usd": f"{found.fallback_usd:f}",
        "actual_usd": f"{found.actual_usd:f}",
        "saved_share": found.share,
    }


def _print(found: Savings, *, since: str) -> None:
    _line(
        "asked plainly",
        found.naive_usd,
        f"{found.calls:,} {'call' if found.calls == 1 else 'calls'} in the last {since}",
    )
    for name, saved in found.lines.items():
        _line(name, -saved, _share(-saved, found.naive_usd))
    _line("paid", found.actual_usd, _share(found.actual_usd, found.naive_usd))
    if found.uncompared:
        click.echo(
            f"{found.uncompared:,} calls are in no line but the last: what they would have cost is not known."
        )


def _line(name: str, amount: Decimal, note: str) -> None:
    sign = "-" if amount < 0 else " "
    click.echo(f"{name:{_WIDTH}}{sign}{dollars(abs(amount)):<12}  {note}".rstrip())


def _share(amount: Decimal, naive: Decimal) -> str:
    return f"{amount / naive:.1%}" if amount and naive else ""
