"""Ways to ask the same question of the same server. Each is run in a process of its own.

``our-…`` and ``run_…`` need our environment, the rest that of the rivals; what a contender needs is imported by it.
Every one sends the same model, system text and task, reads the answer as it arrives and returns its text.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Call = Callable[[], Awaitable[str]]

KEY = "sk-benchmark"
AGENT = "bench-reviewer"
MODEL = "claude-sonnet-5"
SYSTEM = "You review code. Name the three worst problems first, each with its line.\n" * 40
TASK = "Review this function and say what could go wrong with it."
MAX_TOKENS = 4096
_HEADERS = {
    "authorization": f"Bearer {KEY}",
    "anthropic-version": "2026-10-21",
    "content-type": "application/json",
    "accept": "text/event-stream",
}


_numbers = count(1)


def next_task() -> str:
    """Another task each time, so that nothing which remembers requests has an advantage."""
    return f"{TASK} It is number {next(_numbers)}."


def write_agent(folder: Path) -> None:
    """The agent that our own path runs, with the same system text."""
    folder.joinpath(f"{AGENT}.md").write_text(
        f"---\nname: {AGENT}\ndescription: Reviews code.\nmodel: {MODEL}\n---\n{SYSTEM}",
        encoding="utf-8",
    )


def _request() -> dict[str, Any]:
    return {
        "model": MODEL,
        "max_tokens": MAX_TOKENS,
        "system": [{"type": "text", "text": SYSTEM}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": next_task()}]}],
    }


def _bare_codec() -> tuple[Callable[[], bytes], Callable[[], _BareReader]]:
    """Encodes the request and decodes the events: the least that any lean client has to do."""
    import msgspec

    delta = msgspec.defstruct("Delta", [("text", str, "")])
    event = msgspec.defstruct("Event", [("type", str), ("delta", delta | None, None)])
    encode = msgspec.json.Encoder().encode
    decode = msgspec.json.Decoder(event).decode
    return (lambda: encode(_request() | {"stream": True})), (lambda: _BareReader(decode))


class _BareReader:
    def __init__(self, decode: Callable[[bytes], Any]) -> None:
        self._decode = decode
        self._rest = b""
        self._texts: list[str] = []

    def feed(self, chunk: bytes) -> None:
        *events, self._rest = (self._rest + chunk).split(b"\n\n")
        for event in events:
            decoded = self._decode(event[event.index(b"data: ") + 6 :])
            if decoded.type == "content_block_delta":
                self._texts.append(decoded.delta.text)

    def text(self) -> str:
        return "".join(self._texts)


@asynccontextmanager
async def our_transport(base_url: str, _agents: Path, _concurrency: int) -> AsyncIterator[Call]:
    """The connection pool of claude-force alone."""
    from claude_force.config.proxies import Proxies
    from claude_force.provider.http.pool import ConnectionPool
    from claude_force.provider.http.target import parse_target

    target = parse_target(base_url, Proxies())
    pool = ConnectionPool(target, connect_timeout_seconds=10.0, idle_timeout_seconds=60.0)
    lines = "".join(f"{name}: {value}\r\n" for name, value in _HEADERS.items())
    head = target.head("POST", "/v1/messages", lines)
    encode, new_reader = _bare_codec()

    async def call() -> str:
        body, reader = encode(), new_reader()
        async with pool.connection() as connection:
            await connection.send(f"{head}content-length: {len(body)}\r\n\r\n".encode(), body)
            while (chunk := await connection.read()) is not None:
                reader.feed(chunk)
        return reader.text()

    yield call
    await pool.aclose()


@asynccontextmanager
async def run_agent(base_url: str, agents: Path, concurrency: int) -> AsyncIterator[Call]:
    """The whole path of claude-force."""
    from claude_force.orchestrator import AsyncAgentOrchestrator

    async with AsyncAgentOrchestrator(
        api_key=KEY,
        base_url=base_url,
        max_concurrent=concurrency,
        agents_dir=agents,
        enable_cache=False,
    ) as force:

        async def call() -> str:
            return (await force.run_agent(AGENT, next_task())).text

        yield call


@asynccontextmanager
async def aiohttp(base_url: str, _agents: Path, _concurrency: int) -> AsyncIterator[Call]:
    import aiohttp as library  # type: ignore[import-not-found]  # in the rivals' environment

    encode, new_reader = _bare_codec()
    connector = library.TCPConnector(limit=0)
    async with library.ClientSession(connector=connector, headers=_HEADERS) as session:

        async def call() -> str:
            reader = new_reader()
            async with session.post(f"{base_url}/v1/messages", data=encode()) as response:
                async for chunk in response.content.iter_any():
                    reader.feed(chunk)
            return reader.text()

        yield call


@asynccontextmanager
async def pyreqwest(base_url: str, _agents: Path, _concurrency: int) -> AsyncIterator[Call]:
    from pyreqwest.client import (  # type: ignore[import-not-found]  # in the rivals' environment
        ClientBuilder,
    )

    encode, new_reader = _bare_codec()
    async with ClientBuilder().default_headers(_HEADERS).build() as client:

        async def call() -> str:
            reader = new_reader()
            request = client.post(f"{base_url}/v1/messages").body_bytes(encode()).build_streamed()
            async with request as response:
                while (chunk := await response.body_reader.read_chunk()) is not None:
                    reader.feed(bytes(chunk))
            return reader.text()

        yield call


@asynccontextmanager
async def httpx2(base_url: str, _agents: Path, concurrency: int) -> AsyncIterator[Call]:
    import httpx2 as library

    encode, new_reader = _bare_codec()
    limits = library.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with library.AsyncClient(headers=_HEADERS, limits=limits, timeout=60) as client:

        async def call() -> str:
            reader = new_reader()
            request = client.stream("POST", f"{base_url}/v1/messages", content=encode())
            async with request as response:
                async for chunk in response.aiter_bytes():
                    reader.feed(chunk)
            return reader.text()

        yield call


@asynccontextmanager
async def sdk_stream(base_url: str, _agents: Path, _concurrency: int) -> AsyncIterator[Call]:
    """The bare SDK, streaming."""
    from anthropic import AsyncAnthropic

    async with AsyncAnthropic(api_key=KEY, base_url=base_url, max_retries=0) as client:

        async def call() -> str:
            return "".join(
                [
                    event.delta.text
                    async for event in await client.messages.create(**_request(), stream=True)
                    if event.type == "content_block_delta" and event.delta.type == "text_delta"
                ]
            )

        yield call


@asynccontextmanager
async def sdk_json(base_url: str, _agents: Path, _concurrency: int) -> AsyncIterator[Call]:
    """The bare SDK, one JSON answer."""
    from anthropic import AsyncAnthropic

    async with AsyncAnthropic(api_key=KEY, base_url=base_url, max_retries=0) as client:

        async def call() -> str:
            message = await client.messages.create(**_request())
            return "".join(block.text for block in message.content if block.type == "text")

        yield call


OURS: dict[str, Callable[[str, Path, int], AbstractAsyncContextManager[Call]]] = {
    "run_agent": run_agent,
    "our transport": our_transport,
}
RIVALS: dict[str, Callable[[str, Path, int], AbstractAsyncContextManager[Call]]] = {
    "aiohttp": aiohttp,
    "pyreqwest": pyreqwest,
    "httpx2": httpx2,
    "SDK stream": sdk_stream,
    "SDK JSON": sdk_json,
}
