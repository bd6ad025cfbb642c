"""Metrics as a person reads them, and as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from claude_force.agents.cleaning import clean_text
from claude_force.cli.render import dollars
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.metrics.alerts import Alert
    from claude_force.metrics.queries import FailureCount, Group, Totals
    from claude_force.metrics.rows import CallRow

# A name that is longer is cut: the figures behind it are what the table is for.
_LONGEST_NAME: Final = 40
_HEAD: Final = (
    "calls",
    "failed",
    "cached",
    "p50",
    "p95",
    "p99",
    "tokens in",
    "out",
    "cost",
    "saved",
)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, names: int = 1) -> None:
    """Aligned columns: the first ``names`` to the left, figures to the right. Nothing in a cell steers the terminal."""
    table = [tuple(head), *(tuple(map(_cell, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (
            cell.ljust(width) if place < names else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join(cells).rstrip())


def print_groups(head: str, groups: Sequence[Group], names: Sequence[str]) -> None:
    """One line for each group."""
    rows = [(name, *_figures(group.totals)) for name, group in zip(names, groups, strict=True)]
    print_table((head, *_HEAD), rows)


def print_summary(totals: Totals, *, since: str, prompt_cache_usd: str | None) -> None:
    """Everything in a few lines."""
    retries = f", {totals.retries:,} retries" if totals.retries else ""
    click.echo(
        f"calls    {totals.calls:,} {since}; {percent(totals.success_rate)} succeeded, "
        f"{totals.failures:,} failed{retries}"
    )
    click.echo(
        f"latency  p50 {seconds(totals.p50_seconds)}, p95 {seconds(totals.p95_seconds)}, "
        f"p99 {seconds(totals.p99_seconds)} (complete answers of the API)"
    )
    read = f", {percent(totals.prompt_cache_rate)} of it from the prompt cache"
    click.echo(
        f"tokens   {_input(totals):,} in{read if totals.cache_read_tokens else ''}, {totals.output_tokens:,} out"
    )
    click.echo(f"cost     {cost(totals)}")
    click.echo(
        f"saved    {dollars(totals.saved_usd)} by the response cache: {totals.cached:,} {'answer' if totals.cached == 1 else 'answers'}, "
        f"{percent(totals.hit_rate)} of all"
    )
    if prompt_cache_usd is not None:
        click.echo(f"         {prompt_cache_usd} by the prompt cache")


def print_calls(calls: Sequence[CallRow]) -> None:
    """Single calls, one a line."""
    rows = [
        (
            moment(call.ended_at),
            call.agent_name,
            call.model,
            call.error_kind or (f"from {call.cached_tier}" if call.cached_tier else "ok"),
            call.call_id,
            seconds(call.seconds),
            f"{call.attempts}",
            dollars(call.cost_usd),
        )
        for call in calls
    ]
    head = ("ended (UTC)", "agent", "model", "outcome", "call", "took", "attempts", "cost")
    print_table(head, rows, names=5)


def print_failure_counts(counts: Sequence[FailureCount]) -> None:
    """How often each kind of error ended a call."""
    rows = [
        (one.error_kind, one.agent, f"{one.calls:,}", moment(one.last_at.timestamp()))
        for one in counts
    ]
    print_table(("error", "agent", "calls", "last (UTC)"), rows, names=2)


def print_alerts(alerts: Sequence[Alert]) -> None:
    """Every rule, those that fire first."""
    words = {"firing": "FIRING", "ok": "ok", "quiet": "too little data"}
    for alert in sorted(alerts, key=lambda alert: alert.state != "firing"):
        calls = counted(alert.calls, "call")
        line = f"{words[alert.state]:15}  {alert.rule:18}  {alert.text}; {calls}"
        click.echo(clean_text(line))


def totals_json(totals: Totals) -> dict[str, Any]:
    """Totals as JSON; dollars as text, so that no digit is lost."""
    return {
        "calls": totals.calls,
        "failures": totals.failures,
        "success_rate": totals.success_rate,
        "cached": totals.cached,
        "hit_rate": totals.hit_rate,
        "retries": totals.retries,
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "cache_read_tokens": totals.cache_read_tokens,
        "cache_write_tokens": totals.cache_write_tokens,
        "cost_usd": _plain(totals.cost_usd),
        "calls_without_price": totals.unpriced,
        "saved_usd": _plain(totals.saved_usd),
        "p50_seconds": totals.p50_seconds,
        "p95_seconds": totals.p95_seconds,
        "p99_seconds": totals.p99_seconds,
    }


def group_json(group: Group) -> dict[str, Any]:
    """A group as JSON: what it was grouped by, then its totals."""
    named = {"agent": group.agent, "model": group.model, "workflow": group.workflow}
    start = {} if group.start is None else {"start": group.start.isoformat()}
    keys = {name: value for name, value in named.items() if value is not None}
    return {**start, **keys, **totals_json(group.totals)}


def alert_json(alert: Alert) -> dict[str, Any]:
    """An alert as JSON."""
    return {
        "rule": alert.rule,
        "subject": alert.subject,
        "state": alert.state,
        "value": alert.value,
        "threshold": alert.threshold,
        "calls": alert.calls,
        "text": alert.text,
    }


def cost(totals: Totals) -> str:
    """Dollars, and how many calls are not in them."""
    if not totals.unpriced:
        return dollars(totals.cost_usd)
    calls = counted(totals.unpriced, "call")
    return f"{dollars(totals.cost_usd)} and {calls} whose price is unknown"


def seconds(value: float | None) -> str:
    """A duration with two or three digits that count."""
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 100 else f"{value:,.0f} s"


def percent(share: float | None) -> str:
    """A share; a few failures among many never read as none."""
    if share is None:
        return "-"
    rounded = f"{share:.1%}"
    return "99.9%" if rounded == "100.0%" and share < 1 else rounded.replace("100.0%", "100%")


def moment(epoch_seconds: float) -> str:
    """A moment of UTC."""
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _figures(totals: Totals) -> tuple[str, ...]:
    unpriced = f" + {totals.unpriced:,}?" if totals.unpriced else ""
    return (
        f"{totals.calls:,}",
        f"{totals.failures:,}",
        f"{totals.cached:,}",
        seconds(totals.p50_seconds),
        seconds(totals.p95_seconds),
        seconds(totals.p99_seconds),
        f"{_input(totals):,}",
        f"{totals.output_tokens:,}",
        f"{dollars(totals.cost_usd)}{unpriced}",
        dollars(totals.saved_usd),
    )


def _input(totals: Totals) -> int:
    return totals.input_tokens + totals.cache_read_tokens + totals.cache_write_tokens


def _plain(amount: object) -> str:
    return f"{amount:f}"


def _cell(value: str) -> str:
    text = " ".join(clean_text(value).split())
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"
