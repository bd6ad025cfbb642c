"""The Message Batches endpoints: many requests at half the price, answered within a day."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - msgspec resolves it at run time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from claude_force._version import __version__
from claude_force.domain.errors import (
    BatchCanceledError,
    CallError,
    RateLimitError,
    ServiceError,
    TransportError,
)
from claude_force.domain.messages import API_VERSION, MessageResponse
from claude_force.domain.usage import NO_USAGE
from claude_force.provider.answer import usage_of
from claude_force.provider.failures import quoted, response_failure, stream_failure
from claude_force.provider.http.errors import HttpError
from claude_force.provider.http.pool import ConnectionPool
from claude_force.provider.http.target import parse_target
from claude_force.provider.keys import check_key
from claude_force.provider.wire import (
    MALFORMED,
    WireBlock,
    WireErrorBody,
    WireUsage,
    request_body,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from claude_force.config.proxies import Proxies
    from claude_force.domain.messages import MessageRequest
    from claude_force.provider.http.connection import Connection

T = TypeVar("T")

# What the API takes in one batch; a little is left for what surrounds the requests.
MAX_BATCH_REQUESTS: Final = 100_000
MAX_BATCH_BYTES: Final = 250_000_000

_PATH: Final = "/v1/messages/batches"
# The most that the API lists at once.
_PAGE_SIZE: Final = 1000
_MAX_BODY_BYTES: Final = 10_000_000
# A line of results holds one answer.
_MAX_LINE_BYTES: Final = 100_000_000
# Questions about a batch cost nothing and may be asked again: 1 s, 2 s, 4 s … with jitter.
_ASKED_AGAIN: Final = 5
_RETRIED: Final = (TransportError, ServiceError, RateLimitError)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """Where a batch stands."""

    batch_id: str
    # Every request has a result, which can be read.
    ended: bool
    # Epoch seconds.
    created_at: float
    request_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """How one request of a batch ended: exactly one of ``response`` and ``error`` is set."""

    custom_id: str
    response: MessageResponse | None = None
    error: CallError | None = None


class _WireMessage(msgspec.Struct):
    id: str
    model: str
    content: list[WireBlock]
    usage: WireUsage
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None


class _WireResult(msgspec.Struct):
    type: str
    message: _WireMessage | None = None
    error: WireErrorBody | None = None


class _WireLine(msgspec.Struct):
    custom_id: str
    result: _WireResult


class _WireBatch(msgspec.Struct):
    id: str
    processing_status: str
    created_at: datetime
    request_counts: dict[str, int]


class _WirePage(msgspec.Struct):
    data: list[_WireBatch]
    has_more: bool = False
    last_id: str | None = None


_encode: Final = msgspec.json.Encoder().encode
_decode_batch: Final = msgspec.json.Decoder(_WireBatch).decode
_decode_page: Final = msgspec.json.Decoder(_WirePage).decode
_decode_line: Final = msgspec.json.Decoder(_WireLine).decode


def encode_item(custom_id: str, request: MessageRequest) -> bytes:
    """One request as it stands in a batch; ``custom_id`` matches ``[a-zA-Z0-9_-]{1,64}``."""
    return _encode({"custom_id": custom_id, "params": request_body(request)})


class BatchesApi:
    """The batches of one key. Any number of tasks may use it at the same time.

    Questions are asked again when that can help; a batch is sent once, because sending it again would pay for it
    again.

    Args:
        api_key: sent as ``Authorization: Bearer``.
        base_url: scheme, host and an optional path, with or without ``/v1``.
        proxies: the proxies of the environment.
        wall_clock: seconds since the epoch, for a `Retry-After` that is a date.

    Raises:
        ConfigError: the key, the URL or a proxy cannot be used.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        proxies: Proxies,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        check_key(api_key)
        self._pool = ConnectionPool(
            parse_target(base_url, proxies), connect_timeout_seconds=10.0, idle_timeout_seconds=60.0
        )
        self._headers = (
            f"authorization: Bearer {api_key}\r\n"
            f"user-agent: claude-force/{__version__}\r\n"
            "accept: application/json\r\naccept-encoding: identity\r\n"
            f"content-type: application/json\r\nanthropic-version: {API_VERSION}\r\n"
        )
        self._wall_clock = wall_clock

    async def create(self, items: Sequence[bytes]) -> BatchStatus:
        """Send a batch of `encode_item`s.

        Raises:
            TransportError: it is not known whether the batch was accepted; `created_since` tells.
            CallError: it was refused.
        """
        body = b'{"requests":[' + b",".join(items) + b"]}"
        return _status(_decoded(_decode_batch, await self._body("POST", _PATH, body)))

    async def status(self, batch_id: str) -> BatchStatus:
        """Where a batch stands."""
        body = await self._asked("GET", f"{_PATH}/{batch_id}")
        return _status(_decoded(_decode_batch, body))

    async def created_since(
        self, epoch_seconds: float, *, page_size: int = _PAGE_SIZE
    ) -> list[BatchStatus]:
        """The batches of the workspace that are not older, the newest first."""
        found: list[BatchStatus] = []
        query = f"?limit={page_size}"
        while True:
            page = _decoded(_decode_page, await self._asked("GET", _PATH + query))
            young = [
                status for status in map(_status, page.data) if status.created_at >= epoch_seconds
            ]
            found += young
            if len(young) < len(page.data) or not page.has_more or page.last_id is None:
                return found
            query = f"?limit={page_size}&after_id={page.last_id}"

    async def cancel(self, batch_id: str) -> BatchStatus:
        """Stop a batch; what is answered by then is paid, and has results."""
        body = await self._asked("POST", f"{_PATH}/{batch_id}/cancel")
        return _status(_decoded(_decode_batch, body))

    async def results(self, batch_id: str) -> AsyncGenerator[BatchResult, None]:
        """Every result of a batch that has ended, in the order of the API.

        Raises:
            CallError: the results cannot be read; those that came before are whole.
        """
        try:
            async with self._pool.connection() as connection:
                await self._sent(connection, "GET", f"{_PATH}/{batch_id}/results", b"")
                rest = b""
                while (chunk := await connection.read()) is not None:
                    *lines, rest = (rest + chunk).split(b"\n")
                    if len(rest) > _MAX_LINE_BYTES:
                        raise TransportError("A result of the batch is too large.")
                    for line in lines:
                        if line:
                            yield _result(_decoded(_decode_line, line))
        except HttpError as error:
            raise self._failure(error) from error
        if rest:
            yield _result(_decoded(_decode_line, rest))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def _asked(self, method: str, path: str) -> bytes:
        for attempt in range(_ASKED_AGAIN):
            try:
                return await self._body(method, path, b"")
            except _RETRIED as error:
                if error.should_retry is False:
                    raise
                pause = error.retry_after_seconds or 2**attempt * (0.5 + random.random() / 2)  # noqa: S311 - jitter
            await asyncio.sleep(min(pause, 60.0))
        return await self._body(method, path, b"")

    async def _body(self, method: str, path: str, body: bytes) -> bytes:
        received = b""
        try:
            async with self._pool.connection() as connection:
                await self._sent(connection, method, path, body)
                while (chunk := await connection.read()) is not None:
                    received += chunk
                    if len(received) > _MAX_BODY_BYTES:
                        raise TransportError("The answer about a batch is too large.")
        except HttpError as error:
            raise self._failure(error) from error
        return received

    async def _sent(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        """Send a request and take the head of its response.

        Raises:
            CallError: the status is not 200.
        """
        head = self._pool.target.head(method, path, self._headers)
        sent = f"{head}content-length: {len(body)}\r\n\r\n".encode("ascii")
        status, headers = await connection.send(sent, body)
        if status != 200:
            said = b""
            while len(said) < _MAX_BODY_BYTES and (chunk := await connection.read()) is not None:
                said += chunk
            raise response_failure(status, said, headers.get, now_epoch_seconds=self._wall_clock())

    def _failure(self, error: HttpError) -> TransportError:
        return TransportError(
            f"The connection to {self._pool.target.origin} failed ({quoted(str(error))})."
        )


def _decoded(decode: Callable[[bytes], T], data: bytes) -> T:
    try:
        return decode(data)
    except MALFORMED as error:
        raise TransportError("The answer about a batch is not the JSON it should be.") from error


def _status(wire: _WireBatch) -> BatchStatus:
    return BatchStatus(
        batch_id=wire.id,
        ended=wire.processing_status == "ended",
        created_at=wire.created_at.timestamp(),
        request_count=sum(wire.request_counts.values()),
    )


def _result(line: _WireLine) -> BatchResult:
    result = line.result
    if result.type == "succeeded" and result.message is not None:
        return BatchResult(custom_id=line.custom_id, response=_response(result.message))
    if result.type == "errored":
        wire = result.error
        failure = stream_failure(
            wire.error if wire else None, request_id=wire.request_id if wire else None
        )
        return BatchResult(custom_id=line.custom_id, error=failure)
    if result.type == "canceled":
        return BatchResult(
            custom_id=line.custom_id,
            error=BatchCanceledError(
                "The batch was canceled before this request was reached; nothing was paid for it."
            ),
        )
    said = (
        "was not reached within a day"
        if result.type == "expired"
        else f"ended as {quoted(result.type)!r}"
    )
    return BatchResult(
        custom_id=line.custom_id,
        error=ServiceError(
            f"The request {said} in its batch; nothing was paid for it. Run it again."
        ),
    )


def _response(wire: _WireMessage) -> MessageResponse:
    return MessageResponse(
        message_id=wire.id,
        model=wire.model,
        text="".join(block.text for block in wire.content if block.type == "text"),
        stop_reason=wire.stop_reason,
        stop_details=wire.stop_details,
        usage=usage_of(wire.usage, NO_USAGE),
    )
