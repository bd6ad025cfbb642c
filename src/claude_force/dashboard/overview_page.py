"""The first page: what calls take, cost and save, what is wrong, what runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from nicegui import ui

from claude_force.dashboard import call_markup, charts, state_markup
from claude_force.dashboard.first_steps import first_steps
from claude_force.dashboard.frame import Chart, Section, button, keep_fresh, page, panel, tabs
from claude_force.dashboard.markup import address, link
from claude_force.dashboard.overview import SPANS
from claude_force.dashboard.stores import Unreadable
from claude_force.domain.errors import ClaudeForceError

if TYPE_CHECKING:
    from claude_force.dashboard.overview import Overview
    from claude_force.dashboard.stores import Stores
    from claude_force.domain.runs import RunRecord
    from claude_force.resilience.shared_view import SharedState

# The others are on a page of their own.
_RUNS_SHOWN: Final = 8


class OverviewPage:
    """One page that somebody looks at."""

    def __init__(self, stores: Stores, *, days: int, may_change: bool) -> None:
        self._stores = stores
        self._days = days
        self._may_change = may_change

    async def show(self) -> None:
        """Make the page with the figures of now, and keep it fresh."""
        overview, limits, runs, live = await self._read()
        self._overview = overview
        with page("/", "Overview"):
            self._head(limits)
            self._warnings_panel = panel("Attention").classes("warn").props("aria-live=polite")
            with self._warnings_panel:
                self._warnings = Section()
            self._welcome_panel = panel("Nothing yet")
            with self._welcome_panel:
                ui.html(first_steps(self._stores.folder, self._days), sanitize=False)
            self._live_panel = panel("Under way")
            with self._live_panel:
                self._live = Section()
            self._figures = ui.element("div").classes("figures")
            with self._figures:
                self._tiles = Section(call_markup.overview_tiles(overview))
                with ui.element("div").classes("grid2"):
                    self._charts(overview)
                with ui.element("div").classes("grid2"):
                    self._tables(overview, limits, runs)
            self._show_live(live)
            self._show_warnings(limits)
            self._show_figures(overview, runs)
        keep_fresh(self._renew)

    async def _read(
        self,
    ) -> tuple[
        Overview, SharedState | Unreadable | None, tuple[RunRecord, ...], tuple[RunRecord, ...]
    ]:
        stores = self._stores
        return await asyncio.gather(
            asyncio.to_thread(stores.overview, self._days),
            asyncio.to_thread(stores.limits),
            asyncio.to_thread(stores.runs),
            asyncio.to_thread(stores.live_runs),
        )

    def _head(self, limits: SharedState | Unreadable | None) -> None:
        with ui.element("div").classes("head"):
            ui.html("<h1>Overview</h1>", sanitize=False)
            spans = [
                ("24 hours" if days == 1 else f"{days} days", address("/", days=days), days == self._days)
                for days in SPANS
            ]  # fmt: skip
            with ui.element("div").classes("right"):
                ui.html(tabs(spans, "How far to look back"), sanitize=False)
                if self._may_change:
                    self._pause = button("Pause all runs", self._toggle, danger=True)
                    self._show_pause(limits)

    def _charts(self, overview: Overview) -> None:
        hour = address("/calls", since=overview.minutes[0].start)
        with panel("Calls per minute", link(hour, "calls of the last hour")):
            self._minutes = Chart(charts.calls_per_minute(overview.minutes), self._minute_clicked)
        slowest = link(address("/calls", days=1, order="slowest"), "slowest calls of a day")
        with panel("Latency", f"of the API, by {overview.step} · {slowest}"):
            self._latency = Chart(
                charts.latency(overview.latency, overview.step), self._latency_clicked
            )
        with panel("Dollars by day", "by agent, in the colours of the next chart"):
            self._by_day = Chart(charts.cost_by_day(overview), self._day_clicked)
        with panel("Dollars by agent"):
            self._by_agent = Chart(charts.cost_by_agent(overview.agents), self._agent_clicked)

    def _tables(
        self,
        overview: Overview,
        limits: SharedState | Unreadable | None,
        runs: tuple[RunRecord, ...],
    ) -> None:
        with panel("Agents"):
            self._agents = Section(call_markup.agents_table(overview))
        with panel("Runs"):
            self._runs = Section(self._runs_html(runs))
        with panel("Alerts"):
            self._alerts = Section(state_markup.alerts_list(self._stores.alerts()))
        with panel("Limits and breakers"):
            self._limits = Section(state_markup.limits_view(limits))
        with panel("Saved"):
            self._savings = Section(call_markup.savings_table(overview.savings))
        with panel("Failures"):
            self._failures = Section(call_markup.failures_table(overview.failures, overview.days))

    async def _renew(self) -> None:
        overview, limits, runs, live = await self._read()
        self._show_live(live)
        self._runs.show(self._runs_html(runs))
        self._alerts.show(state_markup.alerts_list(self._stores.alerts()))
        self._limits.show(state_markup.limits_view(limits))
        self._show_warnings(limits)
        self._show_figures(overview, runs)
        if self._may_change:
            self._show_pause(limits)
        if overview is self._overview:
            return
        self._overview = overview
        self._tiles.show(call_markup.overview_tiles(overview))
        self._minutes.show(charts.calls_per_minute(overview.minutes))
        self._latency.show(charts.latency(overview.latency, overview.step))
        self._by_day.show(charts.cost_by_day(overview))
        self._by_agent.show(charts.cost_by_agent(overview.agents))
        self._agents.show(call_markup.agents_table(overview))
        self._savings.show(call_markup.savings_table(overview.savings))
        self._failures.show(call_markup.failures_table(overview.failures, overview.days))

    # ---- what a click does

    async def _toggle(self) -> None:
        paused = _is_paused(await asyncio.to_thread(self._stores.limits))
        try:
            await asyncio.to_thread(lambda: self._stores.set_paused(paused=not paused))
        except ClaudeForceError as error:
            ui.notify(str(error), type="warning")
        await self._renew()

    def _runs_html(self, runs: tuple[RunRecord, ...]) -> str:
        shown = state_markup.runs_table(runs[:_RUNS_SHOWN], self._stores.wall_clock())
        more = f'<p class="note block">{link("/runs", "more runs")}</p>'
        return shown + (more if len(runs) > _RUNS_SHOWN else "")

    def _show_figures(self, overview: Overview, runs: tuple[RunRecord, ...]) -> None:
        """The figures, or what to do to have some."""
        anything = bool(overview.totals.calls or runs)
        self._welcome_panel.set_visibility(not anything)
        self._figures.set_visibility(anything)

    def _show_warnings(self, limits: SharedState | Unreadable | None) -> None:
        shown = state_markup.warnings_list(self._stores.alerts(), limits)
        self._warnings_panel.set_visibility(bool(shown))
        self._warnings.show(shown)

    def _show_live(self, runs: tuple[RunRecord, ...]) -> None:
        self._live_panel.set_visibility(bool(runs))
        self._live.show(state_markup.live_runs(runs, self._stores.wall_clock()))

    def _show_pause(self, limits: SharedState | Unreadable | None) -> None:
        label = self._pause.default_slot.children[0]
        assert isinstance(label, ui.html)  # noqa: S101 - made by `button`
        label.set_content("Resume all runs" if _is_paused(limits) else "Pause all runs")

    def _minute_clicked(self, place: int, series: int) -> None:
        start, state = self._overview.minutes[place].start, charts.STATES_OF_A_MINUTE[series]
        ui.navigate.to(address("/calls", since=start, until=start + 60, state=state))

    def _latency_clicked(self, place: int, _: int) -> None:
        start = self._overview.latency[place].start
        assert start is not None  # noqa: S101 - it is grouped by time
        end = start + (timedelta(hours=1) if self._overview.step == "hour" else timedelta(days=1))
        ui.navigate.to(
            address("/calls", since=int(start.timestamp()), until=int(end.timestamp()), order="slowest")
        )  # fmt: skip

    def _day_clicked(self, place: int, series: int) -> None:
        days = sorted({group.start for group in self._overview.by_day_and_agent if group.start})
        start = int(days[place].timestamp())
        named = charts.named_agents(self._overview.agents)
        agent = named[series] if series < len(named) else None
        ui.navigate.to(address("/calls", since=start, until=start + 86_400, agent=agent))

    def _agent_clicked(self, place: int, _: int) -> None:
        agent = charts.agent_of_bar(self._overview.agents, place)
        ui.navigate.to(address("/calls", agent=agent, days=self._days))


def _is_paused(limits: SharedState | Unreadable | None) -> bool:
    return limits is not None and not isinstance(limits, Unreadable) and limits.user_limits.paused
