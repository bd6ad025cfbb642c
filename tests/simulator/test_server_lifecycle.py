from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.domain.errors import ConfigError
from claude_force.simulator import (
    Fault,
    FaultKind,
    Latency,
    Scenario,
    Simulator,
    SimulatorThread,
    serve,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.conftest import Client


BODY = json.dumps(
    {"model": "claude-sonnet-5-5", "max_tokens": 99, "messages": [{"role": "user", "content": "x"}]}
).encode()


def request(body: Any = BODY, *extra: Any, host: str = "127.0.0.1") -> Any:
    lines = [
        "POST /v1/messages HTTP/1.1",
        f"host: {host}",
        "x-api-key: k",
        "anthropic-version: 2026-10-21",
        f"content-length: {len(body)}",
        *extra,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def exchange(sim: SimulatorThread, data: bytes, *, answers: Any = 1) -> Any:
    """What comes back until ``answers`` status lines and the last body are there, or the end."""
    received = b""
    with socket.create_connection(("127.0.0.1", sim.port), timeout=10) as client:
        client.sendall(data)
        while received.count(b"HTTP/1.1 ") < answers or not received.endswith((b"}", b"0\r\n\r\n")):
            part = client.recv(65_536)
            if not part:
                break
            received += part
    return received


@pytest.fixture(scope="module")
def sim() -> Iterator[SimulatorThread]:
    with SimulatorThread() as running:
        yield running


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.com", ""])  # noqa: S104  # must be refused
def test_only_loopback_is_listened_on(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        Simulator(host=host)


def test_port_that_is_taken_is_a_config_error(sim: SimulatorThread) -> None:
    with pytest.raises(ConfigError, match=f"port {sim.port}"), SimulatorThread(port=sim.port):
        pass


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:80", 200),
        ("localhost:9", 200),
        ("[::1]:1", 200),
        ("LOCALHOST", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost@evil.example", 421),
        ("", 421),
    ],
)
def test_host_header_has_to_name_this_machine(sim: SimulatorThread, host: str, status: int) -> None:
    assert exchange(sim, request(host=host)).startswith(f"HTTP/1.1 {status} ".encode())


def test_connection_is_kept_and_used_again(client: Client) -> None:
    with SimulatorThread() as sim:
        received = exchange(sim, request() + request(), answers=2)
        assert received.count(b"HTTP/1.1 200 OK") == 2
        assert b"connection: close" not in received


def test_pipelined_requests_are_answered_in_order_even_when_the_first_is_slow(
    client: Client,
) -> None:
    with SimulatorThread() as sim:
        sim.queue_fault(Fault(kind=FaultKind.SLOW_HEADERS, seconds=0.05, match="first"))
        first = BODY.replace(b'"x"', b'"first"')
        received = exchange(sim, request(first) + request(), answers=2)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.index(b"> first") < received.index(b"> x")


def test_close_is_honoured_and_told(sim: SimulatorThread) -> None:
    received = exchange(sim, request(BODY, "connection: close"))
    assert b"\r\nconnection: close\r\n" in received


def test_chunked_request_body_is_read(sim: SimulatorThread) -> None:
    head = request(b"", "transfer-encoding: chunked").replace(b"content-length: 0\r\n", b"")
    data = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    assert exchange(sim, data).startswith(b"HTTP/1.1 200 OK")


def test_client_that_asks_first_is_told_to_send(sim: SimulatorThread) -> None:
    with socket.create_connection(("127.0.0.1", sim.port), timeout=10) as client:
        whole = request(BODY, "expect: 100-continue")
        client.sendall(whole[: -len(BODY)])
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(BODY)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_client_that_asks_first_is_told_that_it_is_too_much(sim: SimulatorThread) -> None:
    head = request(b"", "expect: 100-continue").replace(
        b"content-length: 0", b"content-length: 99999999"
    )
    assert exchange(sim, head).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("data", [b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n"])
def test_what_is_not_http_is_400_and_closed(sim: SimulatorThread, data: bytes) -> None:
    received = exchange(sim, data)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in received


def test_headers_beyond_64_kib_are_431(sim: SimulatorThread) -> None:
    received = exchange(sim, request(BODY, "x-large: " + "x" * 70_000))
    assert received.startswith(b"HTTP/1.1 431 ")


def test_request_that_arrives_byte_by_byte_is_the_same_request(sim: SimulatorThread) -> None:
    with socket.create_connection(("127.0.0.1", sim.port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request():
            client.sendall(bytes([byte]))
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_short_streamed_answer_without_latency_is_one_write() -> None:
    transport = RecordingTransport()
    connection = Simulator()._connection()
    connection.connection_made(transport)
    connection.data_received(request(BODY[:-1] + b',"stream":true}'))
    assert len(transport.written) == 1
    assert transport.written[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert transport.written[0].endswith(b"\r\n0\r\n\r\n")


class RecordingTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[Any] = []

    def write(self, data: Any) -> None:
        self.written.append(data)


def test_aclose_ends_every_connection_and_leaves_no_task(client: Client) -> None:
    async def main() -> None:
        async with Simulator() as sim:
            for kind in (FaultKind.STALL, FaultKind.SLOW_HEADERS, FaultKind.OVERSIZED_LINE):
                sim.queue_fault(Fault(kind=kind))
            streams = []
            for _ in range(4):
                streams.append(await asyncio.open_connection("127.0.0.1", sim.port))
                streams[-1][1].write(request())
            await client.until(lambda: sim.stats.requests == 4)
            assert sim.stats.max_concurrent_requests >= 3
        assert len(asyncio.all_tasks()) == 1
        for reader, writer in streams:
            # Every client sees its connection end: FIN or RST.
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(10):
                    await reader.read(-1)
            writer.close()
        await sim.aclose()

    asyncio.run(main())


def test_slow_answer_ends_when_the_client_leaves(client: Client) -> None:
    async def main() -> None:
        latency = Latency(distribution="fixed", output_tokens_per_second=1.0)
        async with Simulator(scenario=Scenario(latency=latency)) as sim:
            reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
            writer.write(request(BODY[:-1] + b',"stream":true}'))
            await reader.readuntil(b"message_start")
            writer.close()
            await writer.wait_closed()
            await client.until(lambda: sim.stats.open_connections == 0)
            await client.until(lambda: len(asyncio.all_tasks()) == 1)
            assert sim.stats.answers == 0

    asyncio.run(main())


def test_serve_runs_until_it_is_told_to_stop(client: Client) -> None:
    async def main() -> None:
        stop = asyncio.Event()
        sim = Simulator()
        task = asyncio.create_task(serve(sim, stop))
        await client.until(lambda: sim.running)
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(request())
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        stop.set()
        await task
        assert not sim.running
        writer.close()

    asyncio.run(main())


def test_thread_ends_with_its_block_and_can_be_closed_twice() -> None:
    before = threading.active_count()
    with SimulatorThread() as sim:
        assert threading.active_count() == before + 1
        assert sim.base_url == f"http://127.0.0.1:{sim.port}"
    sim.close()
    assert threading.active_count() == before


def test_import_pulls_in_no_framework_and_no_sdk() -> None:
    code = (
        "import sys, claude_force.simulator\n"
        "print([m for m in ('anthropic', 'httpx2', 'aiohttp', 'click', 'rich', 'tempfile',"
        " 'unittest', 'urllib.parse', 'email') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
