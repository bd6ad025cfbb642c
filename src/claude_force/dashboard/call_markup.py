"""Calls and their figures as HTML: tiles, agents, savings, single calls."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from claude_force.dashboard.markup import Cell, address, heads, note, plain, short, table, tiles
from claude_force.reporting.numbers import dollars, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from claude_force.dashboard.overview import Overview
    from claude_force.metrics.queries import FailureCount, Totals
    from claude_force.metrics.rows import CallRow
    from claude_force.metrics.savings import Savings

NO_CALLS: Final = "No calls were recorded in that time."
# As wide as a plus, and so as a digit.
_MINUS: Final = "\N{MINUS SIGN}"
_MOST_AGENTS: Final = 12
_MOST_KINDS: Final = 8
_AGENT_HEADS: Final = heads(
    "agent",
    figures=("calls", "failed", "cached", "p50", "p95", "cost"),
    wide=("cached", "p50"),
)
_CALL_HEADS: Final = heads(
    *("ended", "agent", "model", "outcome", "step"),
    figures=("took", "tries", "in", "out", "cost"),
    wide=("model", "step", "tries", "in", "out"),
)


def overview_tiles(overview: Overview) -> str:
    """The figures that the page begins with."""
    totals = overview.totals
    unpriced = f", {totals.unpriced:,} without a price" if totals.unpriced else ""
    per_minute = sum(one.answered + one.cached + one.failed for one in overview.minutes) / 60
    return tiles(
        (
            ("Calls", f"{totals.calls:,}", f"{per_minute:,.1f} a minute in the last hour"),
            ("Succeeded", _share(totals.success_rate), f"{totals.failures:,} failed"),
            ("Median latency", _seconds(totals.p50_seconds), "half of the answers are quicker"),
            ("95th percentile", _seconds(totals.p95_seconds), f"99th {_seconds(totals.p99_seconds)}"),
            ("Spent", dollars(totals.cost_usd), f"{_tokens(totals)}{unpriced}"),
            ("Saved", dollars(overview.savings.saved_usd), f"{_share(totals.hit_rate)} of the answers cached"),
        )
    )  # fmt: skip


def agents_table(overview: Overview) -> str:
    """The dearest agents, each leading to its calls."""
    if not overview.agents:
        return note(NO_CALLS)
    rows = []
    for group in overview.agents[:_MOST_AGENTS]:
        totals, agent = group.totals, group.agent or ""
        href = address("/calls", agent=agent, days=overview.days)
        failed = address("/calls", agent=agent, days=overview.days, state="failed")
        rows.append(
            (
                Cell(agent, "name", href),
                Cell(f"{totals.calls:,}", "n"),
                Cell(f"{totals.failures:,}", "n", failed if totals.failures else None),
                Cell(_share(totals.hit_rate), "n wide"),
                Cell(_seconds(totals.p50_seconds), "n wide"),
                Cell(_seconds(totals.p95_seconds), "n"),
                Cell(dollars(totals.cost_usd), "n"),
            )
        )
    shown = table(_AGENT_HEADS, rows)
    more = len(overview.agents) - len(rows)
    return shown + (f'<p class="note block">and {more:,} more agents</p>' if more > 0 else "")


def savings_table(savings: Savings) -> str:
    """What the same answers would have cost asked plainly, and what took it off."""
    if not savings.calls:
        return note(NO_CALLS)
    lines = [("asked plainly", savings.naive_usd)]
    lines += [(f"less {name}", -amount) for name, amount in savings.lines.items()]
    lines.append(("paid", savings.actual_usd))
    rows = [
        (Cell(name), Cell(_part(amount, savings.naive_usd), "n"), Cell(_signed(amount), "n"))
        for name, amount in lines
    ]
    compared = (
        f'<p class="note block">{savings.uncompared:,} calls could not be compared</p>'
        if savings.uncompared
        else ""
    )
    return table(heads("", figures=("share", "dollars")), rows, sum_last=True) + compared


def failures_table(failures: Sequence[FailureCount], days: int) -> str:
    """Which errors ended calls, each leading to them."""
    if not failures:
        return note("No call failed in that time.")
    rows = [
        (
            Cell(
                one.error_kind,
                "name",
                address("/calls", kind=one.error_kind, agent=one.agent, state="failed", days=days),
            ),
            Cell(one.agent, "name"),
            Cell(_moment(one.last_at), "nowrap wide"),
            Cell(f"{one.calls:,}", "n"),
        )
        for one in failures[:_MOST_KINDS]
    ]
    return table(heads("error", "agent", "last", figures=("calls",), wide=("last",)), rows)


def calls_table(calls: Sequence[CallRow], narrowed: Callable[[str, str], str | None]) -> str:
    """Single calls. What was asked and answered is not kept with them.

    Args:
        calls: in the order in which they are shown.
        narrowed: the address of those of them that have a value, by "agent" or "model" and the value; None where all have it.
    """
    if not calls:
        return note("No such call is on record.")
    return table(_CALL_HEADS, [_call_row(call, narrowed) for call in calls])


def _call_row(call: CallRow, narrowed: Callable[[str, str], str | None]) -> tuple[Cell, ...]:
    read = call.input_tokens + call.cache_read_tokens + call.cache_write_tokens
    return (
        Cell(_moment(datetime.fromtimestamp(call.ended_at, UTC)), "nowrap"),
        Cell(call.agent_name, "name", narrowed("agent", call.agent_name)),
        Cell(call.model, "name wide", narrowed("model", call.model)),
        _outcome(call),
        Cell(call.step_id or call.workflow_name or "", "name wide", f"/runs/{call.run_id}" if call.run_id else None),
        Cell(duration(call.seconds), "n"),
        Cell(str(call.attempts), "n wide"),
        Cell(f"{read:,}", "n wide"),
        Cell(f"{call.output_tokens:,}", "n wide"),
        Cell("?" if call.cost_usd is None else dollars(call.cost_usd), "n"),
    )  # fmt: skip


def _outcome(call: CallRow) -> Cell:
    if call.error_kind is not None:
        return Cell(call.error_kind, "nowrap", state="failed")
    if call.cached_tier is not None:
        return Cell(f"cached ({call.cached_tier})", "nowrap", state="cached")
    return Cell("answered", "nowrap", state="answered")


def filter_chips(chosen: Sequence[tuple[str, str, str]]) -> str:
    """What the calls are filtered by, each a link to the same without it: name, value, address."""
    return (
        '<div class="chips">'
        + "".join(
            f'<a href="{plain(href)}" aria-label="Remove the filter {plain(name)}">{plain(name)}: <b>{plain(value)}</b> ✕</a>'
            for name, value, href in chosen
        )
        + "</div>"
    )


def _moment(when: datetime) -> str:
    return when.strftime("%d %b %H:%M:%S")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else duration(value)


def _tokens(totals: Totals) -> str:
    read = totals.input_tokens + totals.cache_read_tokens + totals.cache_write_tokens
    return f"{short(read)} tokens in, {short(totals.output_tokens)} out"


def _part(amount: Decimal, whole: Decimal) -> str:
    return f"{abs(amount) / whole:.1%}" if whole else "-"


def _signed(amount_usd: object) -> str:
    value = float(str(amount_usd))
    digits = 2 if abs(value) >= 1 or value == 0 else 4
    return f"{_MINUS if value < 0 else ''}${abs(value):,.{digits}f}"
