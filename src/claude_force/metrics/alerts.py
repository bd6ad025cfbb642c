"""Whether something is wrong: rules over what the calls of the last time came to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from claude_force.metrics.baseline import MIN_CALLS, Usual, lower_bound, usual
from claude_force.metrics.queries import totals_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from claude_force.config.settings import AlertSettings
    from claude_force.metrics.anomalies import Anomaly
    from claude_force.metrics.cells import Cell
    from claude_force.metrics.queries import Totals

# "quiet": too little data to say.
AlertState: TypeAlias = Literal["ok", "firing", "quiet"]

# An alert that fires goes on until its figure is this far back below where it began, so that it does not flap.
_UNTIL: Final = 0.9
# A share that fires has to be certain (99 %) to be above this part of its threshold: three of thirty are chance.
_CERTAIN: Final = 0.7
# A figure that is compared with earlier days has to be this many standard deviations above them, too.
_FAR: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One rule, and what it found."""

    rule: str
    # The agent and the measure of an anomaly; empty for a rule over all calls.
    subject: str = ""
    state: AlertState
    # The figure, and from where on it fires; None where there is none.
    value: float | None
    threshold: float | None
    # Calls that the figure rests on.
    calls: int
    # In words.
    text: str

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other alert."""
        return self.rule, self.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the rules look at."""

    five_minutes: Cell
    hour: Cell
    day: Cell
    # The days before, those without a call left out; and the anomalies of the last whole hour.
    earlier_days: Sequence[Cell]
    anomalies: Sequence[Anomaly] = ()


def evaluate(
    observed: Observed, settings: AlertSettings, firing: Collection[tuple[str, str]] = ()
) -> tuple[Alert, ...]:
    """Every rule that is on, and an alert for each anomaly. ``firing`` has the keys of those that fire already."""
    rules: dict[str, Callable[[Observed, float, bool], Alert]] = {
        "error_rate": _error_rate,
        "success_rate": _success_rate,
        "p95_seconds": _p95,
        "cost_factor": _cost,
        "latency_regression": _regression,
        "cache_miss_rate": _cache_misses,
    }
    found = [
        rule(observed, threshold, (name, "") in firing)
        for name, rule in rules.items()
        if (threshold := getattr(settings, name)) is not None
    ]
    if settings.anomalies:
        found += map(_of_anomaly, observed.anomalies)
    return tuple(found)


def _error_rate(observed: Observed, threshold: float, fired: bool) -> Alert:  # noqa: FBT001 - the form of a rule
    totals = totals_of(observed.five_minutes)
    rate = _failure_rate(totals)
    return Alert(
        rule="error_rate",
        state=_share_state(totals.failures, totals.calls, threshold, fired=fired),
        value=rate,
        threshold=threshold,
        calls=totals.calls,
        text="no call in 5 minutes"
        if rate is None
        else f"{rate:.1%} of the calls of 5 minutes failed (more than {threshold:.0%} fires)",
    )


def _success_rate(observed: Observed, threshold: float, fired: bool) -> Alert:  # noqa: FBT001 - as above
    totals = totals_of(observed.day)
    rate = totals.success_rate
    return Alert(
        rule="success_rate",
        state=_share_state(totals.failures, totals.calls, 1 - threshold, fired=fired),
        value=rate,
        threshold=threshold,
        calls=totals.calls,
        text="no call in 24 hours"
        if rate is None
        else f"{rate:.1%} of the calls of 24 hours succeeded (less than {threshold:.0%} fires)",
    )


def _p95(observed: Observed, threshold: float, fired: bool) -> Alert:  # noqa: FBT001 - as above
    totals = totals_of(observed.hour)
    value = totals.p95_seconds
    calls = totals.calls - totals.failures - totals.cached
    return Alert(
        rule="p95_seconds",
        state=_state(value, threshold, calls, fired=fired),
        value=value,
        threshold=threshold,
        calls=calls,
        text="no answer of the API in an hour"
        if value is None
        else f"95% of the answers of an hour took at most {value:.1f} s (more than {threshold:g} s fires)",
    )


