"""What goes over the socket, as values: a request that arrived, and a response with every wait and every fault in it.

A response is a script. Faults are functions from one script to another (`faults.py`), and only `http.py` plays it, so
that what a client sees can be decided, and tested, without a socket. Values that are made for every answer are
msgspec structs here and in the neighbouring modules: a frozen dataclass takes ten times as long to make.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

JSON_TYPE: Final = "application/json"
EVENT_STREAM_TYPE: Final = "text/event-stream; charset=utf-8"

# complete: the response ends as HTTP says. close: FIN, whatever was promised. reset: RST. stall: silence until the
# client leaves. flood: data without a newline until the client leaves or FLOOD_BYTES are sent.
Ending = Literal["complete", "close", "reset", "stall", "flood"]
FLOOD_BYTES: Final = 256 * 1024 * 1024

_REASONS: Final[Mapping[int, str]] = {
    200: "OK",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Payload Too Large",
    421: "Misdirected Request",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    529: "Overloaded",
}


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request, whole."""

    method: str
    # Without the query.
    path: str
    query: str
    # Names in lower case; of a repeated header the last one.
    headers: Mapping[str, str]
    body: bytes
    # Bytes that arrived beyond what is kept; the body is then empty.
    too_large: bool = False


class Piece(msgspec.Struct, frozen=True):
    """Bytes that are sent together, after a wait."""

    data: bytes
    delay_seconds: float = 0.0


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One response as a script."""

    status: int
    content_type: str
    pieces: tuple[Piece, ...]
    request_id: str
    headers: tuple[tuple[str, str], ...] = ()
    # Chunked transfer, a chunk a piece; otherwise a Content-Length over all pieces.
    chunked: bool = False
    # Wait before the first byte; None is for ever.
    head_delay_seconds: float | None = 0.0
    # Sent instead of everything else, then the connection ends.
    garbage: bytes | None = None
    # Body bytes that the Content-Length promises; None promises what is there.
    promised_bytes: int | None = None
    ending: Ending = "complete"
    # The connection cannot be used again.
    close: bool = False
    # Called once, when the first byte leaves.
    on_begin: Callable[[], None] | None = None
    # Called once, when the response is over: true when every byte of a complete script was handed to the socket.
    on_end: Callable[[bool], None] | None = None

    @property
    def instant(self) -> bool:
        """Nothing to wait for and nothing wrong: it can leave in one write."""
        return (
            self.ending == "complete"
            and self.head_delay_seconds == 0
            and self.garbage is None
            and not any(piece.delay_seconds for piece in self.pieces)
        )


class HttpDate:
    """The Date header, formatted once a second."""

    __slots__ = ("_clock", "_second", "_text")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = -1
        self._text = ""

    def now(self) -> str:
        """The time of this moment as HTTP writes it."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._text = http_date(second)
        return self._text


def http_date(epoch_seconds: float) -> str:
    """A moment as HTTP writes it: ``Sun, 22 Nov 2026 22:00:00 GMT``."""
    # By hand: strftime takes the names from the locale, and email.utils costs 20 ms to import.
    moment = time.gmtime(epoch_seconds)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[moment.tm_wday]
    month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][
        moment.tm_mon - 1
    ]
    clock = f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}"
    return f"{day}, {moment.tm_mday:02} {month} {moment.tm_year} {clock} GMT"


def head_bytes(response: Response, *, date: str, keep_alive: bool) -> bytes:
    """Status line and headers."""
    if response.chunked:
        framing = "transfer-encoding: chunked"
    else:
        size_bytes = response.promised_bytes
        if size_bytes is None:
            size_bytes = sum(len(piece.data) for piece in response.pieces)
        framing = f"content-length: {size_bytes}"
    extra = "".join([f"\r\n{name}: {value}" for name, value in response.headers])
    connection = "" if keep_alive else "\r\nconnection: close"
    reason = _REASONS.get(response.status, "Unknown")
    return (
        f"HTTP/1.1 {response.status} {reason}\r\ndate: {date}\r\nserver: claude-force-simulator\r\n"
        f"content-type: {response.content_type}\r\nrequest-id: {response.request_id}\r\n"
        f"{framing}{extra}{connection}\r\n\r\n"
    ).encode("latin-1")


def framed(response: Response, data: bytes) -> bytes:
    """``data`` as it goes onto the wire: a chunk of its own, or as it is."""
    if response.chunked:
        return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
    return data


def whole_bytes(response: Response, *, date: str, keep_alive: bool) -> bytes:
    """An instant response from the first byte to the last."""
    head = head_bytes(response, date=date, keep_alive=keep_alive)
    body = b"".join([piece.data for piece in response.pieces])
    if response.chunked:
        return head + framed(response, body) + b"0\r\n\r\n"
    return head + body
