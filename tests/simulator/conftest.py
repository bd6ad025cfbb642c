"""A client over a plain socket, and a clock that only moves when told."""

from __future__ import annotations

import asyncio
import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HEADERS = {
    "x-api-key": "test-key",
    "anthropic-version": "2026-10-21",
    "content-type": "application/json",
}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Server-sent events as (name, data)."""
        blocks = self.data.decode().split("\n\n")
        assert blocks[-1] == ""
        lines = [block.split("\n") for block in blocks[:-1]]
        return [(a.removeprefix("event: "), json.loads(b.removeprefix("data: "))) for a, b in lines]


class Client:
    def body(self, task: str = "Review this.", **changes: Any) -> dict[str, Any]:
        body = {
            "model": "claude-sonnet-5-5",
            "max_tokens": 1024,
            "messages": [{"role": "user", "content": task}],
            **changes,
        }
        return {name: value for name, value in body.items() if value is not ...}

    def call(
        self,
        sim: Any,
        body: Any = None,
        *,
        path: str = "/v1/messages",
        method: str = "POST",
        headers: dict[str, str | None] | None = None,
    ) -> Reply:
        sent = {**HEADERS, **(headers or {})}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=10)
        try:
            connection.request(method, path, data, {n: v for n, v in sent.items() if v is not None})
            response = connection.getresponse()
            return Reply(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )
        finally:
            connection.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what happens on the other side of a socket."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  # the far side of a socket sets no event of ours
                await asyncio.sleep(0.005)  # the far side sets no event of ours

    def control(self, sim: Any, name: str, body: Any = None, *, method: str = "POST") -> Reply:
        return self.call(
            sim,
            body,
            path=f"/_simulator/{name}",
            method=method,
            headers={"x-simulator-token": sim.control_token},
        )


class Clock:
    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def clock() -> Clock:
    return Clock()
