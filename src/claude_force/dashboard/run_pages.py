"""Runs of workflows: the last ones, and one with its graph while it goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nicegui import ui

from claude_force.dashboard import state_markup
from claude_force.dashboard.frame import Section, button, keep_fresh, page, panel
from claude_force.dashboard.markup import note, pill, plain, tiles
from claude_force.dashboard.run_drawing import SIGNS, run_svg
from claude_force.domain.errors import ClaudeForceError
from claude_force.reporting.numbers import dollars
from claude_force.reporting.run_facts import wall_seconds

if TYPE_CHECKING:
    from claude_force.dashboard.stores import Stores
    from claude_force.domain.runs import RunRecord


class RunsPage:
    """The last runs, those under way with their graphs."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def show(self) -> None:
        """Make the page, and keep it fresh."""
        live, table = await self._html()
        with page("/runs", "Runs"):
            ui.html("<h1>Runs</h1>", sanitize=False)
            with panel("Under way"):
                self._live = Section(live)
            with panel("Last runs"):
                self._table = Section(table)
        keep_fresh(self._renew)

    async def _renew(self) -> None:
        live, table = await self._html()
        self._live.show(live)
        self._table.show(table)

    async def _html(self) -> tuple[str, str]:
        runs = await asyncio.to_thread(self._stores.runs)
        shown = await asyncio.to_thread(self._stores.live_runs)
        now = self._stores.wall_clock()
        live = state_markup.live_runs(shown, now) or note(
            "No run is under way; one that begins appears here."
        )
        return live, state_markup.runs_table(runs, now)


class RunPage:
    """One run: its graph and its steps."""

    def __init__(self, stores: Stores, run_id: str, *, may_change: bool) -> None:
        self._stores = stores
        self._run_id = run_id
        self._may_change = may_change

    async def show(self) -> None:
        """Make the page, and keep it fresh."""
        run = await asyncio.to_thread(self._stores.run, self._run_id)
        with page("/runs", run.workflow_name):
            with ui.element("div").classes("head"):
                ui.html(f"<h1>{plain(run.workflow_name)}</h1>", sanitize=False)
                self._state = Section(_state(run))
                if self._may_change:
                    with ui.element("div").classes("right"):
                        self._cancel = button("Cancel this run", self._cancelled, danger=True)
                        self._cancel.set_visibility(run.state == "running")
            self._tiles = Section(self._tiles_html(run))
            with panel("Graph"):
                self._graph = Section(self._graph_html(run), "canvas")
            with panel("Steps"):
                self._steps = Section(self._steps_html(run))
            ui.html(
                f'<p class="note">What errors said: <code>claude-force runs show {plain(run.run_id)}</code>, with prompts and '
                f"answers: <code>claude-force runs report {plain(run.run_id)} --html FILE</code></p>",
                sanitize=False,
            )
        # Of a run that has ended, too: it may be resumed.
        keep_fresh(self._renew)

    async def _renew(self) -> None:
        run = await asyncio.to_thread(self._stores.run, self._run_id)
        self._state.show(_state(run))
        self._tiles.show(self._tiles_html(run))
        self._graph.show(self._graph_html(run))
        self._steps.show(self._steps_html(run))
        if self._may_change:
            self._cancel.set_visibility(run.state == "running")

    async def _cancelled(self) -> None:
        try:
            done = await asyncio.to_thread(self._stores.cancel, self._run_id)
        except ClaudeForceError as error:
            ui.notify(str(error), type="warning")
            return
        ui.notify("The run was asked to stop." if done else "The run has ended already.")
        await self._renew()

    def _tiles_html(self, run: RunRecord) -> str:
        now = self._stores.wall_clock()
        done = sum(step.state in state_markup.DONE for step in run.steps)
        failed = sum(step.state == "failed" for step in run.steps)
        return tiles(
            (
                ("Began", run.started_at.strftime("%H:%M:%S"), run.started_at.strftime("%d %b %Y, UTC")),
                ("Took", state_markup.run_duration(run, now) or "-", f"resumed {run.resumed} times" if run.resumed else ""),
                ("Steps", f"{done} of {len(run.steps)}", f"{failed} failed"),
                ("Spent", dollars(run.cost_usd), "all parts of the run"),
                ("Tokens in", f"{run.usage.total_input_tokens:,}", ""),
                ("Tokens out", f"{run.usage.output_tokens:,}", ""),
            )
        )  # fmt: skip

    def _graph_html(self, run: RunRecord) -> str:
        elapsed = state_markup.elapsed_seconds(run, self._stores.wall_clock())
        return run_svg(run, now_seconds=elapsed)

    def _steps_html(self, run: RunRecord) -> str:
        elapsed = state_markup.elapsed_seconds(run, self._stores.wall_clock())
        return state_markup.steps_table(run, wall_seconds(run) if elapsed is None else elapsed)


def _state(run: RunRecord) -> str:
    return pill(run.state, f"{SIGNS.get(run.state, '')} {run.state}")
