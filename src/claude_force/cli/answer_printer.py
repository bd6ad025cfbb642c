"""Prints an answer while it arrives, and never leaves half of one in front of a whole one unmarked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, TextIO

from claude_force.agents.cleaning import clean_text
from claude_force.domain.events import AttemptFailed, FellBack, TextDelta

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
        # What was written last belongs to an attempt that failed for good.
        self._is_void = False
        self._start = _file_position(out)
        self._written_bytes = 0

    def __call__(self, event: Event) -> None:
        """Print what the event adds."""
        if isinstance(event, TextDelta):
            if self._is_void:
                # A stale answer of the cache, in place of the one that broke off.
                self._take_back()
            self._write(clean_text(event.text))
        elif isinstance(event, AttemptFailed) and event.retry_in_seconds is not None:
            self._notices.write(
                f"Attempt {event.attempt} failed ({event.error_kind}); next in {event.retry_in_seconds:.1f} s.\n"
            )
            if event.text_was_sent:
                self._take_back()
        elif isinstance(event, AttemptFailed):
            self._is_void = event.text_was_sent
        elif isinstance(event, FellBack):
            self._notices.write(
                f"{event.failed_model} cannot answer ({event.error_kind}); asking {event.next_model}.\n"
            )
            if self._is_void:
                self._take_back()

    def end(self) -> None:
        """Finish the last line."""
        if not self._ends_in_newline:
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            self._out.write(text)
            self._written_bytes += len(text.encode(self._out.encoding or "utf-8", "replace"))
            self._out.flush()
            self._ends_in_newline = text.endswith("\n")

    def _take_back(self) -> None:
        """Remove the void text where it can be removed, and mark it where it cannot."""
        self._is_void = False
        if self._start is not None and self._is_last():
            os.ftruncate(self._out.fileno(), self._start)
            os.lseek(self._out.fileno(), self._start, os.SEEK_SET)
            self._written_bytes = 0
            self._ends_in_newline = True
        else:
            self.end()
            self._write(_VOID + "\n")

    def _is_last(self) -> bool:
        """Whether the file ends with what was written here: nobody else has written to it since."""
        self._out.flush()
        end = (self._start or 0) + self._written_bytes
        return os.fstat(self._out.fileno()).st_size == end


def _file_position(out: TextIO) -> int | None:
    """Where a regular file will be written next; None for what cannot be cut back.

    A file that is appended to belongs to others too, and its position says nothing about where the next text lands.
    """
    import fcntl
    import stat

    try:
        descriptor = out.fileno()
        appends = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
        if appends or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        out.flush()
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    except (OSError, ValueError):
        return None
