"""Laws of the stream: chunks do not matter, and any bytes end in an answer or in a typed error."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from claude_force.domain.errors import CallError, TransportError
from claude_force.domain.events import AnswerStarted, TextDelta
from claude_force.domain.messages import MessageResponse
from claude_force.provider.answer import AnswerAssembler
from claude_force.provider.failures import quoted, response_failure, stream_failure
from claude_force.provider.http.connection import Connection
from claude_force.provider.http.errors import HttpError
from claude_force.provider.sse import EventSplitter, EventTooLargeError
from claude_force.provider.wire import (
    WireBlock,
    WireDelta,
    WireError,
    WireErrorDetails,
    WireEvent,
    WireMessage,
    WireUsage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDINGS = (b"\n", b"\r", b"\r\n")
LINES = st.one_of(
    st.just(b""),
    st.binary(max_size=12).map(lambda b: b"data: " + re.sub(rb"[\r\n]", b"", b)),
    st.binary(max_size=12).map(lambda b: b"data:" + re.sub(rb"[\r\n]", b"", b)),
    st.sampled_from([b": a comment", b"event: ping", b"id: 7", b"data", b"nonsense"]),
)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


def events_of(lines: list[bytes]) -> list[bytes]:
    """The rule, as the standard words it: data lines joined, sent at an empty line."""
    events, data = [], []
    for line in lines:
        if line.startswith(b"data:"):
            value = line[5:]
            data.append(value.removeprefix(b" "))
        elif not line and data:
            events.append(b"\n".join(data))
            data = []
    return events


@given(
    st.lists(st.tuples(LINES, st.sampled_from(ENDINGS)), max_size=25),
    st.lists(st.integers(0, 10_000), max_size=30),
)
@example([(b"data: a", b"\r"), (b"", b"\r\n"), (b"data: b", b"\r\n"), (b"", b"\n")], [8, 9, 10])
def test_chunks_and_line_endings_do_not_change_the_events(
    pairs: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    lines = [line for line, _ in pairs]
    # A line that ends in CR and a next one that is empty and ends in LF are one line that ends in CR LF.
    data, expected = b"", []
    for line, ending in pairs:
        if data.endswith(b"\r") and not line and ending == b"\n":
            data += ending
            continue
        data += line + ending
        expected.append(line)
    assert lines or not expected
    splitter = EventSplitter()
    found = [event for chunk in split(data, cuts) for event in splitter.feed(chunk)]
    assert found == events_of(expected)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=20))
def test_any_bytes_give_the_same_events_in_any_chunks(data: bytes, cuts: list[int]) -> None:
    whole, cut = EventSplitter(), EventSplitter()
    expected = whole.feed(data)
    assert [event for chunk in split(data, cuts) for event in cut.feed(chunk)] == expected
    assert cut.is_idle == whole.is_idle


def test_empty_chunk_between_the_two_halves_of_a_line_ending_changes_nothing() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\r") == []
    assert splitter.feed(b"") == []
    assert splitter.feed(b"\ndata: b\r\n\r\n") == [b"a\nb"]
    assert splitter.is_idle


@pytest.mark.parametrize(
    "chunk", [b"a" * 10, b"data: 0123456789\n", b"data:\n"], ids=["line", "data", "empty data"]
)
def test_what_is_held_is_bounded(chunk: bytes) -> None:
    splitter = EventSplitter(max_line_bytes=100)
    fed = 0
    with pytest.raises(EventTooLargeError, match="more than 100 bytes"):  # noqa: PT012 - one of many chunks fails
        for _ in range(200):
            splitter.feed(chunk)
            fed += 1
    assert 0 < fed <= 100


# The assembler.

USAGES = st.builds(
    WireUsage,
    input_tokens=st.none() | st.integers(0, 9),
    output_tokens=st.none() | st.integers(0, 9),
    cache_creation_input_tokens=st.none() | st.integers(0, 9),
)
EVENTS = st.builds(
    WireEvent,
    type=st.sampled_from([
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop", "ping", "error", "something_new"),
    ]),
    index=st.integers(0, 2),
    message=st.none() | st.builds(WireMessage, id=st.just("m"), model=st.just("x"), usage=USAGES),
    content_block=st.none() | st.builds(WireBlock, type=st.sampled_from(["text", "thinking"]), text=st.sampled_from(["", "a"])),
    delta=st.none() | st.builds(WireDelta, type=st.sampled_from(["text_delta", "thinking_delta", ""]), text=st.just("b"), stop_reason=st.sampled_from([None, "end_turn"])),
    usage=st.none() | USAGES,
    error=st.none() | st.builds(WireError, type=st.text(max_size=5), message=st.text(max_size=5)),
)  # fmt: skip


@given(st.lists(EVENTS, max_size=12))
def test_any_order_of_events_ends_in_an_answer_or_a_typed_error(events: list[WireEvent]) -> None:
    answer = AnswerAssembler("req_1")
    told = ""
    try:
        for event in events:
            told += answer.take(event)
        response = answer.response()
    except CallError as error:
        named = error.request_id
        assert named == "req_1"
        return
    assert any(event.type == "message_stop" for event in events)
    assert sorted(response.text) == sorted(told)


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (WireEvent("content_block_delta"), "outside a message"),
        (WireEvent("content_block_start"), "opened twice or outside"),
        (WireEvent("message_start"), "twice or without its head"),
        (WireEvent("message_delta"), "outside a message"),
        (WireEvent("message_stop"), "outside a message"),
    ],
)
def test_event_out_of_place_is_a_broken_answer(event: WireEvent, what: str) -> None:
    with pytest.raises(TransportError, match=what):
        AnswerAssembler().take(event)


def test_text_for_a_block_that_was_not_opened_is_a_broken_answer() -> None:
    answer = AnswerAssembler()
    answer.take(WireEvent("message_start", message=WireMessage("m", "x", WireUsage())))
    with pytest.raises(TransportError, match="not opened"):
        answer.take(WireEvent("content_block_delta", delta=WireDelta("text_delta", "a")))


def test_text_is_joined_by_the_index_of_its_block() -> None:
    answer = AnswerAssembler()
    answer.take(WireEvent("message_start", message=WireMessage("m", "x", WireUsage())))
    for index, text in ((2, "c"), (0, "a"), (1, "b")):
        answer.take(
            WireEvent("content_block_start", index=index, content_block=WireBlock("text", text))
        )
    answer.take(WireEvent("message_stop"))
    assert answer.response().text == "abc"


# Whole responses.


class Pipe(asyncio.Transport):
    """A transport whose peer answers with these pieces and then leaves."""

    def __init__(self, protocol: Connection, pieces: list[bytes]) -> None:
        super().__init__()
        self._protocol, self._pieces = protocol, pieces
        self._loop = asyncio.get_running_loop()
        self._closing = False
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        for piece in self._pieces:
            self._loop.call_soon(self._deliver, piece)
        self._loop.call_soon(self._lose)

    def _deliver(self, piece: bytes) -> None:
        if piece and not self._closing:
            self._protocol.data_received(piece)

    def _lose(self) -> None:
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(None)

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        """All of it is there already."""

    def resume_reading(self) -> None:
        """All of it is there already."""

    def get_write_buffer_size(self) -> int:
        return 0


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def read(
    lab: Any, loop: asyncio.Runner, pieces: list[bytes]
) -> tuple[MessageResponse | CallError | HttpError, list[Any]]:
    """What a whole HTTP response in these pieces ends in, and the events it told."""
    told: list[Any] = []
    answer = AnswerAssembler()
    client = lab.client("http://127.0.0.1")

    async def main() -> MessageResponse | CallError | HttpError:
        connection = Connection(asyncio.get_running_loop(), idle_timeout_seconds=5)
        Pipe(connection, pieces)
        try:
            await client._exchange(connection, lab.request(), answer, told.append)
            return answer.response()
        except (CallError, HttpError) as error:
            return error
        finally:
            connection.abort()

    return loop.run(main()), told


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "index", "usage", "error", "delta", "message", "id", "model", "details", "stop_reason", "input_tokens"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.data())
@settings(
    deadline=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@pytest.mark.parametrize("framing", ["chunked", "sized"])
def test_any_bytes_end_in_an_answer_or_a_typed_error(
    lab: Any, loop: asyncio.Runner, framing: str, data: st.DataObject
) -> None:
    stream = getattr(lab, framing)(lab.answer("a text of some length"))
    noise = data.draw(
        st.binary(max_size=40)
        | JSON.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n")
    )
    at = data.draw(st.integers(0, len(stream)))
    dropped = data.draw(st.integers(0, 30))
    mixed = stream[:at] + noise + stream[at + dropped :]
    cuts = data.draw(st.lists(st.integers(0, len(mixed)), max_size=8))
    result, told = read(lab, loop, split(mixed, cuts))
    assert [type(event) for event in told].count(AnswerStarted) <= 1
    if isinstance(result, MessageResponse):
        assert "".join(event.text for event in told if isinstance(event, TextDelta)) == result.text
    else:
        assert isinstance(result, CallError | HttpError)


@given(st.lists(st.integers(0, 2000), max_size=12))
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whole_response_is_the_same_answer_in_any_chunks(
    lab: Any, loop: asyncio.Runner, cuts: list[int]
) -> None:
    result, told = read(lab, loop, split(lab.chunked(lab.answer("Zürich · 東京")), cuts))
    assert isinstance(result, MessageResponse)
    assert result.text == "Zürich · 東京"
    assert isinstance(told[0], AnswerStarted)


# Failures.

HOSTILE = "\x1b[31m\x00\x07\r\n\u202e\u200b\x9b end."


@given(st.text(max_size=400), st.text(max_size=40), st.text(max_size=40))
@example(HOSTILE, HOSTILE, HOSTILE)
def test_failures_hold_no_control_characters(message: str, kind: str, code: str) -> None:
    error = stream_failure(
        WireError(kind, message, WireErrorDetails(code)), request_id=f"req{kind}"
    )
    for text in (str(error), error.error_type, error.error_code, error.request_id):
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e]", text or "")
    assert len(str(error)) < 1_500


@given(st.integers(200, 599), st.binary(max_size=200), st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x-should-retry", "request-id", "location"]), st.text(st.characters(max_codepoint=255), max_size=30)))  # fmt: skip
def test_any_response_is_a_typed_failure(status: int, body: bytes, headers: dict[str, str]) -> None:
    error = response_failure(status, body, headers.get, now_epoch_seconds=1_795_300_000.0)
    assert isinstance(error, CallError)
    assert error.status == status
    assert error.retry_after_seconds is None or 0 <= error.retry_after_seconds <= 86_400
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", str(error))


def test_error_event_without_an_error_is_a_fault_of_the_service() -> None:
    assert stream_failure(None, request_id=None).error_type == "api_error"


def test_foreign_text_is_cut_at_300_characters() -> None:
    assert quoted("x" * 400) == "x" * 300 + "…"
    assert quoted("  Overloaded.\n") == "Overloaded"
