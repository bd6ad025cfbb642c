"""Shows a run while it goes on: a table that is drawn anew on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from claude_force.reporting.plain_lines import PlainLines
from claude_force.reporting.run_progress import RunProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from claude_force.domain.events import EventListener


@contextmanager
def progress_view(
    workflow_name: str,
    steps: Sequence[tuple[str, str, Sequence[str]]],
    stream: TextIO,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[EventListener]:
    """An event listener that shows the run on ``stream`` while the context is open.

    On a terminal a table is drawn at most 4 times a second, by a thread: the event loop only counts. It stays within
    the height of the terminal, and its last frame remains. On anything else, a line is written for each step that
    starts or ends, each retry, and every few seconds for the items of a fan-out.

    Args:
        workflow_name: the title.
        steps: id, agent and dependencies of each step, in the order of the definition.
        stream: where it is shown, stderr as a rule.
        clock: monotonic seconds.
    """
    progress = RunProgress(steps, began_at=clock())
    if not stream.isatty():
        yield PlainLines(progress, stream, clock=clock)
        return
    # rich takes longer to load than all the rest, and only a terminal needs it.
    from claude_force.reporting.terminal_view import TerminalView  # noqa: PLC0415 - see above

    with TerminalView(workflow_name, progress, stream, clock=clock).drawn() as listener:
        yield listener
