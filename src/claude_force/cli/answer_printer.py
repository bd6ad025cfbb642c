"""Prints an answer while it arrives, and never leaves half of one in front of a whole one unmarked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, TextIO

from claude_force.agents.cleaning import clean_text
from claude_force.domain.events import AttemptFailed, TextDelta

if TYPE_CHECKING:
    from claude_force.domain.events import Event

_VOID: Final = "[the answer broke off here and is void; it starts again below]"


class AnswerPrinter:
    """An event listener that writes text deltas to ``out`` and notices to ``notices``.

    When an answer breaks off after some of it was written, it starts again from scratch. A regular file is cut back
    to where the answer began; on a terminal or in a pipe, where that cannot be done, a marked line says so.
    """

    def __init__(self, out: TextIO, notices: TextIO) -> None:
        self._out = out
        self._notices = notices
        self._ends_in_newline = True
        self._start = _file_position(out)

    def __call__(self, event: Event) -> None:
        """Print what the event adds."""
        if isinstance(event, TextDelta):
            self._write(clean_text(event.text))
        elif isinstance(event, AttemptFailed) and event.retry_in_seconds is not None:
            self._notices.write(
                f"Attempt {event.attempt} failed ({event.error_kind}); next in {event.retry_in_seconds:.1f} s.\n"
            )
            if event.text_was_sent:
                self._take_back()

    def end(self) -> None:
        """Finish the last line."""
        if not self._ends_in_newline:
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            self._out.write(text)
            self._out.flush()
            self._ends_in_newline = text.endswith("\n")

    def _take_back(self) -> None:
        if self._start is None:
            self.end()
            self._write(_VOID + "\n")
            return
        self._out.flush()
        os.ftruncate(self._out.fileno(), self._start)
        os.lseek(self._out.fileno(), self._start, os.SEEK_SET)
        self._ends_in_newline = True


def _file_position(out: TextIO) -> int | None:
    """Where a regular file will be written next; None for what cannot be cut back."""
    import stat

    try:
        descriptor = out.fileno()
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        out.flush()
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    except (OSError, ValueError):
        return None
