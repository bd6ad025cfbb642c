"""A client of the ``anthropic`` package as a `ModelClient`: for Bedrock, Vertex, Foundry, or one you have made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import msgspec

from claude_force.domain.errors import (
    CallError,
    CertificateError,
    ClosedError,
    ConfigError,
    OptionalDependencyError,
    TransportError,
)
from claude_force.domain.events import AnswerStarted, LimitsSeen, TextDelta
from claude_force.domain.messages import API_VERSION
from claude_force.provider.answer import AnswerAssembler
from claude_force.provider.failures import quoted, response_failure
from claude_force.provider.keys import check_key
from claude_force.provider.wire import WireEvent, request_body
from claude_force.resilience.rate_headers import read_rate_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anthropic import APIStatusError, AsyncAnthropic

    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse


class AnthropicSdkClient:
    """A `ModelClient` over an asynchronous client of the ``anthropic`` package (extra ``sdk``).

    The package's own retries are switched off: they go by the status alone and know no deadline. Its faults inside
    streams are translated, and an end without ``message_stop``, which it passes over in silence, is an error.

    Args:
        client: any asynchronous client of the package (`AsyncAnthropic`, `AsyncAnthropicBedrock`, …). It belongs to
            the caller and stays open; None makes one from ``api_key`` and ``base_url``, which is closed here.
        api_key: for a client that is made here.
        base_url: for a client that is made here.
        wall_clock: seconds since the epoch, for a `Retry-After` that is a date.

    Raises:
        OptionalDependencyError: the ``anthropic`` package is missing.
        ConfigError: ``client`` is a blocking client of the package, or nothing of it.
    """

    def __init__(
        self,
        client: object | None = None,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        sdk = _import_sdk()
        if client is None and api_key is not None:
            check_key(api_key)
        self._closed = False
        self._owned: AsyncAnthropic | None = None
        if client is None:
            client = self._owned = sdk.AsyncAnthropic(
                api_key=api_key, base_url=base_url, max_retries=0
            )
        elif isinstance(client, sdk.Anthropic) or not hasattr(client, "messages"):
            raise ConfigError(
                f"{type(client).__name__} is not an asynchronous client of the anthropic package; "
                "pass AsyncAnthropic, AsyncAnthropicBedrock, AsyncAnthropicVertex or their like."
            )
        self._sdk = sdk
        self._client = cast("AsyncAnthropic", client).with_options(max_retries=0)
        # Names the provider in cache keys.
        self.origin = str(self._client.base_url).rstrip("/")
        self._wall_clock = wall_clock

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`."""
        if self._closed:
            raise ClosedError("The client is closed; make a new one.")
        answer = AnswerAssembler()
        listener = None if on_event is None else _Listener(on_event)
        try:
            await self._exchange(request, answer, listener)
            return answer.response()
        except CallError as error:
            if answer.usage and not error.usages:
                error.usages = (answer.usage,)
            raise
        except self._sdk.APIStatusError as error:
            self._tell_limits(error.response.headers, request.context.call_id, on_event)
            raise self._status_failure(error, answer) from error
        except Exception as error:
            # The package and the libraries below it raise what they like: a chunk that is not JSON surfaces as
            # ValueError, a cut stream as an error of the HTTP library, of the socket or of TLS.
            if listener is not None and error is listener.error:
                raise
            usages = (answer.usage,) if answer.usage else ()
            if _is_untrusted(error):
                raise CertificateError(
                    f"TLS failed: the server's certificate is refused ({quoted(str(error))}). Where a proxy opens TLS, "
                    "name its authority with SSL_CERT_FILE; otherwise check the base URL."
                ) from error
            raise TransportError(
                f"The connection broke before the answer was complete ({quoted(str(error)) or type(error).__name__}).",
                request_id=answer.request_id,
                usages=usages,
            ) from error

    async def aclose(self) -> None:
        """Close the client, if it was made here."""
        self._closed = True
        if self._owned is not None:
            await self._owned.close()

    async def _exchange(
        self, request: MessageRequest, answer: AnswerAssembler, on_event: EventListener | None
    ) -> None:
        call_id = request.context.call_id
        stream = await self._open(request)
        async with stream:
            answer.request_id = stream.response.headers.get("request-id")
            self._tell_limits(stream.response.headers, call_id, on_event)
            async for sdk_event in stream:
                started = answer.started
                text = answer.take(msgspec.convert(sdk_event.to_dict(), WireEvent))
                if on_event is not None:
                    if answer.started and not started:
                        on_event(AnswerStarted(call_id, answer.request_id, answer.usage))
                    if text:
                        on_event(TextDelta(call_id, text))

    async def _open(self, request: MessageRequest) -> Any:  # noqa: ANN401 - AsyncStream of the optional package
        body = request_body(request)
        extra: dict[str, Any] = {}
        if request.temperature is not None:
            # The package dropped the argument; the field still exists for models that take it.
            extra["extra_body"] = {"temperature": body.pop("temperature")}
        if request.output_schema is not None:
            schema = msgspec.json.decode(request.output_schema)
            body["output_config"]["format"]["schema"] = schema
        if request.api_version != API_VERSION:
            extra["extra_headers"] = {"anthropic-version": request.api_version}
        return await self._client.messages.create(**body, **extra, stream=True)

    def _tell_limits(
        self, headers: Mapping[str, str], call_id: str, on_event: EventListener | None
    ) -> None:
        if on_event is not None:
            snapshot = read_rate_headers(headers.get, now_epoch_seconds=self._wall_clock())
            if snapshot:
                on_event(LimitsSeen(call_id, snapshot))

    def _status_failure(self, error: APIStatusError, answer: AnswerAssembler) -> CallError:
        headers = error.response.headers
        # The response of an error inside a stream has status 200: its body then says what it is.
        failure = response_failure(
            error.response.status_code,
            _body_bytes(error),
            headers.get,
            now_epoch_seconds=self._wall_clock(),
        )
        failure.request_id = failure.request_id or answer.request_id
        if answer.usage:
            failure.usages = (answer.usage,)
        return failure


def _is_untrusted(error: BaseException | None) -> bool:
    """Whether a refused certificate is at the bottom of it; libraries wrap that several times over."""
    while error is not None:
        if type(error).__name__ == "SSLCertVerificationError":
            return True
        error = error.__cause__ or error.__context__
    return False


def _body_bytes(error: APIStatusError) -> bytes:
    try:
        return msgspec.json.encode(error.body)
    except (TypeError, ValueError):
        return b""


def _import_sdk() -> Any:  # noqa: ANN401 - the module of the optional package
    try:
        import anthropic  # noqa: PLC0415 - an extra, and two seconds of import
    except ImportError as error:
        raise OptionalDependencyError(
            "AnthropicSdkClient needs the anthropic package: pip install 'claude-force[sdk]'"
        ) from error
    return anthropic


class _Listener:
    """Passes events on, and remembers what the listener raised: that is the caller's own, and no fault of ours."""

    def __init__(self, listener: EventListener) -> None:
        self._listener = listener
        self.error: Exception | None = None

    def __call__(self, event: Event) -> None:
        try:
            self._listener(event)
        except Exception as error:
            self.error = error
            raise
