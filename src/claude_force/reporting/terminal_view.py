"""The live view on a terminal: frames by `rich`, on a thread of their own."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.live import Live

from claude_force.reporting.live_table import frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from rich.console import RenderableType

    from claude_force.domain.events import Event, EventListener
    from claude_force.reporting.run_progress import RunProgress

# Drawing takes milliseconds of a processor that the run may need; four times a second looks alive.
_FRAMES_A_SECOND: Final = 4


class TerminalView:
    """A table of the steps that is drawn anew while events come in.

    Args:
        workflow_name: the title.
        progress: what is known of the run; it takes each event here.
        stream: the terminal.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        workflow_name: str,
        progress: RunProgress,
        stream: TextIO,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._workflow_name = workflow_name
        self._progress = progress
        self._stream = stream
        self._clock = clock
        # Events come on the loop's thread, frames are made on that of the display; held for the making of one frame's
        # content, not for its drawing.
        self._lock = Lock()

    @contextmanager
    def drawn(self) -> Iterator[EventListener]:
        """An event listener; the table stands while the context is open, and its last frame remains."""
        console = Console(file=self._stream)

        def draw() -> RenderableType:
            width, height = console.size
            with self._lock:
                return frame(
                    self._workflow_name,
                    self._progress,
                    now=self._clock(),
                    width=width,
                    height=height,
                )

        # Stdout may be a file that answers go to; only what is written to stderr meanwhile has to stand above the table.
        live = Live(
            console=console,
            get_renderable=draw,
            refresh_per_second=_FRAMES_A_SECOND,
            redirect_stdout=False,
            vertical_overflow="crop",
        )
        with live:
            yield self._take

    def _take(self, event: Event) -> None:
        with self._lock:
            self._progress.take(event, self._clock())
