"""Servers that break the rules: every answer is whole or a typed error, in bounded time and memory."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from claude_force.domain.errors import (
    CallError,
    InvalidRequestError,
    ServiceError,
    TransportError,
)
from claude_force.domain.usage import Usage
from claude_force.provider import messages_api
from claude_force.resilience.classification import Action, action_for

PROMPT = Usage(input_tokens=11, output_tokens=1)


def failure(lab: Any, handler: Any, error: type[CallError] = TransportError, **options: Any) -> Any:
    """The error that a call to such a server ends in; the client has left the connection by then."""

    async def main() -> CallError:
        async with lab.serve(handler) as server:
            client = lab.client(server.url, **options)
            with pytest.raises(error) as caught:
                await client.send(lab.request())
            await client.aclose()
            assert lab.key not in str(caught.value)
            return caught.value

    return lab.run(main())


def text_from(lab: Any, handler: Any, **options: Any) -> str:
    async def main() -> str:
        async with lab.serve(handler) as server:
            client = lab.client(server.url, **options)
            response = await client.send(lab.request())
            await client.aclose()
            return str(response.text)

    return str(lab.run(main()))


def test_refused_connection_is_named_with_its_address(lab: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def main() -> None:
        client = lab.client(f"http://127.0.0.1:{port}")
        with pytest.raises(TransportError, match=f"No connection to http://127.0.0.1:{port} "):
            await client.send(lab.request())
        await client.aclose()

    lab.run(main())


def test_connection_that_does_not_come_about_ends_at_the_connect_timeout(lab: Any) -> None:
    # Nobody accepts, and the queue of the listening socket is full.
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())

        async def main() -> None:
            client = lab.client(
                f"http://127.0.0.1:{full.getsockname()[1]}", connect_timeout_seconds=0.2
            )
            with pytest.raises(TransportError, match=r"nothing within 0\.2 s"):
                await client.send(lab.request())
            await client.aclose()

        lab.run(main())


def test_silence_before_the_headers_ends_at_the_idle_timeout(lab: Any) -> None:
    async def handle(peer: Any) -> None:
        await peer.request()
        await peer.left()

    error = failure(lab, handle, idle_timeout_seconds=0.2)
    assert "stopped sending (silent for 0.2 s)" in str(error)
    assert error.usages == ()


def test_silence_inside_the_body_ends_at_the_idle_timeout_and_keeps_the_usage(lab: Any) -> None:
    async def handle(peer: Any) -> None:
        await peer.request()
        await peer.send(lab.chunked(lab.events(lab.START), end=False))
        await peer.left()

    error = failure(lab, handle, idle_timeout_seconds=0.2)
    assert "silent for 0.2 s" in str(error)
    assert error.usages == (PROMPT,)
    assert error.request_id == "req_1"


def test_answer_that_drips_is_never_idle(lab: Any) -> None:
    body = lab.sized(lab.answer())
    step = len(body) // 12

    async def handle(peer: Any) -> None:
        await peer.request()
        for start in range(0, len(body), step):
            await peer.send(body[start : start + step])
            # Longer than the timeout in all, far shorter each.
            await asyncio.sleep(0.08)

    assert text_from(lab, handle, idle_timeout_seconds=0.6) == "fine"


def test_upload_in_progress_is_no_silence(lab: Any) -> None:
    size = 30_000_000

    async def handle(peer: Any) -> None:
        head = await peer.reader.readuntil(b"\r\n\r\n")
        left = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while left:
            left -= len(await peer.reader.read(400_000))
            await asyncio.sleep(0.02)
        await peer.send(lab.sized(lab.answer()))

    async def main() -> str:
        async with lab.serve(handle) as server:
            client = lab.client(server.url, idle_timeout_seconds=0.8)
            response = await client.send(lab.request("x" * size))
            await client.aclose()
            return str(response.text)

    assert lab.run(main()) == "fine"


@pytest.mark.parametrize("pieces", [1, 40])
@pytest.mark.parametrize("count", [1, 1000])
def test_headers_beyond_64_kb_are_refused(lab: Any, pieces: int, count: int) -> None:
    padding = b"".join(b"x-%d: %b\r\n" % (i, b"a" * (70_000 // count)) for i in range(count))
    data = lab.HEAD + padding + b"\r\n"
    step = -(-len(data) // pieces)
    error = failure(lab, lab.answering(*(data[i : i + step] for i in range(0, len(data), step))))
    assert "the headers are larger than 65,536 bytes" in str(error)


@pytest.mark.parametrize(
    ("beginning", "repeated"),
    [
        (b"HTTP/1.1 200 OK\r\nx: ", b"a" * 65_536),
        (b"HTTP/1.1 200 ", b"a" * 65_536),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 10_000),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;", b"a" * 65_536),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ", b"a" * 65_536),
    ],
    ids=["one line", "status line", "many lines", "chunk extension", "trailer"],
)
def test_headers_without_an_end_are_left_after_the_bound(
    lab: Any, beginning: bytes, repeated: bytes
) -> None:
    sent = 0

    async def handle(peer: Any) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(beginning)
        while sent < 200_000_000:
            await peer.send(repeated)
            sent += len(repeated)

    failure(lab, handle)
    # What the socket buffers of both sides hold comes on top of the bound.
    assert sent < 20_000_000


def test_answer_beyond_its_bound_is_left(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages_api, "MAX_ANSWER_BYTES", 300_000)
    ping = lab.events({"type": "ping"}) * 100

    async def handle(peer: Any) -> None:
        await peer.request()
        await peer.send(lab.chunked(lab.events(lab.START), end=False))
        while True:
            await peer.send(b"%x\r\n%b\r\n" % (len(ping), ping))

    error = failure(lab, handle)
    assert "larger than 300,000 bytes" in str(error)
    assert error.usages == (PROMPT,)


def test_line_beyond_its_bound_is_left(lab: Any) -> None:
    async def handle(peer: Any) -> None:
        await peer.request()
        await peer.send(lab.chunked(lab.events(lab.START), b"data: ", end=False))
        while True:
            await peer.send(b"10000\r\n%b\r\n" % (b"a" * 65_536))

    error = failure(lab, handle)
    assert "a line of more than 8,000,000 bytes" in str(error)
    assert error.usages == (PROMPT,)


def test_flood_that_nobody_reads_is_held_back_at_the_socket(lab: Any) -> None:
    from claude_force.config.proxies import Proxies
    from claude_force.provider.http.pool import ConnectionPool
    from claude_force.provider.http.target import parse_target

    sent = 0

    async def handle(peer: Any) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(lab.HEAD + b"\r\n")
        while True:
            await peer.send(b"a" * 65_536)
            sent += 65_536

    async def main() -> None:
        async with lab.serve(handle) as server:
            pool = ConnectionPool(
                parse_target(server.url, Proxies()),
                connect_timeout_seconds=5,
                idle_timeout_seconds=0.2,
            )
            async with pool.connection() as connection:
                await connection.send(b"POST / HTTP/1.1\r\n\r\n", b"")
                await asyncio.sleep(0.5)
                before = sent
                # The silence is ours, not the server's: it is no fault.
                await asyncio.sleep(0.5)
                assert sent == before
                held = await connection.read()
                assert held is not None
                assert len(held) < 2_000_000
                assert await connection.read()
            await pool.aclose()
        assert before < 20_000_000

    lab.run(main())


def test_body_cut_inside_a_chunk_is_not_an_answer(lab: Any) -> None:
    whole = lab.chunked(lab.answer())
    assert "broke before the answer was complete" in str(
        failure(lab, lab.answering(whole[:-200], close=True))
    )


def test_body_shorter_than_its_length_is_not_an_answer(lab: Any) -> None:
    whole = lab.sized(lab.answer())
    error = failure(lab, lab.answering(whole[:-50], close=True))
    assert "broke before the answer was complete" in str(error)
    assert error.usages == (Usage(input_tokens=11, output_tokens=7),)


def test_missing_last_chunk_does_not_void_an_answer_that_is_whole(lab: Any) -> None:
    assert text_from(lab, lab.answering(lab.chunked(lab.answer(), end=False), close=True)) == "fine"


def test_body_without_length_ends_with_the_connection(lab: Any) -> None:
    assert text_from(lab, lab.answering(lab.HEAD + b"\r\n" + lab.answer(), close=True)) == "fine"


def test_body_without_length_is_not_complete_without_message_stop(lab: Any) -> None:
    error = failure(lab, lab.answering(lab.HEAD + b"\r\n" + lab.events(lab.START), close=True))
    assert "ended before the answer was complete" in str(error)
    assert error.usages == (PROMPT,)


def test_reset_in_the_middle_is_a_transport_error(lab: Any) -> None:
    async def handle(peer: Any) -> None:
        await peer.request()
        await peer.send(lab.chunked(lab.events(lab.START), end=False))
        await asyncio.sleep(0.02)
        peer.reset()

    assert failure(lab, handle).usages == (PROMPT,)


def test_http_1_0_answers(lab: Any) -> None:
    data = lab.HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n" + lab.answer()
    assert text_from(lab, lab.answering(data, close=True)) == "fine"


def test_interim_responses_are_passed_over(lab: Any) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nrequest-id: wrong\r\n\r\n"

    async def main() -> None:
        async with lab.serve(lab.answering(interim + lab.sized(lab.answer()))) as server:
            client = lab.client(server.url)
            for _ in range(2):
                response = await client.send(lab.request())
                assert (response.text, response.request_id) == ("fine", "req_1")
            assert server.connections == 1
            await client.aclose()

    lab.run(main())


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00 this is not HTTP\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nx: \x1b[31m\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello",
        b"",
    ],
)
def test_what_is_no_http_response_is_a_transport_error(lab: Any, data: bytes) -> None:
    error = failure(lab, lab.answering(data, close=True))
    assert str(error).isprintable()


def test_second_response_does_not_replace_the_first(lab: Any) -> None:
    second = b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\n{}"

    async def main() -> None:
        async with lab.serve(lab.answering(lab.sized(lab.answer()) + second)) as server:
            client = lab.client(server.url)
            for number in (1, 2):
                assert (await client.send(lab.request())).text == "fine"
                # A connection that carried too much is not used again.
                assert server.connections == number
            await client.aclose()

    lab.run(main())


@pytest.mark.parametrize(
    "header", [b"content-type: text/html", b"content-encoding: gzip", b"content-type: "]
)
def test_another_kind_of_content_is_refused_before_it_is_read(lab: Any, header: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    if b"type" not in header:
        head += b"content-type: text/event-stream\r\n"
    error = failure(lab, lab.answering(head + header + b"\r\ncontent-length: 5\r\n\r\nabcde"))
    assert "Is the base URL right?" in str(error)
    assert error.status == 200


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_not_followed_and_the_key_stays(lab: Any, status: int) -> None:
    async def main() -> None:
        async with (
            lab.serve(lab.answering(lab.sized(lab.answer()))) as other,
            lab.serve(
                lab.answering(
                    b"HTTP/1.1 %d Moved\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n"
                    % (status, other.url.encode())
                )
            ) as server,
        ):
            client = lab.client(server.url)
            with pytest.raises(InvalidRequestError, match="answers with a redirect") as caught:
                await client.send(lab.request())
            assert other.url in str(caught.value)
            assert action_for(caught.value) is Action.FAIL
            await client.aclose()
            assert (other.connections, server.connections) == (0, 1)

    lab.run(main())


def test_refusal_that_comes_before_the_body_is_sent_is_read(lab: Any) -> None:
    body = b'{"error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}'

    async def handle(peer: Any) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(
            b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await peer.left()

    async def main() -> None:
        async with lab.serve(handle) as server:
            client = lab.client(server.url)
            with pytest.raises(InvalidRequestError, match="maximum size") as caught:
                await client.send(lab.request("x" * 20_000_000))
            assert caught.value.status == 413
            await asyncio.wait_for(server.left.wait(), 5)
            await client.aclose()

    lab.run(main())


@pytest.mark.parametrize(
    "ending",
    [b'content-length: 100\r\n\r\n{"error":', b"transfer-encoding: chunked\r\n\r\n5\r\n{\r\n"],
)
def test_refusal_whose_body_breaks_is_known_by_its_status(lab: Any, ending: bytes) -> None:
    error = failure(
        lab,
        lab.answering(b"HTTP/1.1 503 Busy\r\nretry-after: 3\r\n" + ending, close=True),
        ServiceError,
    )
    assert (error.status, error.retry_after_seconds) == (503, 3.0)


def test_page_of_a_gateway_is_bounded_and_never_quoted(lab: Any) -> None:
    page = b"<html>" + b"x" * 500_000
    error = failure(
        lab,
        lab.answering(b"HTTP/1.1 502 Bad\r\ncontent-length: %d\r\n\r\n%b" % (len(page), page)),
        ServiceError,
    )
    assert "html" not in str(error)
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"type":"ping","x":' + b"[" * 100_000 + b"\n\n",
        b'data: {"type":"message_delta","delta":{"stop_reason":7}}\n\n',
        b'data: {"type":"message_delta","usage":{"output_tokens":' + b"9" * 6000 + b"}}\n\n",
        b"data: [1]\n\n",
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\xff"}}\n\n',
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud800"}}\n\n',
    ],
)
def test_event_that_is_not_what_it_should_be_is_a_transport_error(lab: Any, event: bytes) -> None:
    error = failure(lab, lab.answering(lab.chunked(lab.events(lab.START), event)))
    assert "not the JSON it should be" in str(error)
    assert error.usages == (PROMPT,)


def test_deeply_nested_error_body_is_known_by_its_status(lab: Any) -> None:
    body = b'{"error":' + b"[" * 60_000
    error = failure(
        lab,
        lab.answering(b"HTTP/1.1 500 Oops\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)),
        ServiceError,
    )
    assert error.status == 500
