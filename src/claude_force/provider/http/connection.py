"""One connection: writes a request, parses the response as it arrives."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Final, cast

import httptools

from claude_force.provider.http.errors import BrokenConnectionError, SilentServerError, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping

# Bounds of what a server may make us hold: its headers (one that does not end included), and the part of the body
# that nobody has read yet.
MAX_HEADER_BYTES: Final = 65_536
_PAUSE_READING_BYTES: Final = 1_048_576


class Connection(asyncio.Protocol):
    """A transport with one exchange at a time. It belongs to one event loop.

    Args:
        idle_timeout_seconds: the longest silence of the server while a response is awaited.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, idle_timeout_seconds: float) -> None:
        self._loop = loop
        self._idle_timeout_seconds = idle_timeout_seconds
        self._transport: asyncio.Transport | None = None
        self._lost: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        # When the server last gave a sign of life.
        self._last_sign = 0.0
        self._unsent_bytes = 0
        self._begin()
        # No exchange is under way, so whatever arrives is a fault.
        self._is_idle = True

    def _begin(self) -> None:
        """Forget the last response."""
        self._parser = httptools.HttpResponseParser(self)
        self._is_idle = False
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        # Received since the parser last had something to say: it holds an unfinished header line on its own.
        self._unparsed_bytes = 0
        self._status = 0
        self._keep_alive = False
        # The response says where its body ends, by a length or by chunks.
        self._is_framed = False
        self._head_complete = False
        self._complete = False
        self._failure: Exception | None = None
        self._chunks: list[bytes] = []
        self._held_bytes = 0
        self._is_paused = False
        self._reader: asyncio.Future[None] | None = None

    @property
    def is_usable(self) -> bool:
        """True while another request may be sent on it."""
        return (
            self._is_idle
            and self._lost is None
            and not (transport := cast("asyncio.Transport", self._transport)).is_closing()
            and not _has_news(transport)
        )

    @property
    def has_ended(self) -> bool:
        """True once the whole body has arrived and was read."""
        return self._complete and not self._chunks

    async def send(self, head: bytes, body: bytes) -> tuple[int, Mapping[str, str]]:
        """Send a request and return status and headers of its response; names of headers are in lower case.

        Raises:
            SilentServerError: nothing came for ``idle_timeout_seconds``.
            BrokenConnectionError: the connection ended, or what came is no HTTP response.
        """
        self._begin()
        if self._lost is not None:
            raise BrokenConnectionError("the server closed the connection")
        transport = cast("asyncio.Transport", self._transport)
        # One write is one packet, and one system call: two of them are a third of what a short call costs.
        transport.write(head + body)
        self._watch(transport)
        while not self._head_complete:
            await self._more()
        return self._status, self._headers

    async def read(self) -> bytes | None:
        """Everything of the body that has arrived since, waiting for some; None at its end."""
        while not self._chunks:
            if self._complete:
                return None
            await self._more()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = []
        self._held_bytes = 0
        if self._is_paused:
            self._is_paused = False
            # The silence was ours.
            self._last_sign = self._loop.time()
            cast("asyncio.Transport", self._transport).resume_reading()
        return data

    def release(self) -> bool:
        """End the exchange; True if the connection may serve another one, else it is closed."""
        self._unwatch()
        whole = self.has_ended and self._failure is None
        if whole and self._lost is None and self._keep_alive:
            self._is_idle = True
            return True
        self.abort()
        return False

    def detach(self) -> None:
        """Leave the transport to another protocol: a tunnel is open."""
        self._unwatch()
        self._transport = None

    def abort(self) -> None:
        """Free the socket at once, whatever is under way."""
        self._unwatch()
        if self._transport is not None:
            self._transport.abort()

    # Callbacks of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        if self._is_idle:
            self.abort()
            return
        self._last_sign = self._loop.time()
        self._unparsed_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(BrokenConnectionError("the server changed to another protocol"))
        except httptools.HttpParserError as error:
            # What our own callbacks raise is wrapped by the parser; its text is the better one.
            self._fail(BrokenConnectionError(str(error.__context__ or error) or "no HTTP response"))
        if self._unparsed_bytes > MAX_HEADER_BYTES:
            self._fail(_too_large())
        self._wake()

    def eof_received(self) -> bool:
        """Let the transport close itself."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End the response, well or badly."""
        self._lost = exc or ConnectionResetError("the server closed the connection")
        if self._head_complete and not self._complete and exc is None and not self._is_framed:
            # Neither a length nor chunks: the end of the connection is the end of the body.
            self._complete = True
        elif not self._complete:
            self._fail(BrokenConnectionError(reason_of(self._lost)))
        self._wake()

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        """Refuse a second response: it answers nothing that was asked."""
        if self._complete:
            raise BrokenConnectionError("bytes after the end of the response")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header; those behind the body are only counted."""
        self._unparsed_bytes = 0
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise _too_large()
        if not self._head_complete:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Keep the status; interim responses are passed over."""
        self._unparsed_bytes = 0
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = {}
            return
        self._status = status
        self._keep_alive = self._parser.should_keep_alive()
        self._is_framed = "content-length" in self._headers or "transfer-encoding" in self._headers
        self._head_complete = True

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body, and stop reading when nobody takes it."""
        self._unparsed_bytes = 0
        self._chunks.append(body)
        self._held_bytes += len(body)
        if self._held_bytes > _PAUSE_READING_BYTES and not self._is_paused:
            self._is_paused = True
            cast("asyncio.Transport", self._transport).pause_reading()

    def on_message_complete(self) -> None:
        """Note the end."""
        if self._head_complete:
            self._complete = True

    # Waiting.

    async def _more(self) -> None:
        """Wait until something has changed; what arrived before a failure is still handed out."""
        self._raise_failure()
        self._reader = self._loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None
        if not self._chunks and not self._complete:
            self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
        if self._transport is not None:
            self._transport.abort()

    def _watch(self, transport: asyncio.Transport) -> None:
        # One timer for the whole exchange, moved on when it fires: a timer for every chunk would cost more than
        # reading the chunk.
        self._last_sign = self._loop.time()
        self._unsent_bytes = transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._idle_timeout_seconds, self._check_silence)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_silence(self) -> None:
        self._note_upload()
        quiet_until = self._last_sign + self._idle_timeout_seconds
        if self._is_paused or self._loop.time() < quiet_until:
            when = max(quiet_until, self._loop.time() + self._idle_timeout_seconds / 4)
            self._timer = self._loop.call_at(when, self._check_silence)
            return
        self._timer = None
        self._fail(SilentServerError(f"silent for {self._idle_timeout_seconds:g} s"))
        self._wake()

    def _note_upload(self) -> None:
        """Count a request that is still going out as a sign of life: a slow uplink is no silent server."""
        unsent_bytes = cast("asyncio.Transport", self._transport).get_write_buffer_size()
        if unsent_bytes < self._unsent_bytes:
            self._last_sign = self._loop.time()
        self._unsent_bytes = unsent_bytes


def _has_news(transport: asyncio.Transport) -> bool:
    """Something has arrived that the loop has not seen: mostly the server's goodbye, while the loop was busy."""
    descriptor = transport.get_extra_info("socket").fileno()
    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _too_large() -> BrokenConnectionError:
    return BrokenConnectionError(f"the headers are larger than {MAX_HEADER_BYTES:,} bytes")
