"""Pieces of pages as HTML; every text that comes from elsewhere is escaped here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from claude_force.reporting.graph_drawing import cut, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


# No state or error of ours is longer.
_PILL_CELLS: Final = 30


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    # "n" for figures, "name" for what may be long, "nowrap"; with "wide", left out where there is little room.
    style: str = ""
    href: str | None = None
    # A state, shown as a pill of its colour.
    state: str | None = None


def table(head: Sequence[Cell], rows: Sequence[Sequence[Cell]], *, sum_last: bool = False) -> str:
    """A table; each head has the style of its column.

    Args:
        head: of every column.
        rows: one of a single cell is a remark on the row above it, as wide as the table.
        sum_last: sets the last row apart.
    """
    heads = "".join(
        f'<th scope="col" class="{cell.style.replace("name", "")}">{escape(cell.text)}</th>'
        for cell in head
    )
    body = "".join(
        f'<tr class=remark><td colspan="{len(head)}">{plain(row[0].text)}</td></tr>'
        if len(row) == 1
        else f"<tr{' class=sum' if sum_last and place == len(rows) else ''}>{''.join(map(_cell, row))}</tr>"
        for place, row in enumerate(rows, start=1)
    )
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def heads(*names: str, figures: Sequence[str] = (), wide: Sequence[str] = ()) -> list[Cell]:
    """The heads of columns by name, and in the same order the figures; those that may be left out are named again."""
    return [
        Cell(name, f"{'n' if name in figures else ''}{' wide' if name in wide else ''}".strip())
        for name in (*names, *figures)
    ]


def plain(text: str) -> str:
    """Text of others on one line, escaped."""
    return escape(one_line(text))


def link(href: str, text: str) -> str:
    """A link within the dashboard."""
    return f'<a href="{escape(href)}">{plain(text)}</a>'


@lru_cache(maxsize=256)
def pill(state: str, text: str | None = None) -> str:
    """A state in its colour; the names of errors may be broken where there is little room."""
    shown = escape(cut(one_line(text or state), _PILL_CELLS)).replace("_", "_<wbr>")
    return f'<span class="pill s-{escape(state)}">{shown}</span>'


def note(text: str) -> str:
    """A remark of ours, in place of figures that are not there."""
    return f'<p class="note">{text}</p>'


def tiles(figures: Iterable[tuple[str, str, str]]) -> str:
    """Name, figure and remark of each."""
    return (
        '<dl class="tiles">'
        + "".join(
            f'<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd><dd class="sub">{escape(sub)}</dd></div>'
            for name, value, sub in figures
        )
        + "</dl>"
    )


def address(path: str, **values: object) -> str:
    """A path with the values that are given."""
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    return f"{path}?{urlencode(given)}" if given else path


def short(count: float) -> str:
    """A count in thousands, millions or billions: ``950``, ``12.3k``, ``10M``."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + unit
    return f"{count:.0f}"


def _cell(cell: Cell) -> str:
    # A table of a run has thousands of figures, which are ours, and a few states.
    inner = (
        escape(cell.text) if cell.style.startswith("n ") or cell.style == "n" else plain(cell.text)
    )
    if cell.state is not None:
        inner = pill(cell.state, cell.text)
    if cell.href is not None:
        inner = f'<a href="{escape(cell.href)}">{inner}</a>'
    return f'<td class="{cell.style}">{inner}</td>' if cell.style else f"<td>{inner}</td>"
