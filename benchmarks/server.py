"""A server with canned answers, so that what is measured is the client.

It knows nothing of HTTP but where a request ends. The path chooses the answer:

    /short/v1/messages    one answer at once: events in one write when the body asks for a stream, else JSON
    /deltas/v1/messages   an answer in 300 pieces of text, each a write of its own, one after the other
    /paced/v1/messages    the same, with a millisecond between two pieces
    /slow/v1/messages     what ``/short/`` answers, 200 ms later

Its first line on stdout is its port. With ``--first-bytes`` it prints, for every connection, the monotonic time in
nanoseconds at which the first byte of a request arrived.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

DELTAS = 300
PIECE = "A piece of the answer. "
_PACE_SECONDS = 0.001
SLOW_SECONDS = 0.2

_HEADERS = (
    b"request-id: req_011CSHoEeqs5C35K2UUqR7Fy\r\n"
    b"anthropic-ratelimit-requests-limit: 10000000\r\n"
    b"anthropic-ratelimit-requests-remaining: 9999999\r\n"
    b"anthropic-ratelimit-requests-reset: 2026-11-01T00:00:00Z\r\n"
    b"anthropic-ratelimit-input-tokens-limit: 20000000000\r\n"
    b"anthropic-ratelimit-input-tokens-remaining: 19999999000\r\n"
    b"anthropic-ratelimit-input-tokens-reset: 2026-11-01T00:00:00Z\r\n"
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n" + _HEADERS + b"\r\n"
)
_USAGE = {
    "input_tokens": 120,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 1,
    "service_tier": "standard",
}


def _event(kind: str, **fields: object) -> bytes:
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _message(content: list[object], stop_reason: str | None) -> dict[str, object]:
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": _USAGE,
    }


def _events(pieces: int) -> list[bytes]:
    delta = {"type": "text_delta", "text": PIECE}
    return [
        _event("message_start", message=_message([], None))
        + _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *[_event("content_block_delta", index=0, delta=delta)] * pieces,
        _event("content_block_stop", index=0)
        + _event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": 6 * pieces},
        )
        + _event("message_stop"),
    ]


_SHORT_STREAM = _STREAM_HEAD + _chunk(b"".join(_events(3))) + b"0\r\n\r\n"
_SHORT_BODY = json.dumps(_message([{"type": "text", "text": PIECE * 3}], "end_turn")).encode()
_SHORT_JSON = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    + b"content-length: %d\r\n" % len(_SHORT_BODY)
    + _HEADERS
    + b"\r\n"
    + _SHORT_BODY
)
_LONG_STREAM = [_STREAM_HEAD, *(_chunk(event) for event in _events(DELTAS)), b"0\r\n\r\n"]


class CannedServer(asyncio.Protocol):
    """One connection."""

    report_first_bytes = False

    def __init__(self) -> None:
        self._received = b""
        self._wanted = 0
        self._seen = False
        self._transport: asyncio.Transport | None = None
        self._streams: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._seen:
            self._seen = True
            if self.report_first_bytes:
                print(time.monotonic_ns(), flush=True)
        self._received += data
        if not self._wanted:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._received[:end].lower()
            start = head.index(b"content-length:") + len(b"content-length:")
            self._wanted = end + 4 + int(head[start:].split(b"\r\n", 1)[0])
        if len(self._received) >= self._wanted:
            request, self._received, self._wanted = self._received, b"", 0
            self._answer(request)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        for stream in self._streams:
            stream.cancel()

    def _answer(self, request: bytes) -> None:
        assert self._transport is not None
        path = request[: request.index(b"\r\n")]
        if b"/deltas/" in path:
            for piece in _LONG_STREAM:
                self._transport.write(piece)
        elif b"/paced/" in path:
            stream = asyncio.get_running_loop().create_task(_pace(self._transport))
            self._streams.add(stream)
            stream.add_done_callback(self._streams.discard)
        elif b"/slow/" in path:
            answer = _SHORT_STREAM if b'"stream":true' in request else _SHORT_JSON
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._transport.write, answer)
        elif b'"stream":true' in request or b'"stream": true' in request:
            self._transport.write(_SHORT_STREAM)
        else:
            self._transport.write(_SHORT_JSON)


async def _pace(transport: asyncio.Transport) -> None:
    for piece in _LONG_STREAM:
        transport.write(piece)
        await asyncio.sleep(_PACE_SECONDS)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(
        CannedServer, "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    CannedServer.report_first_bytes = "--first-bytes" in sys.argv
    try:
        asyncio.run(_serve())
    except KeyboardInterrupt:
        sys.exit(0)
