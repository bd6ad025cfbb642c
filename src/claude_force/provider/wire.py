"""JSON of the Messages API: what is sent, and the events and errors that come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from claude_force.domain.messages import Message, MessageRequest, TextBlock


class WireCacheCreation(msgspec.Struct):
    """Split of cache writes by lifetime."""

    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """`usage` of message_start and message_delta."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: WireCacheCreation | None = None


class WireMessage(msgspec.Struct):
    """`message` of message_start."""

    id: str
    model: str
    usage: WireUsage


class WireBlock(msgspec.Struct):
    """`content_block` of content_block_start."""

    type: str
    text: str = ""


class WireDelta(msgspec.Struct, gc=False):
    """`delta` of content_block_delta and message_delta. Like events untracked by the collector: JSON has no cycles."""

    type: str = ""
    text: str = ""
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None


class WireErrorDetails(msgspec.Struct):
    """`error.details`."""

    error_code: str | None = None


class WireError(msgspec.Struct):
    """`error` of an error body or an error event."""

    type: str = "api_error"
    message: str = ""
    details: WireErrorDetails | None = None


class WireEvent(msgspec.Struct, gc=False):
    """Any event of a stream. One flat shape: kinds of events that are unknown today decode too, and are passed over."""

    type: str
    index: int = 0
    message: WireMessage | None = None
    content_block: WireBlock | None = None
    delta: WireDelta | None = None
    usage: WireUsage | None = None
    error: WireError | None = None


class WireErrorBody(msgspec.Struct):
    """Body of a response that is not 200."""

    error: WireError
    request_id: str | None = None


# What decoding raises for bytes that are not the JSON they should be; the last one for JSON nested too deeply.
MALFORMED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
decode_event: Final = msgspec.json.Decoder(WireEvent).decode
decode_error_body: Final = msgspec.json.Decoder(WireErrorBody).decode
_encode: Final = msgspec.json.Encoder().encode


def encode_request(request: MessageRequest) -> bytes:
    """The body of ``POST /v1/messages`` for a streamed answer."""
    return _encode(request_body(request) | {"stream": True})


def request_body(request: MessageRequest) -> dict[str, Any]:
    """The fields of a request as the API names them, without ``stream``."""
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": [_message(message) for message in request.messages],
    }
    if request.system:
        body["system"] = [_block(block) for block in request.system]
    if request.temperature is not None:
        body["temperature"] = request.temperature
    output_config: dict[str, Any] = {}
    if request.effort is not None:
        output_config["effort"] = request.effort
    if request.output_schema is not None:
        schema = msgspec.Raw(request.output_schema.encode())
        output_config["format"] = {"type": "json_schema", "schema": schema}
    if output_config:
        body["output_config"] = output_config
    return body


def _message(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": [_block(block) for block in message.content]}


def _block(block: TextBlock) -> dict[str, Any]:
    if block.cache_ttl is None:
        return {"type": "text", "text": block.text}
    # Five minutes is the API's default lifetime and is not spelled out.
    control = (
        {"type": "ephemeral"} if block.cache_ttl == "5m" else {"type": "ephemeral", "ttl": "1h"}
    )
    return {"type": "text", "text": block.text, "cache_control": control}
