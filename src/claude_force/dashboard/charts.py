"""Figures as options of Apache ECharts. Text takes its colour from the page's style, for light and dark alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from claude_force.reporting.graph_drawing import cut, one_line
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from claude_force.dashboard.overview import Overview, Step
    from claude_force.metrics.browsing import CallState, Minute
    from claude_force.metrics.queries import Group, Groups

Options = dict[str, Any]

# Seen well on white and on nearly black, and told apart without red and green.
_BLUE: Final = "#3f7fe0"
_VIOLET: Final = "#8b6fe8"
_ORANGE: Final = "#e08a2e"
_RED: Final = "#d6483d"
_TEAL: Final = "#2a9d8f"
_SERIES: Final = (_BLUE, _ORANGE, _TEAL, _VIOLET, "#c85a94", "#7d9a2c", "#5f7f95", "#a6794a")
_GREY: Final = "#8a93a5"
# That of the page: widths of texts are measured with it.
_FONT: Final = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif'
)
_LINE: Final = "rgba(128,138,156,0.28)"
# Agents beyond these are one: a ninth colour would not be told from the others.
_MOST_AGENTS: Final = 8
OTHERS: Final = "other agents"
NOTHING_SPENT: Final = "Nothing was spent in that time"
# Which calls the series of `calls_per_minute` are.
STATES_OF_A_MINUTE: Final[tuple[CallState, ...]] = ("answered", "cached", "failed")
_NAME_CELLS: Final = 22


def calls_per_minute(minutes: Sequence[Minute]) -> Options:
    """Answered, cached and failed calls of each minute, one on the other."""
    # In the order of STATES_OF_A_MINUTE.
    counts = {
        "answered": ([one.answered for one in minutes], _BLUE),
        "from the cache": ([one.cached for one in minutes], _TEAL),
        "failed": ([one.failed for one in minutes], _RED),
    }
    return {
        **_frame([_clock(one.start) for one in minutes], _of_minutes(counts), whole=True),
        **_said(
            "No calls in the last hour", empty=not any(sum(values) for values, _ in counts.values())
        ),
        "series": [
            {
                "name": name,
                "type": "bar",
                "stack": "calls",
                "data": values,
                "itemStyle": {"color": colour},
                "barCategoryGap": "15%",
                "animation": False,
            }
            for name, (values, colour) in counts.items()
        ],
    }


def latency(groups: Groups, step: Step) -> Options:
    """Percentiles of each hour or day; where the API gave no answer there is a gap."""
    percentiles = {
        "p50": ([one.totals.p50_seconds for one in groups], _BLUE),
        "p95": ([one.totals.p95_seconds for one in groups], _ORANGE),
        "p99": ([one.totals.p99_seconds for one in groups], _RED),
    }
    return {
        **_frame(
            [moment(one, step) for one in groups],
            f"Median, 95th and 99th percentile of the latency by {step}, over {counted(len(groups), step)}.",
            unit=" s",
        ),
        **_said(
            "No answers of the API in that time",
            empty=all(value is None for values, _ in percentiles.values() for value in values),
        ),
        "series": [
            {
                "name": name,
                "type": "line",
                "data": [None if value is None else round(value, 3) for value in values],
                "itemStyle": {"color": colour},
                "lineStyle": {"width": 2},
                # A point alone would not be seen as a line.
                "showSymbol": len(groups) <= 48,
                "symbolSize": 5,
                "animation": False,
            }
            for name, (values, colour) in percentiles.items()
        ],
    }


def cost_by_day(overview: Overview) -> Options:
    """Dollars of each day of UTC, by agent; the dearest agents by name, the others together.

    Its legend is `cost_by_agent`, whose bars have the same colours.
    """
    names = named_agents(overview.agents)
    days: dict[str, dict[str, float]] = {}
    for group in overview.by_day_and_agent:
        name = group.agent if group.agent in names else OTHERS
        spent = days.setdefault(moment(group, "day"), {})
        spent[name or ""] = spent.get(name or "", 0.0) + float(group.totals.cost_usd)
    shown = names + [OTHERS] * any(OTHERS in spent for spent in days.values())
    return {
        **_frame(
            list(days),
            "Dollars by day: " + _spoken((day, sum(spent.values())) for day, spent in days.items()),
            money=True,
            legend=False,
            long=False,
        ),
        **_said(NOTHING_SPENT, empty=not any(any(spent.values()) for spent in days.values())),
        "series": [
            {
                "name": cut(one_line(name), _NAME_CELLS),
                "type": "bar",
                "stack": "dollars",
                "data": [round(spent.get(name, 0.0), 6) for spent in days.values()],
                "itemStyle": {"color": _GREY if name == OTHERS else _SERIES[place]},
                "barMaxWidth": 44,
                "animation": False,
            }
            for place, name in enumerate(shown)
        ],
    }


def cost_by_agent(groups: Groups) -> Options:
    """Dollars of each of the dearest agents, the dearest at the top; the others together are the last bar."""
    bars = [
        (cut(one_line(one.agent or ""), _NAME_CELLS), float(one.totals.cost_usd), _SERIES[place])
        for place, one in enumerate(groups[:_MOST_AGENTS])
    ]
    if others := groups[_MOST_AGENTS:]:
        bars.append((OTHERS, float(sum(one.totals.cost_usd for one in others)), _GREY))
    described = "Dollars by agent: " + _spoken((name, spent) for name, spent, _ in bars)
    # The axis begins at the bottom.
    bars.reverse()
    return {
        **_base(described, money=True),
        **_said(NOTHING_SPENT, empty=not any(spent for _, spent, _ in bars)),
        "legend": {"show": False},
        "grid": {"left": 16, "right": 72, "top": 8, "bottom": 8, "containLabel": True},
        "xAxis": {
            "type": "value",
            "axisLabel": {"show": False},
            "splitLine": {"show": False},
        },
        "yAxis": {
            "type": "category",
            "data": [name for name, _, _ in bars],
            "axisLine": {"show": False},
            "axisTick": {"show": False},
        },
        "series": [
            {
                "name": "dollars",
                "type": "bar",
                "data": [
                    {
                        "value": round(spent, 6),
                        "label": {"formatter": _dollars(spent)},
                        "itemStyle": {"color": colour},
                    }
                    for _, spent, colour in bars
                ],
                "itemStyle": {"borderRadius": [0, 3, 3, 0]},
                # A colour of its own, or it is drawn with an outline.
                "label": {"show": True, "position": "right", "color": _GREY},
                "barMaxWidth": 22,
                "animation": False,
            }
        ],
    }


def named_agents(groups: Groups) -> list[str]:
    """The agents that `cost_by_day` has a series of, in that order; behind them are the others."""
    return [one.agent or "" for one in groups][:_MOST_AGENTS]


def agent_of_bar(groups: Groups, place: int) -> str | None:
    """The agent of a point of `cost_by_agent`; None for the others together."""
    names: list[str | None] = [*named_agents(groups)]
    if len(groups) > _MOST_AGENTS:
        names.append(None)
    return names[len(names) - 1 - place]


def moment(group: Group, step: Step) -> str:
    """The hour or day of a group, in UTC."""
    if group.start is None:
        return ""
    return group.start.strftime("%d %b %H:00" if step == "hour" else "%d %b").lstrip("0")


def _base(described: str, *, money: bool = False, unit: str = "") -> Options:
    # Values of ours only: ECharts puts them into a template of its own, in which names are escaped.
    shown = (
        "(value) => value == null ? '-' : '$' + Number(value).toFixed(value < 1 ? 4 : 2)"
        if money
        else f"(value) => value == null ? '-' : Number(value).toLocaleString() + {unit!r}"
    )
    return {
        # In place of the library's own description, which reads every number aloud.
        "aria": {"enabled": True, "label": {"description": described}},
        "textStyle": {"fontFamily": _FONT},
        "tooltip": {
            "trigger": "axis",
            "axisPointer": {"type": "shadow"},
            "confine": True,
            "className": "tip",
            ":valueFormatter": shown,
        },
    }


def _said(text: str, *, empty: bool) -> Options:
    """A remark in place of what is not there. It is always an option: one that is left out would stay as it was."""
    style = {"fontSize": 13, "fontWeight": "normal", "color": _GREY}
    return {
        "title": {
            "text": text if empty else "",
            "left": "center",
            "top": "middle",
            "textStyle": style,
        }
    }


def _frame(
    labels: Sequence[str],
    described: str,
    *,
    whole: bool = False,
    money: bool = False,
    unit: str = "",
    legend: bool = True,
    long: bool = True,
) -> Options:
    axis: Mapping[str, Any] = {":formatter": "(value) => '$' + value"} if money else {}
    return {
        **_base(described, money=money, unit=unit),
        "legend": {
            "show": legend,
            "type": "scroll",
            "top": 0,
            "left": 0,
            "itemWidth": 12,
            "itemHeight": 8,
            "icon": "roundRect",
        },
        "grid": {
            "left": 4,
            "right": 12,
            "top": 38 if legend else 14,
            "bottom": 4,
            "containLabel": True,
        },
        "xAxis": {
            "type": "category",
            "data": list(labels),
            "axisLine": {"lineStyle": {"color": _LINE}},
            "axisTick": {"show": False},
            "axisLabel": {
                "hideOverlap": True,
                "alignMinLabel": "left" if long else "center",
                "alignMaxLabel": "right" if long else "center",
            },
        },
        "yAxis": {
            "type": "value",
            "minInterval": 1 if whole else 0,
            "splitLine": {"lineStyle": {"color": _LINE}},
            "axisLabel": dict(axis) or {"formatter": f"{{value}}{unit}"},
        },
    }


def _of_minutes(counts: Mapping[str, tuple[Sequence[int], str]]) -> str:
    parts = [f"{sum(values):,} {name}" for name, (values, _) in counts.items()]
    return f"Calls per minute in the last hour, together {', '.join(parts)}."


def _spoken(amounts: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {_dollars(amount)}" for name, amount in amounts) or "none"


def _clock(epoch_seconds: int) -> str:
    minute = epoch_seconds // 60
    return f"{minute // 60 % 24:02}:{minute % 60:02}"


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.4f}"
