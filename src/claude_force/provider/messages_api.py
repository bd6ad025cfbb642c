"""The direct way to the Messages API: one streamed request over HTTP.

The HTTP library is pyreqwest (Rust's reqwest): it costs 8 ms to import and a quarter of the CPU of the pure Python
clients per call; ``docs/decisions/http-library.md`` has the trial. Redirects are off, because they would carry the
key elsewhere, and decompression stays on, which the bound on the answer's size covers.
"""

from __future__ import annotations

import asyncio
import re
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import (
    ClientClosedError,
    ConnectError,
    ConnectTimeoutError,
    PyreqwestError,
    RequestTimeoutError,
)

from claude_force._version import __version__
from claude_force.domain.errors import (
    CallError,
    ClaudeForceError,
    ClosedError,
    ConfigError,
    TransportError,
)
from claude_force.domain.events import AnswerStarted, TextDelta
from claude_force.provider.answer import AnswerAssembler
from claude_force.provider.failures import quoted, response_failure
from claude_force.provider.sse import EventSplitter, EventTooLargeError
from claude_force.provider.wire import decode_event, encode_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyreqwest.client import Client
    from pyreqwest.response import Response

    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse

# An answer of 128,000 tokens comes to about 25 MB of events.
MAX_ANSWER_BYTES: Final = 100_000_000
_MAX_ERROR_BYTES: Final = 65_536
# How long the end of the body may take after the answer is complete, so that the connection can be used again.
_TAIL_SECONDS: Final = 0.5
_KEY: Final = re.compile(r"[\x21-\x7e]+")


class MessagesApiClient:
    """A `ModelClient` that sends each request once.

    Connections are kept and shared by all tasks, threads and event loops. Neither retries nor deadlines are here:
    `ResilientClient` adds them. A silence of ``idle_timeout_seconds`` ends the request.

    Args:
        api_key: sent as ``Authorization: Bearer``.
        base_url: scheme, host and an optional path, without ``/v1``.
        connect_timeout_seconds: for the connection and its TLS handshake.
        idle_timeout_seconds: the longest silence of the server, before and within the answer; the API sends pings.
        wall_clock: seconds since the epoch, for a `Retry-After` that is a date.

    Raises:
        ConfigError: the key or the URL cannot be used.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        connect_timeout_seconds: float = 10.0,
        idle_timeout_seconds: float = 60.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not _KEY.fullmatch(api_key):
            raise ConfigError(
                "The API key holds characters that no key has (a space, a line break or a letter outside ASCII). "
                "Set ANTHROPIC_API_KEY again, without quotes or a trailing line break."
            )
        self._api_key = api_key
        self._url = messages_url(base_url)
        self._idle_timeout_seconds = idle_timeout_seconds
        self._wall_clock = wall_clock
        self._closed = False
        self._http = _build_http(connect_timeout_seconds, idle_timeout_seconds)

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`."""
        if self._closed:
            raise ClosedError("The client is closed; make a new one.")
        answer = AnswerAssembler()
        try:
            return await self._exchange(request, answer, on_event)
        except CallError as error:
            raise _with_usage(error, answer) from error.__cause__
        except PyreqwestError as error:
            raise _with_usage(self._transport_failure(error), answer) from error

    async def aclose(self) -> None:
        """Close every connection; calls under way fail."""
        if not self._closed:
            self._closed = True
            await self._http.close()

    async def _exchange(
        self, request: MessageRequest, answer: AnswerAssembler, on_event: EventListener | None
    ) -> MessageResponse:
        http_request = (
            self._http.post(self._url)
            .header("authorization", "Bearer " + self._api_key, is_sensitive=True)
            .header("anthropic-version", request.api_version)
            .header("content-type", "application/json")
            .body_bytes(encode_request(request))
            .build_streamed()
        )
        async with http_request as response:
            if response.status != 200:
                body = bytes(await response.body_reader.read(_MAX_ERROR_BYTES) or b"")
                raise response_failure(
                    response.status, body, response.get_header, now_epoch_seconds=self._wall_clock()
                )
            answer.request_id = response.get_header("request-id")
            self._check_content_type(response, answer)
            await self._read(response, answer, on_event, request.context.call_id)
        return answer.response()

    async def _read(
        self,
        response: Response,
        answer: AnswerAssembler,
        on_event: EventListener | None,
        call_id: str,
    ) -> None:
        splitter = EventSplitter()
        reader = response.body_reader
        received_bytes = 0
        while (chunk := await reader.read_chunk()) is not None:
            received_bytes += len(chunk)
            if received_bytes > MAX_ANSWER_BYTES:
                raise TransportError(f"The answer is larger than {MAX_ANSWER_BYTES:,} bytes.")
            started = answer.started
            text = _take(splitter, bytes(chunk), answer)
            if on_event is not None:
                if answer.started and not started:
                    on_event(AnswerStarted(call_id, answer.request_id, answer.usage))
                if text:
                    on_event(TextDelta(call_id, text))
            if answer.finished:
                await _read_tail(response)
                return

    def _check_content_type(self, response: Response, answer: AnswerAssembler) -> None:
        content_type = response.get_header("content-type") or "none"
        if not content_type.startswith("text/event-stream"):
            raise TransportError(
                f"The server answers with content type {quoted(content_type)!r} instead of a stream of events. "
                f"Is the base URL right? Requests go to {self._url}",
                status=200,
                request_id=answer.request_id,
            )

    def _transport_failure(self, error: PyreqwestError) -> CallError | ClosedError:
        if isinstance(error, ClientClosedError):
            return ClosedError("The client was closed while a call was under way.")
        if isinstance(error, (ConnectError, ConnectTimeoutError)):
            what = f"No connection to {self._url}"
        elif isinstance(error, RequestTimeoutError):
            what = f"The server was silent for {self._idle_timeout_seconds:g} s"
        else:
            what = "The connection broke before the answer was complete"
        return TransportError(f"{what} ({_reason(error)}).")


