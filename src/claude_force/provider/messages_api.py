"""The direct way to the Messages API: one streamed request over HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from claude_force._version import __version__
from claude_force.config.proxies import Proxies
from claude_force.domain.errors import CallError, CertificateError, ClosedError, TransportError
from claude_force.domain.events import AnswerStarted, LimitsSeen, TextDelta
from claude_force.provider.answer import AnswerAssembler
from claude_force.provider.failures import quoted, response_failure
from claude_force.provider.http.errors import (
    ConnectFailedError,
    HttpError,
    SilentServerError,
    UntrustedServerError,
)
from claude_force.provider.http.pool import ConnectionPool
from claude_force.provider.http.target import parse_target
from claude_force.provider.keys import check_key
from claude_force.provider.sse import EventSplitter, EventTooLargeError
from claude_force.provider.wire import MALFORMED, decode_event, encode_request
from claude_force.resilience.rate_headers import read_rate_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.provider.http.connection import Connection

# An answer of 128,000 tokens comes to about 25 MB of events.
MAX_ANSWER_BYTES: Final = 100_000_000
_MAX_ERROR_BYTES: Final = 65_536
# How long the end of the body may take after the answer is complete, so that the connection can be used again.
_TAIL_SECONDS: Final = 0.5


class MessagesApiClient:
    """A `ModelClient` that sends each request once.

    Connections are kept and reused; any number of tasks, threads and event loops may share a client. Neither retries
    nor deadlines are here: `ResilientClient` adds them. Redirects are not followed, because they would carry the key
    elsewhere. A cancelled call closes its socket at once.

    Args:
        api_key: sent as ``Authorization: Bearer``.
        base_url: scheme, host and an optional path, with or without ``/v1``.
        proxies: the proxies of the environment; none by default.
        connect_timeout_seconds: for name, connection, proxy and TLS together.
        idle_timeout_seconds: the longest silence of the server, before and within the answer; the API sends pings.
        wall_clock: seconds since the epoch, for a `Retry-After` that is a date.

    Raises:
        ConfigError: the key, the URL or a proxy cannot be used.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        proxies: Proxies | None = None,
        connect_timeout_seconds: float = 10.0,
        idle_timeout_seconds: float = 60.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        check_key(api_key)
        self._pool = ConnectionPool(
            parse_target(base_url, proxies or Proxies()),
            connect_timeout_seconds=connect_timeout_seconds,
            idle_timeout_seconds=idle_timeout_seconds,
        )
        self._head = self._pool.target.head(
            "POST",
            "/v1/messages",
            f"authorization: Bearer {api_key}\r\n"
            f"user-agent: claude-force/{__version__}\r\n"
            "accept: text/event-stream\r\n"
            "accept-encoding: identity\r\n"
            "content-type: application/json\r\n",
        )
        # Names the provider in cache keys.
        self.origin = self._pool.target.origin + self._pool.target.path
        self._wall_clock = wall_clock
        self._closed = False

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`."""
        if self._closed:
            raise ClosedError("The client is closed; make a new one.")
        answer = AnswerAssembler()
        try:
            async with self._pool.connection() as connection:
                await self._exchange(connection, request, answer, on_event)
            return answer.response()
        except CallError as error:
            raise _with_usage(error, answer) from error.__cause__
        except HttpError as error:
            if self._closed:
                raise ClosedError("The client was closed while a call was under way.") from error
            raise _with_usage(self._transport_failure(error), answer) from error

    async def aclose(self) -> None:
        """Close every connection; calls under way fail. A second call does nothing."""
        if not self._closed:
            self._closed = True
            await self._pool.aclose()

    async def _exchange(
        self,
        connection: Connection,
        request: MessageRequest,
        answer: AnswerAssembler,
        on_event: EventListener | None,
    ) -> None:
        body = encode_request(request)
        head = f"{self._head}anthropic-version: {request.api_version}\r\ncontent-length: {len(body)}\r\n\r\n"
        status, headers = await connection.send(head.encode("ascii"), body)
        if on_event is not None:
            snapshot = read_rate_headers(headers.get, now_epoch_seconds=self._wall_clock())
            if snapshot:
                on_event(LimitsSeen(request.context.call_id, snapshot))
        if status != 200:
            raise response_failure(
                status,
                await _read_error_body(connection),
                headers.get,
                now_epoch_seconds=self._wall_clock(),
            )
        answer.request_id = headers.get("request-id")
        self._check_content(headers, answer)
        await _read(connection, answer, on_event, request.context.call_id)

    def _check_content(self, headers: Mapping[str, str], answer: AnswerAssembler) -> None:
        content_type = headers.get("content-type", "none")
        encoding = headers.get("content-encoding", "identity")
        if not content_type.startswith("text/event-stream") or encoding != "identity":
            raise TransportError(
                f"The server answers with content type {quoted(content_type)!r}, encoded as {quoted(encoding)!r}, "
                f"instead of a plain stream of events. Is the base URL right? Requests go to {self._pool.target.origin}",
                status=200,
                request_id=answer.request_id,
            )

    def _transport_failure(self, error: HttpError) -> TransportError:
        origin = self._pool.target.origin
        if isinstance(error, UntrustedServerError):
            return CertificateError(
                f"TLS failed: the certificate of {origin} is refused ({quoted(str(error))}), so the key was not sent. "
                "Where a proxy opens TLS, name its authority with SSL_CERT_FILE; otherwise check the base URL."
            )
        if isinstance(error, ConnectFailedError):
            what = f"No connection to {origin}"
        elif isinstance(error, SilentServerError):
            what = f"{origin} stopped sending"
        else:
            what = f"The connection to {origin} broke before the answer was complete"
        return TransportError(f"{what} ({quoted(str(error))}).")


async def _read(
    connection: Connection, answer: AnswerAssembler, on_event: EventListener | None, call_id: str
) -> None:
    splitter = EventSplitter()
    received_bytes = 0
    while (chunk := await connection.read()) is not None:
        received_bytes += len(chunk)
        if received_bytes > MAX_ANSWER_BYTES:
            raise TransportError(f"The answer is larger than {MAX_ANSWER_BYTES:,} bytes.")
        had_started = answer.started
        text = _take(splitter, chunk, answer)
        if on_event is not None:
            if answer.started and not had_started:
                on_event(AnswerStarted(call_id, answer.request_id, answer.usage))
            if text:
                on_event(TextDelta(call_id, text))
        if answer.finished:
            if not connection.has_ended:
                await _read_tail(connection)
            return


def _take(splitter: EventSplitter, chunk: bytes, answer: AnswerAssembler) -> str:
    """Take the events of one chunk and return the text they add."""
    text = ""
    try:
        for data in splitter.feed(chunk):
            text += answer.take(decode_event(data))
    except EventTooLargeError as error:
        raise TransportError(
            f"The answer is broken: {error}.", request_id=answer.request_id
        ) from error
    except MALFORMED as error:
        raise TransportError(
            "The answer is broken: an event is not the JSON it should be.",
            request_id=answer.request_id,
        ) from error
    return text


async def _read_tail(connection: Connection) -> None:
    """Read the end of a body whose answer is complete: a connection with an unread rest is not used again."""
    try:
        async with asyncio.timeout(_TAIL_SECONDS):
            await connection.read()
    except (TimeoutError, HttpError):
        return


async def _read_error_body(connection: Connection) -> bytes:
    body = b""
    try:
        while len(body) < _MAX_ERROR_BYTES and (chunk := await connection.read()) is not None:
            body += chunk
    except HttpError:
        # The status says what matters; what arrived of the text is used.
        return body
    return body


def _with_usage(error: CallError, answer: AnswerAssembler) -> CallError:
    if answer.usage and not error.usages:
        error.usages = (answer.usage,)
    error.request_id = error.request_id or answer.request_id
    return error
