"""Runs, alerts, limits and breakers as HTML."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from claude_force.dashboard.markup import (
    Cell,
    address,
    heads,
    link,
    note,
    pill,
    plain,
    short,
    table,
)
from claude_force.dashboard.run_drawing import SIGNS, run_svg, shown_state
from claude_force.dashboard.stores import Unreadable
from claude_force.reporting.graph_drawing import cut, one_line
from claude_force.reporting.numbers import counted, dollars, duration
from claude_force.reporting.run_facts import step_seconds
from claude_force.resilience.breaker import Phase
from claude_force.resilience.shared_view import SharedState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from claude_force.domain.runs import CallTotals, RunRecord, StepRecord
    from claude_force.metrics.alerts import Alert, AlertState
    from claude_force.resilience.shared_view import LimitSeen

_ALERT_PILLS: Final[dict[AlertState, tuple[str, str]]] = {
    "firing": ("failed", "fires"),
    "ok": ("succeeded", "ok"),
    "quiet": ("waiting", "too little data"),
}
_PHASES: Final = {
    Phase.CLOSED: "closed",
    Phase.OPEN: "open",
    Phase.PROBING: "probing",
    Phase.DUE: "probe due",
}
# Nothing but a probe that is under way gets through these.
_SHUT: Final = frozenset({Phase.OPEN, Phase.PROBING})
_PHASE_COLOURS: Final = {
    Phase.CLOSED: "running",
    Phase.OPEN: "failed",
    Phase.PROBING: "failed",
    Phase.DUE: "skipped",
}
# States in which a step has nothing more to do.
DONE: Final = frozenset({"succeeded", "failed", "skipped"})
_MOST_ERRORS: Final = 5
# Errors whose messages are figures and advice of ours. That of any other may quote what was asked or answered: an API
# that refuses a request says what it did not like in it.
_SAFE_TO_TELL: Final = frozenset({"budget_exceeded", "timeout"})
_WHY_CELLS: Final = 240
_STEP_HEADS: Final = heads(
    *("step", "agent", "state"),
    figures=("calls", "in", "out", "took", "cost"),
    wide=("agent", "calls", "in", "out"),
)


def alerts_list(alerts: Sequence[Alert] | None) -> str:
    """What every rule says, those that fire first."""
    if alerts is None:
        return note("The rules are being asked …")
    order = {"firing": 0, "ok": 1, "quiet": 2}
    judged = [one for one in alerts if one.calls or one.state != "quiet"]
    items = [
        f"{pill(*_ALERT_PILLS[one.state])}<span class=what>{plain(one.text)}</span>"
        for one in sorted(judged, key=lambda one: order[one.state])
    ]
    if unjudged := len(alerts) - len(judged):
        items.append(
            f"{pill('waiting', 'no calls')}<span class=what>{counted(unjudged, 'rule')} had nothing to look at</span>"
        )
    return _list(items)


def warnings_list(alerts: Sequence[Alert] | None, limits: SharedState | Unreadable | None) -> str:
    """What somebody should know first: runs that are paused, open breakers, alerts that fire. Empty when all is well."""
    items = []
    if isinstance(limits, SharedState):
        if limits.user_limits.paused:
            items.append(
                f"{pill('stopped', 'paused')}<span class=what>No request of any run is let out; "
                "<code>claude-force ctl resume</code> ends that.</span>"
            )
        items += [
            f"{pill('failed', _PHASES[phase])}<span class=what>The circuit breaker of {plain(key)} lets nothing through.</span>"
            for key in limits.breakers
            if (phase := limits.phase(key)) in _SHUT
        ]
    items += [
        f"{pill(*_ALERT_PILLS['firing'])}<span class=what>{plain(one.text)}</span>"
        for one in alerts or ()
        if one.state == "firing"
    ]
    return _list(items) if items else ""


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
        phase = state.phase(key)
        shown = pill(_PHASE_COLOURS[phase], _PHASES[phase])
        since = f" since {_clock(breaker.opened_at)}" if breaker.opened_at is not None else ""
        items.append(
            f"{shown}<span class=what>breaker of {plain(key)}{since}, {counted(breaker.failures, 'failure')} in a row</span>"
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
    going = f"{counted(in_flight, 'request')} under way, {waiting:,} waiting"
    if not state.processes:
        going = "no process is at work"
    elif len(state.processes) > 1:
        going += f", of {counted(len(state.processes), 'process')}es"
    items.append(f"{pill('waiting', 'now')}<span class=what>{going}</span>")
    bounds = [
        f"{bound:,} {what}"
        for bound, what in (
            (state.user_limits.max_concurrent, "at once"),
            (state.user_limits.requests_per_minute, "a minute"),
        )
        if bound
    ]
    said = f"at most {', '.join(bounds)}" if bounds else "none of yours; the API's are kept to"
    items.append(f"{pill('waiting', 'bounds')}<span class=what>{said}</span>")
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
    """The steps of a run, in the order of the definition, each leading to its calls."""
    rows: list[tuple[Cell, ...]] = []
    for step in run.steps:
        taken = step_seconds(step, elapsed)
        state = shown_state(step.state, run)
        rows.append(
            (
                Cell(step.step_id, "name", address("/calls", run=run.run_id, step=step.step_id)),
                Cell(
                    step.agent_name, "name wide", address("/calls", agent=step.agent_name, days=7)
                ),
                Cell(f"{SIGNS[state]} {state}", "nowrap", state=state),
                *_tokens(step.totals),
                Cell("" if taken is None else duration(taken), "n"),
                Cell("" if step.totals is None else dollars(step.totals.cost_usd), "n"),
            )
        )
        if why := _why(step):
            rows.append((Cell(why),))
    return table(_STEP_HEADS, rows)


def _why(step: StepRecord) -> str:
    """Why a step has no answer, as far as that can be told without what was asked and answered."""
    if step.error_kind is None:
        return step.reason or ""
    if step.error_kind not in _SAFE_TO_TELL or not step.error_message:
        return step.error_kind
    return cut(f"{step.error_kind}: {one_line(step.error_message)}", _WHY_CELLS)


def _tokens(totals: CallTotals | None) -> Iterator[Cell]:
    """Calls, and tokens that were read and written."""
    figures: tuple[int, ...] = ()
    if totals is not None:
        figures = (totals.calls, totals.usage.total_input_tokens, totals.usage.output_tokens)
    for place in range(3):
        yield Cell(f"{figures[place]:,}" if figures else "", "n wide")


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
    """The graphs of runs under way, each with its name and figures above it."""
    return "".join(
        f'<p class="run-line">{run_link(run)} {pill(run.state, f"{SIGNS[run.state]} {run.state}")}'
        f'<span class="note">{" · ".join(_figures(run, now))}</span></p>'
        f'<div class="canvas" tabindex="0" role="region" aria-label="Graph of {plain(run.workflow_name)}">{run_svg(run, now_seconds=elapsed_seconds(run, now))}</div>'
        for run in runs
    )


def _figures(run: RunRecord, now: float) -> Iterator[str]:
    done = sum(step.state in DONE for step in run.steps)
    yield f"{done} of {counted(len(run.steps), 'step')}"
    if took := run_duration(run, now):
        yield took
    yield dollars(run.cost_usd)


def run_link(run: RunRecord) -> str:
    """The name of a run, leading to it."""
    return link(f"/runs/{run.run_id}", run.workflow_name)


def _limits(limits: Sequence[LimitSeen]) -> str:
    if not limits:
        return ""
    rows = "".join(
        f'<tr><td class="name" title="{plain(one.class_key)}">{plain(one.class_key.split(" at ")[0])}</td>'
        f"<td class=nowrap>{plain(one.kind.replace('_', ' '))}</td>"
        f'<td class=wide><span class="meter" role="img" aria-label="{_free(one):.0%} free"><i style="width:{_free(one):.0%}"></i></span></td>'
        f"<td class=n>{short(one.free)} of {short(one.per_minute)}</td></tr>"
        for one in limits
    )
    return (
        '<div class="scroll"><table><thead><tr><th scope=col>model</th><th scope=col>limit of the API</th>'
        "<th scope=col class=wide>free</th><th scope=col class=n>left per minute</th></tr></thead>"
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
