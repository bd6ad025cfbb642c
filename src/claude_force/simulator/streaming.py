"""An answer as bytes: server-sent events, or one JSON object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from claude_force.simulator.draws import Draws
from claude_force.simulator.wire import Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_force.domain.usage import Usage
    from claude_force.simulator.answers import Answer, Block
    from claude_force.simulator.errors import JsonObject
    from claude_force.simulator.prompts import Prompt
    from claude_force.simulator.scenarios import Latency

_encode = msgspec.json.encode
_CHARACTERS_PER_TOKEN: Final = 3.8
# Where a thinking block is signed; no model did.
SIGNATURE: Final = "c2ltdWxhdGVk"
_PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
_MESSAGE_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_TEXT_START: Final = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,'
    b'"content_block":{"type":"text","text":""}}\n\n'
)
_DELTA_FIELD: Final = {
    "text": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "tool_use": (b"input_json_delta", b"partial_json"),
}


def usage_object(usage: Usage, output_tokens: int, *, service_tier: str = "standard") -> JsonObject:
    """``usage`` as the API reports it."""
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": output_tokens,
        "service_tier": service_tier,
    }


def message_object(
    answer: Answer, prompt: Prompt, *, message_id: str, usage: Usage, service_tier: str = "standard"
) -> JsonObject:
    """The answer as one JSON object."""
    reported = usage_object(usage, answer.output_tokens, service_tier=service_tier)
    if answer.thinking_tokens:
        reported["output_tokens_details"] = {"thinking_tokens": answer.thinking_tokens}
    message: JsonObject = {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": prompt.model,
        "content": [_block_object(block) for block in answer.blocks],
        "stop_reason": answer.stop_reason,
        "stop_sequence": answer.stop_sequence,
        "usage": reported,
    }
    if answer.stop_details is not None:
        message["stop_details"] = answer.stop_details
    return message


def event_pieces(
    answer: Answer,
    prompt: Prompt,
    *,
    message_id: str,
    usage: Usage,
    latency: Latency,
    chunk_tokens: int,
    seed: int,
) -> tuple[Piece, ...]:
    """The answer as server-sent events, a piece an event, with the waits between them.

    The wait for the first event is not in here: the head of the response waits with it.
    """
    draws = Draws(seed, prompt.fingerprint, "latency")
    waits = latency.distribution != "none"
    pieces = [Piece(_message_start(prompt, message_id, usage))]
    chunk_index = 0
    for index, block in enumerate(answer.blocks):
        start = _block_start(index, block)
        pieces.append(Piece(start + _PING if index == 0 else start))
        for delta, tokens in _deltas(index, block, chunk_tokens):
            chunk_index += 1
            wait = latency.chunk_seconds(draws, chunk_index, tokens) if waits else 0.0
            pieces.append(Piece(delta, wait))
        if block.kind == "thinking":
            pieces.append(Piece(_signature_delta(index)))
        pieces.append(
            Piece(
                b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
                % index
            )
        )
    pieces += (Piece(_message_delta(answer, usage)), Piece(_MESSAGE_STOP))
    return tuple(pieces)


def _block_object(block: Block) -> JsonObject:
    if block.kind == "thinking":
        return {"type": "thinking", "thinking": block.text, "signature": SIGNATURE}
    if block.kind == "tool_use":
        try:
            value = msgspec.json.decode(block.text)
        except msgspec.DecodeError:
            # Cut by max_tokens: what arrived is no JSON.
            value = {}
        return {"type": "tool_use", "id": block.tool_id, "name": block.tool_name, "input": value}
    return {"type": "text", "text": block.text}


def _message_start(prompt: Prompt, message_id: str, usage: Usage) -> bytes:
    return (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"%b","type":"message",'
        b'"role":"assistant","model":%b,"content":[],"stop_reason":null,"stop_sequence":null,'
        b'"usage":%b}}\n\n'
        % (message_id.encode(), _encode(prompt.model), _encode(usage_object(usage, 1)))
    )


def _block_start(index: int, block: Block) -> bytes:
    if block.kind == "text":
        return _TEXT_START % index
    if block.kind == "thinking":
        start: JsonObject = {"type": "thinking", "thinking": "", "signature": ""}
    else:
        start = {"type": "tool_use", "id": block.tool_id, "name": block.tool_name, "input": {}}
    return (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
        % (index, _encode(start))
    )


def _deltas(index: int, block: Block, chunk_tokens: int) -> Iterator[tuple[bytes, float]]:
    size = max(1, round(chunk_tokens * _CHARACTERS_PER_TOKEN))
    kind, field = _DELTA_FIELD[block.kind]
    for start in range(0, len(block.text), size):
        text = block.text[start : start + size]
        yield (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"%b","%b":%b}}\n\n' % (index, kind, field, _encode(text)),
            len(text) / _CHARACTERS_PER_TOKEN,
        )


def _signature_delta(index: int) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
        b'"delta":{"type":"signature_delta","signature":"%b"}}\n\n' % (index, SIGNATURE.encode())
    )


def _message_delta(answer: Answer, usage: Usage) -> bytes:
    delta: JsonObject = {
        "stop_reason": answer.stop_reason,
        "stop_sequence": answer.stop_sequence,
    }
    if answer.stop_details is not None:
        delta["stop_details"] = answer.stop_details
    reported: JsonObject = {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": answer.output_tokens,
    }
    if answer.thinking_tokens:
        reported["output_tokens_details"] = {"thinking_tokens": answer.thinking_tokens}
    data = _encode({"type": "message_delta", "delta": delta, "usage": reported})
    return b"event: message_delta\ndata: %b\n\n" % data
