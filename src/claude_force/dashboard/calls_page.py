"""The calls behind a figure, filtered by what the address says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from nicegui import ui

from claude_force.dashboard.call_markup import calls_table, filter_chips
from claude_force.dashboard.frame import Section, keep_fresh, page, panel, tabs
from claude_force.dashboard.markup import address, link
from claude_force.metrics.browsing import CallFilter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.dashboard.stores import Stores
    from claude_force.metrics.browsing import CallState

_STATES: Final[tuple[CallState, ...]] = ("all", "answered", "cached", "failed")
_LAST_SECOND: Final = 2**32
_LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsAddress:
    """What an address of this page asks for; what cannot be understood is as if it were not there."""

    agent: str | None = None
    model: str | None = None
    kind: str | None = None
    run: str | None = None
    # A step of that run; without a run it would mean nothing.
    step: str | None = None
    state: CallState = "all"
    days: int | None = None
    since: int | None = None
    until: int | None = None
    order: str | None = None
    before: int | None = None

    @classmethod
    def read(cls, values: Mapping[str, str]) -> CallsAddress:
        """From the values of an address."""
        state = values.get("state", "all")
        return cls(
            agent=_name(values.get("agent")),
            model=_name(values.get("model")),
            kind=_name(values.get("kind")),
            run=_name(values.get("run")),
            step=_name(values.get("step")) if values.get("run") else None,
            state=state if state in _STATES else "all",
            days=_number(values.get("days"), 400),
            since=_number(values.get("since"), _LAST_SECOND),
            until=_number(values.get("until"), _LAST_SECOND),
            order="slowest" if values.get("order") == "slowest" else None,
            before=_number(values.get("before"), 2**63 - 1),
        )

    def href(self) -> str:
        """The address itself."""
        state = None if self.state == "all" else self.state
        return address(
            "/calls",
            agent=self.agent,
            model=self.model,
            kind=self.kind,
            run=self.run,
            step=self.step,
            state=state,
            days=self.days,
            since=self.since,
            until=self.until,
            order=self.order,
            before=self.before,
        )

    def narrowed(self, name: str, value: str) -> str | None:
        """The address of those of these calls that are of an "agent" or a "model"; None where all of them are."""
        if getattr(self, name) is not None:
            return None
        return (
            replace(self, agent=value) if name == "agent" else replace(self, model=value)
        ).href()

    def filter(self, now: float) -> CallFilter:
        """Which calls that are."""
        since = self.since or 0
        if self.days is not None:
            since = max(since, int(now) - self.days * 86_400)
        return CallFilter(
            agent=self.agent,
            model=self.model,
            error_kind=self.kind,
            run_id=self.run,
            step_id=self.step,
            state="failed" if self.kind is not None else self.state,
            since=since,
            until=self.until or _LAST_SECOND,
            slowest=self.order is not None,
        )

    def chips(self) -> list[tuple[str, str, str]]:
        """Name and value of each filter, and the address without it."""
        first = replace(self, before=None)
        found = []
        if self.agent is not None:
            found.append(("agent", self.agent, replace(first, agent=None).href()))
        if self.model is not None:
            found.append(("model", self.model, replace(first, model=None).href()))
        if self.kind is not None:
            found.append(("error", self.kind, replace(first, kind=None).href()))
        if self.run is not None:
            found.append(("run", self.run, replace(first, run=None, step=None).href()))
        if self.step is not None:
            found.append(("step", self.step, replace(first, step=None).href()))
        if self.since is not None or self.until is not None:
            whole = replace(first, since=None, until=None)
            found.append(("ended", _span(self.since, self.until), whole.href()))
        if self.days is not None:
            last = "24 h" if self.days == 1 else f"{self.days} d"
            found.append(("last", last, replace(first, days=None).href()))
        if self.order is not None:
            found.append(("order", "slowest first", replace(first, order=None).href()))
        return found


class CallsPage:
    """One page that somebody looks at."""

    def __init__(self, stores: Stores, asked: CallsAddress) -> None:
        self._stores = stores
        self._asked = asked

    async def show(self) -> None:
        """Make the page with the calls of now; the newest page is kept fresh."""
        asked = self._asked
        first = replace(asked, before=None)
        with page("/calls", "Calls"):
            with ui.element("div").classes("head"):
                ui.html("<h1>Calls</h1>", sanitize=False)
                with ui.element("div").classes("right"):
                    states = [
                        (state, replace(first, state=state, kind=None).href(), state == asked.state)
                        for state in _STATES
                    ]
                    ui.html(tabs(states, "Which calls"), sanitize=False)
            if asked.chips():
                ui.html(filter_chips(asked.chips()), sanitize=False)
            order = "the slowest first" if asked.order else "the newest first"
            with panel("Calls", order):
                self._table = Section(await self._html())
        if asked.before is None:
            keep_fresh(self._renew)

    async def _renew(self) -> None:
        self._table.show(await self._html())

    async def _html(self) -> str:
        wanted = self._asked.filter(self._stores.wall_clock())
        found = await asyncio.to_thread(self._stores.calls, wanted, self._asked.before)
        older = ""
        if found.before is not None:
            href = replace(self._asked, before=found.before).href()
            older = f'<p class="note block">{link(href, "older calls")}</p>'
        newest = replace(self._asked, before=None)
        if self._asked.before is not None:
            older = f'<p class="note block">{link(newest.href(), "newest calls")}</p>' + older
        return calls_table(found.calls, newest.narrowed) + older


def _name(value: str | None) -> str | None:
    return value[:_LONGEST_NAME] if value else None


def _number(value: str | None, most: int) -> int | None:
    return min(int(value), most) if value and value.isascii() and value.isdigit() else None


def _span(since: int | None, until: int | None) -> str:
    ends = [
        "" if second is None else datetime.fromtimestamp(second, UTC).strftime("%d %b %H:%M")
        for second in (since, until)
    ]
    return " - ".join(ends).strip()
