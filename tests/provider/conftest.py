"""Peers that misbehave on a loopback socket, requests to send them, and a loop whose time can be skipped."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import selectors
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pytest

from claude_force.domain.messages import CallContext, Message, MessageRequest, TextBlock
from claude_force.provider.messages_api import MessagesApiClient

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")
KEY = "sk-ant-a-key-that-nobody-may-see"
SECONDS_FOR_A_TEST = 40.0


class Peer:
    """One connection, seen from the server."""

    def __init__(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self.reader = reader
        self.writer = writer

    async def request(self) -> tuple[str, bytes]:
        """Head and body of the next request; `IncompleteReadError` when the client has left."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        self._server.heads.append(head)
        lines = head.lower().split("\r\n")
        length = next((int(x.split(":")[1]) for x in lines if x.startswith("content-length:")), 0)
        body = await self.reader.readexactly(length)
        self._server.bodies.append(body)
        return head, body

    async def send(self, *pieces: bytes) -> None:
        """Write each piece as a packet of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.002)

    async def left(self) -> None:
        """Wait until the client closes or resets the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass
        self._server.departures += 1
        self._server.left.set()

    def reset(self) -> None:
        """Close with RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Handler = Callable[[Peer], Awaitable[None]]


class Server:
    """A listening socket whose connections are served by a handler."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.open = 0
        self.departures = 0
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.left = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._handler(Peer(self, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The client has left, or the test is over.
            return
        finally:
            self._tasks.discard(task)
            self.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Lab:
    """What every test of this folder works with."""

    key = KEY
    START: ClassVar[dict[str, Any]] = {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-5-5",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 11, "output_tokens": 1},
        },
    }
    HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_1\r\n"

    @staticmethod
    def run(main: Coroutine[Any, Any, T]) -> T:
        """`asyncio.run` with an end, and with what is left unclosed reported within the test."""

        async def bounded() -> T:
            async with asyncio.timeout(SECONDS_FOR_A_TEST):
                return await main

        result = asyncio.run(bounded())
        gc.collect()
        return result

    @staticmethod
    def skip_time(main: Coroutine[Any, Any, T]) -> T:
        """Run without waiting: where all tasks sleep, the clock jumps to the next timer."""
        loop = _SkippingLoop()
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            try:
                return runner.run(main)
            finally:
                loop.stop_skipping()

    @staticmethod
    @contextlib.asynccontextmanager
    async def serve(
        handler: Handler, *, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[Server]:
        server = Server(handler)
        listening = await asyncio.start_server(
            server.serve, "127.0.0.1", 0, ssl=tls, limit=2**20, backlog=1000
        )
        server.port = listening.sockets[0].getsockname()[1]
        try:
            yield server
        finally:
            listening.close()
            await server.close()
            await listening.wait_closed()

    @staticmethod
    def answering(*pieces: bytes, close: bool = False) -> Handler:
        """A handler that answers every request with these bytes."""

        async def handle(peer: Peer) -> None:
            while True:
                await peer.request()
                await peer.send(*pieces)
                if close:
                    return

        return handle

    @staticmethod
    def request(task: str = "Review this.", **changes: Any) -> MessageRequest:
        context = CallContext(call_id="call-1", agent_name="reviewer", **changes.pop("context", {}))
        fields: dict[str, Any] = {
            "model": "claude-sonnet-5-5",
            "max_tokens": 4096,
            "messages": (Message("user", (TextBlock(task),)),),
            "context": context,
        }
        return MessageRequest(**(fields | changes))

    @staticmethod
    def client(base_url: str, **options: Any) -> MessagesApiClient:
        return MessagesApiClient(
            **{"api_key": KEY, "base_url": base_url, "idle_timeout_seconds": 10.0, **options}
        )

    @classmethod
    def events(cls, *events: dict[str, Any]) -> bytes:
        return b"".join(
            b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())
            for event in events
        )

    @classmethod
    def answer(cls, text: str = "fine") -> bytes:
        """The events of a whole answer."""
        return cls.events(
            cls.START,
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": text},
            },
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 7},
            },
            {"type": "message_stop"},
        )

    @classmethod
    def sized(cls, body: bytes) -> bytes:
        """A response with a Content-Length."""
        return cls.HEAD + b"content-length: %d\r\n\r\n" % len(body) + body

    @classmethod
    def chunked(cls, *chunks: bytes, end: bool = True) -> bytes:
        """A response in chunks."""
        framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        tail = b"0\r\n\r\n" if end else b""
        return cls.HEAD + b"transfer-encoding: chunked\r\n\r\n" + framed + tail

    @staticmethod
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - pathlib would open one more

    @staticmethod
    async def settled() -> None:
        """Let sockets that were let go of be closed."""
        for _ in range(10):
            await asyncio.sleep(0)


class _SkippingSelector(selectors.DefaultSelector):
    """Never waits; the time that it was to wait is taken as passed."""

    skipped_seconds = 0.0
    # Off while the loop is shut down: it then waits for threads, with a timeout.
    is_skipping = True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self.is_skipping:
            return super().select(timeout)
        ready = super().select(0)
        if not ready and timeout is None:
            # Only a thread can wake this loop now.
            ready = super().select(10)
            assert ready, "everything waits, and nothing is going to happen"
        if not ready and timeout:
            self.skipped_seconds += timeout
        return ready


class _SkippingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return 1000.0 + self._skipping.skipped_seconds

    def stop_skipping(self) -> None:
        self._skipping.is_skipping = False


@pytest.fixture
def lab() -> Lab:
    return Lab()
