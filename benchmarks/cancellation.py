"""What becomes of a call that is cancelled: the question that decided about the HTTP library.

    .venv/bin/python benchmarks/cancellation.py                       # our connections
    .venv-rivals/bin/python benchmarks/cancellation.py aiohttp
    .venv-rivals/bin/python benchmarks/cancellation.py pyreqwest

Against a server on loopback it prints, for one library: how many of 50 requests that were cancelled while they
waited for a response are still open at the server half a second later, and how many of 500 cancellations at a random
moment of a streamed answer were swallowed (the call went on, or returned, as if nothing had been asked).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

WAITING = 50
RANDOM = 500
PIECES = 20


class Server:
    """Answers /wait never and /stream in pieces; knows who is still connected."""

    def __init__(self) -> None:
        self.open = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b"/wait" in head:
                    await reader.read()
                    return
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                for _ in range(PIECES):
                    writer.write(b"5\r\nhello\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.0005)
                writer.write(b"0\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # the end of the run cancels who is still served
        finally:
            self.open -= 1
            writer.close()


@contextlib.asynccontextmanager
async def ours() -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    from claude_force.config.proxies import Proxies
    from claude_force.provider.http.pool import ConnectionPool
    from claude_force.provider.http.target import parse_target

    pools: dict[str, ConnectionPool] = {}

    async def call(url: str) -> None:
        base, _, path = url.rpartition("/")
        pool = pools.get(base) or pools.setdefault(
            base,
            ConnectionPool(
                parse_target(base, Proxies()), connect_timeout_seconds=10, idle_timeout_seconds=60
            ),
        )
        async with pool.connection() as connection:
            head = pool.target.head("POST", f"/{path}", "content-length: 0\r\n\r\n")
            await connection.send(head.encode(), b"")
            while await connection.read() is not None:
                pass

    yield call
    for pool in pools.values():
        await pool.aclose()


@contextlib.asynccontextmanager
async def aiohttp() -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    import aiohttp as library

    async with library.ClientSession(connector=library.TCPConnector(limit=0)) as session:

        async def call(url: str) -> None:
            async with session.post(url) as response:
                async for _ in response.content.iter_any():
                    pass

        yield call


@contextlib.asynccontextmanager
async def pyreqwest() -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    from pyreqwest.client import ClientBuilder

    async with ClientBuilder().build() as client:

        async def call(url: str) -> None:
            request = client.post(url).streamed_read_buffer_limit(0).build_streamed()
            async with request as response:
                while await response.body_reader.read_chunk() is not None:
                    pass

        yield call


async def measure(name: str) -> None:
    server = Server()
    listener = await asyncio.start_server(server, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    contender = {"ours": ours, "aiohttp": aiohttp, "pyreqwest": pyreqwest}[name]
    async with contender() as call:
        still_open = await cancel_waiting(call, f"{base}/wait", server)
        swallowed = await cancel_at_random(call, f"{base}/stream")
        print(f"{name}: {still_open} of {WAITING} cancelled requests still open; "
              f"{swallowed} of {RANDOM} cancellations swallowed")  # fmt: skip
    listener.close()


async def cancel_waiting(call: Callable[[str], Awaitable[None]], url: str, server: Server) -> int:
    tasks = [asyncio.ensure_future(call(url)) for _ in range(WAITING)]
    while server.open < WAITING:  # noqa: ASYNC110 - the server is a plain callback
        await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=5)
    await asyncio.sleep(0.5)
    return server.open


async def cancel_at_random(call: Callable[[str], Awaitable[None]], url: str) -> int:
    chance = random.Random(7)
    swallowed = 0
    for _ in range(RANDOM):
        task = asyncio.ensure_future(call(url))
        await asyncio.sleep(chance.random() * 0.012)
        if task.done() or not task.cancel():
            continue
        await asyncio.wait([task], timeout=2)
        swallowed += not task.cancelled()
        task.cancel()
    return swallowed


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(measure(sys.argv[1] if len(sys.argv) > 1 else "ours"), 120))
