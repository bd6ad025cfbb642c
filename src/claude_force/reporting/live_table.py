"""One frame of the live view: a table of steps and a line of totals, as `rich` draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from claude_force.agents.cleaning import clean_text
from claude_force.reporting.numbers import counted, dollars, duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from claude_force.domain.runs import StepState
    from claude_force.reporting.run_progress import RunProgress, StepProgress

# A sign beside the colour: colours are not for everybody, nor for every terminal.
_SIGNS: Final[dict[StepState, tuple[str, str]]] = {
    "waiting": ("·", "dim"),
    "running": ("▶", "bold cyan"),
    "succeeded": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "skipped": ("○", "dim yellow"),
}
_WORDS: Final[tuple[tuple[StepState, str], ...]] = (
    ("running", "running"),
    ("succeeded", "done"),
    ("failed", "failed"),
    ("skipped", "skipped"),
    ("waiting", "waiting"),
)
_BAR_STYLES: Final = {"failed": "red", "skipped": "yellow", "succeeded": "green"}
_BAR_CELLS: Final = 24
# Lines that are no steps: title, totals, what is not shown, and the one on which the cursor rests.
_OTHER_LINES: Final = 5
_LEAST_ROWS: Final = 3
_NAME_CELLS: Final = 36


def frame(
    workflow_name: str, progress: RunProgress, *, now: float, width: int, height: int
) -> RenderableType:
    """What is to be seen at ``now``, no higher than ``height`` lines."""
    rows = progress.choose(max(height - _OTHER_LINES, _LEAST_ROWS))
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=_NAME_CELLS)
    wide, roomy = width >= 100, width >= 72
    if wide:
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=24, style="dim")
    for _ in range(4 if roomy else 2):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for step in rows:
        table.add_row(*_cells(step, progress, now=now, wide=wide, roomy=roomy))
    parts: list[RenderableType] = [_title(workflow_name, progress, now=now, roomy=roomy), table]
    hidden = len(progress.steps) - len(rows)
    if hidden:
        parts.append(Text(f"   and {counted(hidden, 'step')} more", style="dim"))
    parts.append(_totals(progress))
    return Group(*parts)


def _cells(
    step: StepProgress, progress: RunProgress, *, now: float, wide: bool, roomy: bool
) -> list[Text]:
    sign, style = _SIGNS[step.state]
    faint = step.state in ("waiting", "skipped")
    cells = [Text(sign, style), Text(_line(step.step_id), "dim" if faint else "")]
    if wide:
        cells.append(Text(_line(step.agent_name)))
    elapsed = step.elapsed_seconds(now)
    cells.append(Text("" if elapsed is None else duration(elapsed)))
    spent = bool(step.usage)
    if roomy:
        cells.append(Text(f"{step.usage.total_input_tokens:,} in" if spent else "", "dim"))
        cells.append(Text(f"{step.usage.output_tokens:,} out" if spent else "", "dim"))
    cells.append(Text(_money(step) if spent or step.cost_usd else ""))
    cells.append(_remarks(step, progress))
    return cells


def _money(step: StepProgress) -> str:
    if step.unpriced:
        return f"{dollars(step.cost_usd)} + ?" if step.cost_usd else "?"
    return dollars(step.cost_usd)


def _remarks(step: StepProgress, progress: RunProgress) -> Text:
    text = Text()

    def add(words: str, style: str = "") -> None:
        if text:
            text.append(" · ", "dim")
        text.append(words, style)

    if step.item_count is not None:
        add(f"{len(step.items_ended):,} of {counted(step.item_count, 'item')}")
        if step.items_failed:
            add(f"{len(step.items_failed):,} failed", "red")
    if step.cached_calls:
        add("cached" if step.cached_calls == 1 else f"{step.cached_calls:,} cached", "magenta")
    if step.retries:
        add("1 retry" if step.retries == 1 else f"{step.retries:,} retries", "yellow")
    if step.note:
        add(_line(step.note), "red" if step.state == "failed" else "dim")
    elif step.state == "waiting" and (names := progress.waits_for(step)):
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        add(f"after {_line(', '.join(names[:2]))}{more}", "dim")
    return text


def _title(workflow_name: str, progress: RunProgress, *, now: float, roomy: bool) -> Text:
    counts = progress.counts
    total = len(progress.steps)
    ended = total - counts["waiting"] - counts["running"]
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(_line(workflow_name), "bold")
    text.append("  ")
    if roomy:
        text.append_text(_bar(progress, total))
        text.append("  ")
    text.append(f"{ended:,} of {counted(total, 'step')}  ")
    text.append(duration(progress.elapsed_seconds(now)), "bold")
    return text


def _bar(progress: RunProgress, total: int) -> Text:
    """A part for each way to end; a part is seen even if it is a small one."""
    text = Text()
    room = _BAR_CELLS
    states: tuple[StepState, ...] = ("failed", "skipped", "succeeded")
    for state in states:
        number = progress.counts[state]
        cells = min(room, max(1, _BAR_CELLS * number // total)) if number else 0
        text.append("━" * cells, _BAR_STYLES[state])
        room -= cells
    return text.append("━" * room, "bright_black")


def _totals(progress: RunProgress) -> Text:
    totals, usage = progress.totals, progress.totals.usage
    unknown = " + unknown" if totals.unpriced else ""
    text = Text("   ", no_wrap=True, overflow="ellipsis")
    text.append(f"{dollars(totals.cost_usd)}{unknown}", "bold")
    text.append(" · ", "dim")
    text.append(f"{usage.total_input_tokens:,} in, {usage.output_tokens:,} out")
    for state, word in _WORDS:
        if number := progress.counts[state]:
            text.append(" · ", "dim")
            text.append(f"{number:,} {word}", _SIGNS[state][1])
    if totals.cached_calls:
        text.append(" · ", "dim")
        text.append(f"{totals.cached_calls:,} cached", "magenta")
    if totals.retries:
        text.append(" · ", "dim")
        text.append("1 retry" if totals.retries == 1 else f"{totals.retries:,} retries", "yellow")
    return text


def _line(text: str) -> str:
    """Text of others on one line, with nothing in it that steers the terminal."""
    return " ".join(clean_text(text).split())