def _cost(observed: Observed, threshold: float, fired: bool) -> Alert:  # noqa: FBT001 - as above
    totals = totals_of(observed.day)
    spent = float(totals.cost_usd)
    expected = _usual_of(observed, lambda day: float(day.cost_usd))
    factor = spent / expected.middle if expected and expected.middle else None
    said = "too few days to know the usual" if factor is None else f"{factor:.1f} times the usual"
    return Alert(
        rule="cost_factor",
        state=_state(factor, threshold, totals.calls, fired=fired, far=_is_far(spent, expected)),
        value=factor,
        threshold=threshold,
        calls=totals.calls,
        text=f"${spent:.2f} in 24 hours, {said} (more than {threshold:g} times fires)",
    )


def _regression(observed: Observed, threshold: float, fired: bool) -> Alert:  # noqa: FBT001 - as above
    totals = totals_of(observed.day)
    expected = _usual_of(observed, lambda day: day.p50_seconds)
    median, value = totals.p50_seconds, None
    if median is not None and expected is not None and expected.middle:
        value = median / expected.middle - 1
    said = "too few days to know the usual" if value is None else f"{value:+.0%} to the usual"
    return Alert(
        rule="latency_regression",
        state=_state(
            value,
            threshold,
            totals.calls - totals.failures - totals.cached,
            fired=fired,
            far=median is not None and _is_far(median, expected),
        ),
        value=value,
        threshold=threshold,
        calls=totals.calls - totals.failures - totals.cached,
        text="no answer of the API in 24 hours"
        if median is None
        else f"half of the answers of 24 hours took at most {median:.1f} s, {said} (more than {threshold:+.0%} fires)",
    )


def _cache_misses(observed: Observed, threshold: float, fired: bool) -> Alert:  # noqa: FBT001 - as above
    totals = totals_of(observed.day)
    answered = totals.calls - totals.failures
    value = _miss_rate(totals)
    expected = _usual_of(observed, _miss_rate)
    # A cache that never had much is not news.
    useful = expected is not None and expected.middle <= threshold
    return Alert(
        rule="cache_miss_rate",
        state=_state(
            value if useful else None,
            threshold,
            answered,
            fired=fired,
            far=value is not None and _is_far(value, expected),
        ),
        value=value,
        threshold=threshold,
        calls=answered,
        text="no answer in 24 hours"
        if value is None
        else f"{value:.1%} of the answers of 24 hours were not in the cache "
        f"(more than {threshold:.0%} fires, where fewer are usual)",
    )


def _of_anomaly(anomaly: Anomaly) -> Alert:
    figures = {
        "latency": f"half of the answers took at most {anomaly.value:.1f} s, usually {anomaly.usual:.1f} s",
        "errors": f"{anomaly.value:.0%} of the calls failed, usually {anomaly.usual:.0%}",
        "cost": f"${anomaly.value:.4f} a call, usually ${anomaly.usual:.4f}",
    }
    return Alert(
        rule="anomaly",
        subject=f"{anomaly.agent} {anomaly.measure}",
        state="firing",
        value=anomaly.value,
        threshold=None,
        calls=anomaly.calls,
        text=f"{anomaly.agent}: {figures[anomaly.measure]} at this time of the day",
    )


def _share_state(count: int, of: int, threshold: float, *, fired: bool) -> AlertState:
    certain = lower_bound(count, of) > _CERTAIN * threshold
    return _state(count / of if of else None, threshold, of, fired=fired, far=certain)


def _state(
    value: float | None, threshold: float, calls: int, *, fired: bool, far: bool = True
) -> AlertState:
    if value is None or calls < MIN_CALLS:
        return "quiet"
    if fired:
        return "firing" if value > threshold * _UNTIL else "ok"
    return "firing" if value > threshold and far else "ok"


def _usual_of(observed: Observed, figure: Callable[[Totals], float | None]) -> Usual | None:
    days = (figure(totals_of(day)) for day in observed.earlier_days)
    return usual([value for value in days if value is not None])


def _is_far(value: float, expected: Usual | None) -> bool:
    return expected is not None and value > expected.middle + _FAR * expected.spread


def _failure_rate(totals: Totals) -> float | None:
    return totals.failures / totals.calls if totals.calls else None


def _miss_rate(totals: Totals) -> float | None:
    return None if totals.hit_rate is None else 1 - totals.hit_rate