def messages_url(base_url: str) -> str:
    """Where messages are sent below ``base_url``.

    Raises:
        ConfigError: no ``http`` or ``https`` URL, or one with a user, a query or a fragment.
    """
    from urllib.parse import urlsplit  # noqa: PLC0415 - loaded by few other modules

    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"The base URL {base_url!r} cannot be used: expected something like https://api.anthropic.com, "
            "without user, query or fragment."
        )
    return f"{base_url.rstrip('/').removesuffix('/v1')}/v1/messages"


def _build_http(connect_timeout_seconds: float, idle_timeout_seconds: float) -> Client:
    return (
        ClientBuilder()
        .user_agent(f"claude-force/{__version__}")
        .follow_redirects(enable=False)
        .referer(enable=False)
        .connect_timeout(timedelta(seconds=connect_timeout_seconds))
        .read_timeout(timedelta(seconds=idle_timeout_seconds))
        .build()
    )


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
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise TransportError(
            "The answer is broken: an event is not the JSON it should be.",
            request_id=answer.request_id,
        ) from error
    return text


async def _read_tail(response: Response) -> None:
    """Read the end of a body whose answer is complete: a connection with an unread rest is not used again."""
    try:
        async with asyncio.timeout(_TAIL_SECONDS):
            await response.body_reader.read_chunk()
    except (TimeoutError, PyreqwestError):
        return


def _with_usage(error: ClaudeForceError, answer: AnswerAssembler) -> ClaudeForceError:
    if isinstance(error, CallError):
        if answer.usage and not error.usages:
            error.usages = (answer.usage,)
        error.request_id = error.request_id or answer.request_id
    return error


def _reason(error: PyreqwestError) -> str:
    """The innermost cause that the library names; its own message says only that sending failed."""
    details = getattr(error, "details", None) or {}
    causes = details.get("causes") or []
    said = causes[-1]["message"] if causes else error.message
    return quoted(said)
