"""Runs, alerts, limits and breakers as HTML."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from claude_force.dashboard.markup import Cell, address, heads, link, note, pill, plain, table
from claude_force.dashboard.run_drawing import SIGNS, run_svg
from claude_force.dashboard.stores import Unreadable
from claude_force.reporting.numbers import dollars, duration
from claude_force.reporting.run_facts import step_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from claude_force.domain.runs import RunRecord
    from claude_force.metrics.alerts import Alert, AlertState
    from claude_force.resilience.shared_view import LimitSeen, SharedState

_ALERT_PILLS: Final[dict[AlertState, tuple[str, str]]] = {
    "firing": ("failed", "fires"),
    "ok": ("succeeded", "ok"),
    "quiet": ("waiting", "too little data"),
}
_MOST_ERRORS: Final = 5


def alerts_list(alerts: Sequence[Alert] | None) -> str:
    """What every rule says, those that fire first."""
    if alerts is None:
        return note("The rules are being asked …")
    order = {"firing": 0, "ok": 1, "quiet": 2}
    return _list(
        f"{pill(*_ALERT_PILLS[one.state])}<span class=what>{plain(one.text)}</span>"
        for one in sorted(alerts, key=lambda one: order[one.state])
    )


def limits_view(state: SharedState | Unreadable | None) -> str:
    """Breakers, pauses, what is left of the API's limits, and the processes that share them."""
    if isinstance(state, Unreadable):
        return note(plain(state.reason))
    if state is None:
        return note("Nothing is known yet: no run of this user has called the API.")
    items = []
    if state.user_limits.paused:
        items.append(f"{pill('stopped', 'paused')}<span class=what>no request is let out</span>")
    for key, breaker in state.breakers.items():
        opened = breaker.opened_at is not None
        shown = pill("failed", "open") if opened else pill("running", "closed")
        since = f" since {_clock(breaker.opened_at)}" if breaker.opened_at is not None else ""
        items.append(
            f"{shown}<span class=what>breaker {plain(key)}{since}, {breaker.failures} failures in a row</span>"
        )
    for key, until in state.blocked_until_epoch_seconds.items():
        items.append(
            f"{pill('failed', 'blocked')}<span class=what>{plain(key)} until {_clock(until)}</span>"
        )
    if not items:
        items.append(
            f"{pill('succeeded', 'healthy')}<span class=what>every breaker is closed</span>"
        )
    in_flight = sum(one.in_flight for one in state.processes)
    waiting = sum(one.waiting for one in state.processes)
    items.append(
        f"<span class=what>{len(state.processes)} processes: {in_flight} requests under way, {waiting} waiting; "
        f"at most {state.user_limits.max_concurrent or 'any number'} at once, "
        f"{state.user_limits.requests_per_minute or 'any number'} a minute</span>"
    )
    return _list(items) + _limits(state.limits) + _errors(state)


def runs_table(runs: Sequence[RunRecord], now: float) -> str:
    """The last runs, each leading to its graph."""
    if not runs:
        return note("No run is on record yet; <code>claude-force run workflow NAME</code> makes one.")  # fmt: skip
    rows = [
        (
            Cell(run.workflow_name, "name", f"/runs/{run.run_id}"),
            Cell(f"{SIGNS.get(run.state, '')} {run.state}", "nowrap", state=run.state),
            Cell(run.started_at.strftime("%d %b %H:%M:%S"), "nowrap wide"),
            Cell(run_duration(run, now), "n"),
            Cell(dollars(run.cost_usd), "n"),
        )
        for run in runs
    ]
    return table(
        heads("workflow", "state", "began", figures=("took", "cost"), wide=("began",)), rows
    )


def steps_table(run: RunRecord, elapsed: float) -> str:
    """The steps of a run, in the order of the definition."""
    rows = []
    for step in run.steps:
        taken = step_seconds(step, elapsed)
        rows.append(
            (
                Cell(step.step_id, "name"),
                Cell(step.agent_name, "name", address("/calls", agent=step.agent_name, days=7)),
                Cell(f"{SIGNS[step.state]} {step.state}", "nowrap", state=step.state),
                Cell(step.error_kind or step.reason or "", "name wide"),
                Cell("" if taken is None else duration(taken), "n"),
            )
        )
    return table(heads("step", "agent", "state", "why", figures=("took",), wide=("why",)), rows)


def elapsed_seconds(run: RunRecord, now: float) -> float | None:
    """Since the start of a run that goes on; None for one that has ended, and for one that was resumed."""
    if run.state != "running" or run.resumed:
        return None
    return max(0.0, now - run.started_at.timestamp())


def run_duration(run: RunRecord, now: float) -> str:
    """How long a run took, or has taken so far."""
    elapsed = elapsed_seconds(run, now)
    if elapsed is not None:
        return duration(elapsed)
    return "" if run.seconds is None else duration(run.seconds)


def live_runs(runs: Sequence[RunRecord], now: float) -> str:
    """The graphs of runs under way, each with its name above it."""
    return "".join(
        f'<p class="block">{run_link(run)} {pill(run.state)} {run_duration(run, now)}</p>'
        f'<div class="canvas">{run_svg(run, now_seconds=elapsed_seconds(run, now))}</div>'
        for run in runs
    )


def run_link(run: RunRecord) -> str:
    """The name of a run, leading to it."""
    return link(f"/runs/{run.run_id}", run.workflow_name)


def _limits(limits: Sequence[LimitSeen]) -> str:
    if not limits:
        return ""
    rows = "".join(
        f'<tr><td class="name" title="{plain(one.class_key)}">{plain(one.class_key.split(" at ")[0])}</td>'
        f"<td class=nowrap>{plain(one.kind)}</td>"
        f'<td><span class="meter" role="img" aria-label="{_free(one):.0%} free"><i style="width:{_free(one):.0%}"></i></span></td>'
        f"<td class=n>{one.free:,.0f} of {one.per_minute:,.0f}</td></tr>"
        for one in limits
    )
    return (
        '<div class="scroll"><table><thead><tr><th scope=col>limit</th><th scope=col>of</th>'
        "<th scope=col>free</th><th scope=col class=n>a minute</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _errors(state: SharedState) -> str:
    rows = [
        (
            Cell(one.kind, "nowrap"),
            Cell(one.class_key, "name wide"),
            Cell(_clock(one.last_at_epoch_seconds), "nowrap"),
            Cell(f"{one.count:,}", "n"),
        )
        for one in state.errors[:_MOST_ERRORS]
    ]
    return (
        table(heads("last errors", "of", "last", figures=("times",), wide=("of",)), rows)
        if rows
        else ""
    )


def _free(limit: LimitSeen) -> float:
    return min(max(limit.free / limit.per_minute, 0.0), 1.0) if limit.per_minute else 0.0


def _clock(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%H:%M:%S UTC")


def _list(items: Iterable[str]) -> str:
    return f'<ul class="list">{"".join(f"<li>{item}</li>" for item in items)}</ul>'
