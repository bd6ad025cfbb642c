"""HTTP/1.1 over one connection.

No web framework: a framework does not let a test cut, reset or stall the socket at a chosen byte, and costs more for
each answer than the answer does.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Final

import httptools

from claude_force.simulator.errors import error_response
from claude_force.simulator.wire import (
    FLOOD_BYTES,
    HttpDate,
    HttpRequest,
    Response,
    framed,
    head_bytes,
    whole_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.simulator.stats import Counters

MAX_HEADER_BYTES: Final = 64 * 1024
MAX_PIPELINED_REQUESTS: Final = 64
_FLOOD_CHUNK: Final = b"x" * 65_536


class Connection(asyncio.Protocol):
    """One client. Answers its requests one after the other; ends what it is doing when the client leaves."""

    def __init__(
        self,
        *,
        handle: Callable[[HttpRequest], Response],
        max_body_bytes: Callable[[str], int],
        date: HttpDate,
        connections: set[Connection],
        counters: Counters,
    ) -> None:
        self._handle = handle
        self._max_body_bytes = max_body_bytes
        self._date = date
        self._connections = connections
        self._counters = counters
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[HttpRequest, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._closing = False
        self._reset_request()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # narrows: TCP gives no other
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        """The client left: what is being sent to it ends."""
        self._connections.discard(self)
        self._closing = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Bytes of one request, or of several."""
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            # A defect of ours, not of the request: asyncio reports it and closes the connection.
            raise
        except httptools.HttpParserUpgrade:
            self._refuse(400, "This server does not change protocols.")
        except httptools.HttpParserError as exc:
            self._refuse(400, f"This is not a valid HTTP request: {exc}.")

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """The client caught up."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # httptools

    def on_message_begin(self) -> None:
        """A new request starts."""
        self._reset_request()

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._url += url
        self._head_size += len(url)
        if self._head_size > MAX_HEADER_BYTES:
            self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._head_size += len(name) + len(value)
        if self._head_size > MAX_HEADER_BYTES:
            self._refuse_head()
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The body comes next; a client that asks first is told to send it, unless it is too large."""
        path = self._url.partition(b"?")[0].decode("latin-1")
        self._body_limit = self._max_body_bytes(path)
        promised = self._headers.get("content-length", "")
        if promised.isdecimal() and int(promised) > self._body_limit:
            self._too_large = True
        expects = self._headers.get("expect", "").lower() == "100-continue"
        if expects and not self._too_large and not self._closing and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif expects and self._too_large:
            self._dispatch(keep_alive=False)

    def on_body(self, body: bytes) -> None:
        """A part of the body. What is beyond the limit is read and dropped, so that the client sees the refusal."""
        self._body_size += len(body)
        if self._body_size > self._body_limit:
            self._too_large = True
        if self._too_large:
            self._body.clear()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if not self._closing:
            self._dispatch(keep_alive=self._parser.should_keep_alive())

    # Ours

    def close(self) -> None:
        """End the connection now, whatever it is doing."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()
        if self._task is not None:
            self._task.cancel()

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The response that is being played, if any."""
        return self._task

    def _is_busy(self) -> bool:
        return self._task is not None

    def _reset_request(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._head_size = 0
        self._body: list[bytes] = []
        self._body_size = 0
        self._body_limit = 0
        self._too_large = False

    def _refuse_head(self) -> None:
        if not self._closing:
            self._refuse(431, f"The headers are larger than {MAX_HEADER_BYTES} bytes.")

    def _refuse(self, status: int, message: str) -> None:
        if self._task is None:
            self._write_whole(error_response(status, message, request_id="req_none", close=True))
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def _dispatch(self, *, keep_alive: bool) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        request = HttpRequest(
            method=self._parser.get_method().decode("latin-1"),
            path=path,
            query=query,
            headers=self._headers,
            body=b"".join(self._body),
            too_large=self._too_large,
        )
        if self._task is None:
            self._answer(request, keep_alive=keep_alive)
        elif len(self._waiting) < MAX_PIPELINED_REQUESTS:
            self._waiting.append((request, keep_alive))
        else:
            self.close()

    def _answer(self, request: HttpRequest, *, keep_alive: bool) -> None:
        response = self._handle(request)
        self._counters.request_began()
        keep_alive = keep_alive and not response.close
        if response.instant:
            self._write_whole(response, keep_alive=keep_alive)
            self._counters.request_ended()
            return
        self._task = asyncio.get_running_loop().create_task(
            self._play(response, keep_alive=keep_alive)
        )
        self._task.add_done_callback(self._played)

    def _write_whole(self, response: Response, *, keep_alive: bool = False) -> None:
        if self._transport is None:
            return
        if response.on_begin is not None:
            response.on_begin()
        self._transport.write(whole_bytes(response, date=self._date.now(), keep_alive=keep_alive))
        if response.on_end is not None:
            response.on_end(True)  # noqa: FBT003  # the callback's one argument
        if not keep_alive:
            self._closing = True
            self._transport.close()

    def _played(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._counters.request_ended()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.close()
            raise error
        while self._waiting and not self._closing:
            request, keep_alive = self._waiting.popleft()
            self._answer(request, keep_alive=keep_alive)
            if self._is_busy():
                break

    async def _play(self, response: Response, *, keep_alive: bool) -> None:
        complete = False
        try:
            await self._wait(response.head_delay_seconds)
            if response.on_begin is not None:
                response.on_begin()
            if response.garbage is not None:
                await self._send(response.garbage)
            else:
                await self._play_pieces(response, keep_alive=keep_alive)
            await self._end(response)
            complete = response.ending == "complete"
        finally:
            if response.on_end is not None:
                response.on_end(complete)
        if not (keep_alive and complete) and self._transport is not None:
            self._closing = True
            self._transport.close()

    async def _play_pieces(self, response: Response, *, keep_alive: bool) -> None:
        pending = head_bytes(response, date=self._date.now(), keep_alive=keep_alive)
        for piece in response.pieces:
            if piece.delay_seconds:
                await self._send(pending)
                pending = b""
                await self._wait(piece.delay_seconds)
            pending += framed(response, piece.data)
        if response.chunked and response.ending == "complete":
            pending += b"0\r\n\r\n"
        await self._send(pending)

    async def _end(self, response: Response) -> None:
        if response.ending == "reset":
            self._reset()
        elif response.ending == "stall":
            await self._wait(None)
        elif response.ending == "flood":
            await self._flood(response)

    async def _flood(self, response: Response) -> None:
        for _ in range(FLOOD_BYTES // len(_FLOOD_CHUNK)):
            await self._send(framed(response, _FLOOD_CHUNK))
            # Other connections get their turn even when this client reads as fast as we write.
            await asyncio.sleep(0)

    async def _send(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)
        if self._writable is not None:
            await self._writable

    async def _wait(self, seconds: float | None) -> None:
        # A wait without end is left by cancellation only: connection_lost and close() both do that.
        if seconds is None:
            await asyncio.get_running_loop().create_future()
        elif seconds > 0:
            await asyncio.sleep(seconds)

    def _reset(self) -> None:
        transport = self._transport
        if transport is None:
            return
        self._closing = True
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None:
            # Linger on with 0 seconds: closing sends RST instead of FIN.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
