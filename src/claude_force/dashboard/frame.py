"""What every page has: the bar above it, the style, and sections that are renewed while one looks."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nicegui import ui

from claude_force.domain.errors import ClaudeForceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

_LOG: Final = logging.getLogger(__name__)

_LINKS: Final = (("/", "Overview"), ("/runs", "Runs"), ("/calls", "Calls"))
# Three agents of a team, on the accent of the page.
ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#6246d9"/>'
    '<path d="M9 9h4l6 7h4M9 23h4l6-7" fill="none" stroke="#fff" stroke-width="2"/>'
    '<g fill="#fff"><circle cx="8.5" cy="9" r="3.5"/><circle cx="8.5" cy="23" r="3.5"/><circle cx="23.5" cy="16" r="3.5"/></g></svg>'
)
# How often a page asks whether something has changed.
_LOOK_SECONDS: Final = 1.0


class Section:
    """A piece of HTML that is sent again only when it has changed."""

    def __init__(self, html: str = "", classes: str = "") -> None:
        # Our own markup, in which texts of others are escaped: cleaning it again would take the SVG out.
        self._element = ui.html(html, sanitize=False).classes(classes)
        self._html = html

    def show(self, html: str) -> None:
        """Show this from now on."""
        if html != self._html:
            self._html = html
            self._element.set_content(html)


class Chart:
    """A chart that is sent again only when it has changed; a click is told by the places of point and series."""

    def __init__(self, options: dict[str, Any], clicked: Callable[[int, int], None]) -> None:
        # As SVG, so that the style of the page gives its text the colours of light and dark.
        self._element = ui.echart(
            options,
            renderer="svg",
            on_point_click=lambda event: clicked(event.data_index, event.series_index),
        ).classes("chart")
        self._options = options

    def show(self, options: dict[str, Any]) -> None:
        """Show this from now on."""
        if options != self._options:
            self._options = options
            self._element.options.clear()
            self._element.options.update(options)
            self._element.update()


@contextmanager
def page(current: str, title: str) -> Iterator[None]:
    """The bar, then the page itself within the context."""
    ui.page_title(f"{title} · claude-force")
    ui.add_css(_style())
    links = "".join(
        f'<a href="{path}"{" aria-current=page" if path == current else ""}>{name}</a>'
        for path, name in _LINKS
    )
    ui.html(
        f'<div><span class="brand">claude-force</span><nav aria-label="Pages">{links}</nav>'
        # The style shows the second where the connection is lost.
        '<span class="right"><span class="live"><span class="on">live</span><span class="off">not connected</span></span>'
        "<span>times are UTC</span></span></div>",
        sanitize=False,
        tag="header",
    ).classes("bar")
    with ui.element("main").classes("page"):
        yield


def panel(title: str, remark: str = "") -> ui.element:
    """A box with a heading and HTML beside it; what is made within its context stands in it."""
    box = ui.element("section").classes("panel").props(f'aria-label="{title}"')
    with box:
        side = f'<span class="note">{remark}</span>' if remark else ""
        ui.html(f"<h2>{title}</h2>{side}", sanitize=False).classes("top")
    return box


def button(text: str, act: Callable[[], Awaitable[None]], *, danger: bool = False) -> ui.element:
    """A button for a page that may change something."""
    made = ui.element("button").classes("act danger" if danger else "act").props("type=button")
    with made:
        ui.html(escape(text), sanitize=False, tag="span")
    return made.on("click", act)


def tabs(shown: Sequence[tuple[str, str, bool]], label: str) -> str:
    """A choice of addresses: text, address, and whether it is the present one."""
    links = "".join(
        f'<a href="{escape(href)}"{" aria-current=true" if current else ""}>{escape(text)}</a>'
        for text, href, current in shown
    )
    return f'<nav class="tabs" aria-label="{escape(label)}">{links}</nav>'


def keep_fresh(renew: Callable[[], Awaitable[None]]) -> None:
    """Renew the page for as long as somebody looks at it; a store that cannot be read is told once and tried again."""
    told: set[str] = set()

    async def look() -> None:
        try:
            await renew()
        except ClaudeForceError as error:
            if str(error) not in told:
                told.add(str(error))
                _LOG.warning(
                    "a page of the dashboard cannot be renewed", extra={"kind": error.kind}
                )
                ui.notify(str(error), type="warning", position="bottom", timeout=10_000)

    ui.timer(_LOOK_SECONDS, look, immediate=False)


@cache
def _style() -> str:
    return (Path(__file__).parent / "dashboard.css").read_text("utf-8")
