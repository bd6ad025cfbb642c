"""Splits a stream of server-sent events into the data of its events, whatever the chunks.

Follows the parsing rules of the HTML standard (section 9.2.6) for what the API uses: ``data`` lines, comments,
the three line endings. Names of events are left out: the data of every event carries its type.
"""

from __future__ import annotations

from typing import Final

# The longest line of a real answer is far below this; more means that the peer is not speaking the protocol.
MAX_LINE_BYTES: Final = 8_000_000


class EventTooLargeError(ValueError):
    """The stream holds a line or an event beyond the bound."""


class EventSplitter:
    """Feeds on chunks of bytes and gives back the data of every event they complete."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_bytes = max_line_bytes
        # The line that the last chunk left open, in pieces, so that a long line costs no repeated copying.
        self._open: list[bytes] = []
        self._open_bytes = 0
        # Data lines of the event that is under way.
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._ended_in_cr = False

    @property
    def is_idle(self) -> bool:
        """True between events: nothing of an unfinished one is held."""
        return not self._open and not self._data

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that ``chunk`` completes.

        Raises:
            EventTooLargeError: a line or an event is longer than the bound.
        """
        if not chunk:
            return []
        if b"\r" in chunk or self._ended_in_cr:
            chunk = self._with_plain_newlines(chunk)
        lines = chunk.split(b"\n")
        if len(lines) == 1:
            self._hold(chunk)
            return []
        if self._open:
            lines[0] = b"".join(self._open) + lines[0]
        self._open = []
        self._open_bytes = 0
        last = lines.pop()
        events = self._complete(lines)
        if last:
            self._hold(last)
        return events

    def _complete(self, lines: list[bytes]) -> list[bytes]:
        # The hottest loop of a long answer: slices and local names take half the time of methods and attributes.
        events: list[bytes] = []
        data, size_bytes = self._data, self._data_bytes
        for line in lines:
            if line[:5] == b"data:":
                value = line[6:] if line[5:6] == b" " else line[5:]
                # Each line counts for one byte more, so that empty ones are bounded too.
                size_bytes += len(value) + 1
                if size_bytes > self._max_bytes:
                    raise EventTooLargeError(f"an event of more than {self._max_bytes:,} bytes")
                data.append(value)
            elif not line and data:
                events.append(data[0] if len(data) == 1 else b"\n".join(data))
                data = []
                size_bytes = 0
        self._data, self._data_bytes = data, size_bytes
        return events

    def _hold(self, piece: bytes) -> None:
        self._open_bytes += len(piece)
        if self._open_bytes > self._max_bytes:
            raise EventTooLargeError(f"a line of more than {self._max_bytes:,} bytes")
        if piece:
            self._open.append(piece)

    def _with_plain_newlines(self, chunk: bytes) -> bytes:
        # A line may end in CR, LF or CR LF, and a chunk may end between the two of a pair: the LF that follows
        # belongs to the CR that already ended the line.
        if self._ended_in_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._ended_in_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
