"""Puts an answer together from the events of its stream, without any I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.domain.errors import TransportError
from claude_force.domain.messages import MessageResponse
from claude_force.domain.usage import NO_USAGE, Usage
from claude_force.provider.failures import stream_failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.provider.wire import WireEvent, WireUsage


class AnswerAssembler:
    """Takes the events of one stream in their order; ``response`` is there once ``finished``."""

    def __init__(self, request_id: str | None = None) -> None:
        self.request_id = request_id
        # message_stop has arrived: nothing is missing.
        self.finished = False
        # Tokens reported so far, also of a stream that breaks later.
        self.usage = NO_USAGE
        self._message_id = ""
        self._model: str | None = None
        # Text by the index of its block; blocks of other kinds (thinking, tools) have no entry.
        self._texts: dict[int, list[str]] = {}
        self._stop_reason: str | None = None
        self._stop_details: Mapping[str, object] | None = None

    @property
    def started(self) -> bool:
        """True once ``message_start`` has arrived."""
        return self._model is not None

    def take(self, event: WireEvent) -> str:
        """Take one event and return the answer's text that it adds, mostly for a content_block_delta.

        Raises:
            CallError: the event reports an error, or does not fit what came before.
        """
        kind = event.type
        if kind == "content_block_delta":
            return self._delta(event)
        if kind == "message_start":
            self._start(event)
        elif kind == "content_block_start":
            return self._block(event)
        elif kind == "message_delta":
            self._end(event)
        elif kind == "message_stop":
            self._stop()
        elif kind == "error":
            raise stream_failure(event.error, request_id=self.request_id)
        # ping, content_block_stop and kinds of a later API version add nothing.
        return ""

    def response(self) -> MessageResponse:
        """The whole message.

        Raises:
            TransportError: the stream ended before ``message_stop``.
        """
        if not self.finished or self._model is None:
            raise self._broken("the stream ended before the answer was complete")
        return MessageResponse(
            message_id=self._message_id,
            model=self._model,
            text="".join(piece for index in sorted(self._texts) for piece in self._texts[index]),
            stop_reason=self._stop_reason,
            stop_details=self._stop_details,
            usage=self.usage,
            request_id=self.request_id,
        )

    def _delta(self, event: WireEvent) -> str:
        delta = event.delta
        if delta is None or self._model is None:
            raise self._broken("a piece of text arrived outside a message")
        if delta.type != "text_delta":
            return ""
        pieces = self._texts.get(event.index)
        if pieces is None:
            raise self._broken("a piece of text arrived for a block that was not opened")
        pieces.append(delta.text)
        return delta.text

    def _start(self, event: WireEvent) -> None:
        if event.message is None or self._model is not None:
            raise self._broken("the stream starts a message twice or without its head")
        self._message_id = event.message.id
        self._model = event.message.model
        self.usage = usage_of(event.message.usage, self.usage)

    def _block(self, event: WireEvent) -> str:
        block = event.content_block
        if block is None or self._model is None or event.index in self._texts:
            raise self._broken("a block was opened twice or outside a message")
        if block.type != "text":
            return ""
        self._texts[event.index] = [block.text] if block.text else []
        return block.text

    def _end(self, event: WireEvent) -> None:
        if event.delta is None or self._model is None:
            raise self._broken("the end of a message arrived outside a message")
        self._stop_reason = event.delta.stop_reason
        self._stop_details = event.delta.stop_details
        if event.usage is not None:
            self.usage = usage_of(event.usage, self.usage)

    def _stop(self) -> None:
        if self._model is None:
            raise self._broken("the end of a message arrived outside a message")
        self.finished = True

    def _broken(self, what: str) -> TransportError:
        return TransportError(f"The answer is broken: {what}.", request_id=self.request_id)


def usage_of(wire: WireUsage, before: Usage) -> Usage:
    """Later figures replace earlier ones; what an event leaves out stays as it was."""
    split = wire.cache_creation
    written = _or(wire.cache_creation_input_tokens, before.cache_write_tokens)
    for_an_hour = (
        _or(split.ephemeral_1h_input_tokens, 0)
        if split
        else min(before.cache_write_1h_tokens, written)
    )
    return Usage(
        input_tokens=_or(wire.input_tokens, before.input_tokens),
        cache_write_5m_tokens=max(written - for_an_hour, 0),
        cache_write_1h_tokens=for_an_hour,
        cache_read_tokens=_or(wire.cache_read_input_tokens, before.cache_read_tokens),
        output_tokens=_or(wire.output_tokens, before.output_tokens),
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
