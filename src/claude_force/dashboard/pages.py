"""Which address shows which page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request  # noqa: TC002 - the library reads the annotations when it calls
from nicegui import ui

from claude_force.dashboard.calls_page import CallsAddress, CallsPage
from claude_force.dashboard.frame import page, panel
from claude_force.dashboard.markup import plain
from claude_force.dashboard.overview import DEFAULT_SPAN, SPANS
from claude_force.dashboard.overview_page import OverviewPage
from claude_force.dashboard.run_pages import RunPage, RunsPage
from claude_force.domain.errors import ClaudeForceError

if TYPE_CHECKING:
    from collections.abc import Awaitable


def register() -> None:
    """Let the library know the pages; once in a process."""
    ui.page("/")(_overview)
    ui.page("/calls")(_calls)
    ui.page("/runs")(_runs)
    ui.page("/runs/{run_id}")(_run)


async def _overview(request: Request) -> None:
    given = request.query_params.get("days", "")
    days = next((days for days in SPANS if str(days) == given), DEFAULT_SPAN)
    state = request.state
    await _shown(OverviewPage(state.stores, days=days, may_change=state.may_change).show())


async def _calls(request: Request) -> None:
    asked = CallsAddress.read(request.query_params)
    await _shown(CallsPage(request.state.stores, asked).show())


async def _runs(request: Request) -> None:
    await _shown(RunsPage(request.state.stores).show())


async def _run(request: Request, run_id: str) -> None:
    state = request.state
    await _shown(RunPage(state.stores, run_id, may_change=state.may_change).show())


async def _shown(making: Awaitable[None]) -> None:
    """A page, or what is wrong in its place."""
    try:
        await making
    except ClaudeForceError as error:
        with page("", "Not shown"):
            ui.html("<h1>This cannot be shown</h1>", sanitize=False)
            with panel("Why").classes("warn"):
                # An empty address is that of the page itself.
                ui.html(
                    f'<p>{plain(str(error))}</p><p class="note block"><a href="">look again</a></p>',
                    sanitize=False,
                )
