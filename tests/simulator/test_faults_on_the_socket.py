from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.domain.errors import ConfigError
from claude_force.simulator import Fault, FaultKind, Scenario, Simulator, SimulatorThread
from claude_force.simulator.distortions import _CHANGES, _HTTP_ERRORS
from claude_force.simulator.faults import STOP_REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.conftest import Client

    from claude_force.simulator.faults import RetryAfter


STREAM_KINDS = ["cut", "bad_json", "bad_utf8", "early_end", "stall", "reset_stream"]


@pytest.fixture(scope="module")
def sim() -> Iterator[SimulatorThread]:
    with SimulatorThread(wall_clock=lambda: 1_795_300_000.0) as running:
        yield running


def raw_exchange(sim: SimulatorThread, body: Any, *, limit: int | None = None) -> Any:
    """Everything that comes back for one request, and how it ended: `eof` or `reset`."""
    data = json.dumps(body).encode()
    head = (
        "POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: k\r\nconnection: close\r\n"
        f"anthropic-version: 2026-10-21\r\ncontent-length: {len(data)}\r\n\r\n"
    ).encode()
    received = b""
    with socket.create_connection(("127.0.0.1", sim.port), timeout=10) as client:
        client.sendall(head + data)
        try:
            while part := client.recv(65_536):
                received += part
                if limit is not None and len(received) > limit:
                    return received, "left"
        except ConnectionResetError:
            return received, "reset"
    return received, "eof"


HTTP_FAULTS = [
    ("invalid_request", 400, "invalid_request_error", None),
    ("usage_limit", 400, "invalid_request_error", None),
    ("authentication", 401, "authentication_error", None),
    ("billing", 402, "billing_error", None),
    ("permission", 403, "permission_error", None),
    ("not_found", 404, "not_found_error", None),
    ("timeout", 408, "timeout_error", None),
    ("conflict", 409, "conflict_error", None),
    ("too_large", 413, "request_too_large", None),
    ("unprocessable", 422, "invalid_request_error", None),
    ("rate_limit", 429, "rate_limit_error", None),
    ("enforced_spend_limit", 429, "rate_limit_error", "enforced_spend_limit_reached"),
    ("contract_spend_limit", 429, "rate_limit_error", "contract_spend_limit_reached"),
    ("ramp_limit", 429, "rate_limit_error", "ramp_limit_exceeded"),
    ("api_error", 500, "api_error", None),
    ("unavailable", 503, "api_error", None),
    ("gateway_timeout", 504, "timeout_error", None),
    ("overloaded", 529, "overloaded_error", None),
]


@pytest.mark.parametrize(("kind", "status", "error_type", "code"), HTTP_FAULTS)
def test_every_row_of_the_error_table_can_be_shown(  # noqa: PLR0917  # the columns of the table
    sim: SimulatorThread, client: Client, kind: str, status: int, error_type: str, code: Any
) -> None:
    sim.queue_fault(Fault(kind=FaultKind(kind)))
    reply = client.call(sim, client.body(stream=True))
    error = reply.json["error"]
    assert (reply.status, error["type"]) == (status, error_type)
    assert error.get("details") == (None if code is None else {"error_code": code})
    assert reply.json["request_id"] == reply.headers["request-id"]
    expected = "1" if kind in {"rate_limit", "ramp_limit"} else None
    assert reply.headers.get("retry-after") == expected
    assert client.call(sim, client.body(stream=True)).status == 200


def test_usage_limit_has_the_text_that_clients_look_for(
    sim: SimulatorThread, client: Client
) -> None:
    sim.queue_fault(Fault(kind=FaultKind.USAGE_LIMIT))
    message = client.call(sim, client.body()).json["error"]["message"]
    assert message.startswith("You have reached your specified API usage limits")


def test_every_kind_of_fault_is_covered_by_exactly_one_table() -> None:
    tables = [set(_HTTP_ERRORS), set(_CHANGES), set(STOP_REASONS)]
    assert set().union(*tables) == set(FaultKind)
    assert sum(map(len, tables)) == len(FaultKind)
    assert {kind for kind, *_ in HTTP_FAULTS} == {kind.value for kind in _HTTP_ERRORS}


@pytest.mark.parametrize(
    ("form", "name", "value"),
    [
        ("seconds", "retry-after", "2.5"),
        ("ms", "retry-after-ms", "2500"),
        ("date", "retry-after", None),
        ("none", "retry-after", "absent"),
    ],
)
def test_retry_after_can_take_every_form(
    sim: SimulatorThread, client: Client, form: RetryAfter, name: str, value: str | None
) -> None:
    sim.queue_fault(Fault(kind=FaultKind.OVERLOADED, retry_after=form, retry_after_seconds=2.5))
    headers = client.call(sim, client.body()).headers
    if form == "date":
        assert parsedate_to_datetime(headers[name]).timestamp() == 1_795_300_002
    else:
        assert headers.get(name, "absent") == value


def test_x_should_retry_is_sent_as_asked(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.API_ERROR, should_retry=False))
    assert client.call(sim, client.body()).headers["x-should-retry"] == "false"


def test_close_ends_the_connection_before_any_byte(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.CLOSE))
    assert raw_exchange(sim, client.body()) == (b"", "eof")


def test_reset_is_a_tcp_reset_before_any_byte(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.RESET))
    assert raw_exchange(sim, client.body()) == (b"", "reset")


def test_cut_sends_exactly_so_many_bytes_and_no_end(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.CUT, after_bytes=700))
    with pytest.raises(http.client.IncompleteRead) as caught:
        client.call(sim, client.body(stream=True))
    assert len(caught.value.partial) == 700


def test_cut_of_a_whole_answer_breaks_its_content_length(
    sim: SimulatorThread, client: Client
) -> None:
    sim.queue_fault(Fault(kind=FaultKind.CUT, after_bytes=20))
    with pytest.raises(http.client.IncompleteRead) as caught:
        client.call(sim, client.body())
    assert len(caught.value.partial) == 20


def test_reset_of_a_stream_comes_after_its_first_half(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.RESET_STREAM, after_bytes=500))
    received, end = raw_exchange(sim, client.body(stream=True))
    assert end == "reset"
    assert received == b"" or b"message_start" in received


def test_bad_chunk_is_no_json_and_the_stream_ends_as_if_all_were_well(
    sim: SimulatorThread, client: Client
) -> None:
    sim.queue_fault(Fault(kind=FaultKind.BAD_JSON))
    data = client.call(sim, client.body(stream=True)).data
    lines = [line for line in data.split(b"\n") if line.startswith(b"data: ")]
    broken = [line for line in lines if not _is_json(line[6:])]
    assert len(broken) == 1
    assert b"message_stop" in lines[-1]


def test_bad_utf8_cannot_be_decoded(sim: SimulatorThread, client: Client) -> None:
    for stream in (True, False):
        sim.queue_fault(Fault(kind=FaultKind.BAD_UTF8))
        with pytest.raises(UnicodeDecodeError):
            client.call(sim, client.body(stream=stream)).data.decode()


def test_early_end_is_a_clean_end_without_message_stop(
    sim: SimulatorThread, client: Client
) -> None:
    sim.queue_fault(Fault(kind=FaultKind.EARLY_END))
    names = [name for name, _ in client.call(sim, client.body(stream=True)).events]
    assert names[0] == "message_start"
    assert "content_block_delta" in names
    assert "message_delta" not in names
    assert "message_stop" not in names


@pytest.mark.parametrize(
    ("kind", "error_type", "status"),
    [
        ("error_overloaded", "overloaded_error", 529),
        ("error_api", "api_error", 500),
        ("error_rate_limit", "rate_limit_error", 429),
    ],
)
def test_error_event_ends_a_stream_and_is_a_status_without_one(
    sim: SimulatorThread, client: Client, kind: str, error_type: str, status: int
) -> None:
    sim.queue_fault(Fault(kind=FaultKind(kind), times=2))
    reply = client.call(sim, client.body(stream=True))
    assert reply.status == 200
    name, data = reply.events[-1]
    assert (name, data["error"]["type"]) == ("error", error_type)
    assert data["request_id"] == reply.headers["request-id"]
    assert client.call(sim, client.body()).status == status


def test_garbage_is_not_http(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.GARBAGE))
    with pytest.raises(http.client.BadStatusLine):
        client.call(sim, client.body())


def test_wrong_content_type_is_a_page_with_status_200(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.WRONG_CONTENT_TYPE))
    reply = client.call(sim, client.body(stream=True))
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html")
    assert reply.data.startswith(b"<html>")


def test_huge_header_is_larger_than_clients_read(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.HUGE_HEADER))
    with pytest.raises(http.client.LineTooLong):
        client.call(sim, client.body())


def test_redirect_points_where_it_was_told_to(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.REDIRECT, location="http://127.0.0.1:9/away"))
    reply = client.call(sim, client.body())
    assert (reply.status, reply.headers["location"]) == (307, "http://127.0.0.1:9/away")


def test_oversized_line_goes_on_without_a_newline(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.OVERSIZED_LINE))
    received, end = raw_exchange(sim, client.body(stream=True), limit=3_000_000)
    assert end == "left"
    line = received.rpartition(b"\ndata: ")[2]
    assert len(line) > 2_000_000
    # Only the framing of chunks is between the x.
    assert line.count(b"x") / len(line) > 0.99


def test_stall_of_a_moment_goes_on_to_the_whole_answer(
    sim: SimulatorThread, client: Client
) -> None:
    expected = client.call(sim, client.body(stream=True)).events[1:]
    sim.queue_fault(Fault(kind=FaultKind.STALL, seconds=0.05, after_bytes=600))
    assert client.call(sim, client.body(stream=True)).events[1:] == expected


def test_endless_stall_and_slow_headers_end_when_the_client_leaves(client: Client) -> None:
    async def main() -> None:
        async with Simulator() as sim:
            for kind in (FaultKind.STALL, FaultKind.SLOW_HEADERS, FaultKind.OVERSIZED_LINE):
                sim.queue_fault(Fault(kind=kind))
                reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
                data = json.dumps(BODY).encode()
                writer.write(REQUEST % len(data) + data)
                if kind is not FaultKind.SLOW_HEADERS:
                    await reader.readuntil(b"message_start")
                else:
                    await client.until(lambda: len(asyncio.all_tasks()) > 1)
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
                await client.until(lambda: sim.stats.open_connections == 0)
                await client.until(lambda: len(asyncio.all_tasks()) == 1)
            assert sim.stats.answers == 0
            assert sum(sim.stats.faults.values()) == 3

    asyncio.run(main())


def test_slow_headers_arrive_in_the_end(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.SLOW_HEADERS, seconds=0.05))
    assert client.call(sim, client.body()).status == 200


@pytest.mark.parametrize("kind", STREAM_KINDS)
def test_faulty_stream_is_billed_and_is_no_answer(client: Client, kind: str) -> None:
    with SimulatorThread() as sim:
        sim.queue_fault(Fault(kind=FaultKind(kind), seconds=None))
        with contextlib.suppress(http.client.HTTPException, ConnectionError, TimeoutError):
            raw_exchange(sim, client.body(stream=True), limit=0 if kind == "stall" else None)
        stats = sim.stats
    assert stats.faults == {kind: 1}
    assert stats.usage.output_tokens > 0
    assert stats.answers == 0


@pytest.mark.parametrize("kind", ["overloaded", "redirect", "close", "garbage"])
def test_what_never_reached_the_model_is_not_billed(client: Client, kind: str) -> None:
    with SimulatorThread() as sim:
        sim.queue_fault(Fault(kind=FaultKind(kind)))
        with contextlib.suppress(http.client.HTTPException, ConnectionError):
            client.call(sim, client.body())
        assert sim.stats.faults == {kind: 1}
        assert not sim.stats.usage


def test_queued_fault_waits_for_the_request_it_is_for(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.OVERLOADED, match="needle", times=2))
    statuses = [
        client.call(sim, client.body(task)).status
        for task in ("hay", "a needle", "hay", "needle", "needle")
    ]
    assert statuses == [200, 529, 200, 529, 200]


def test_fault_for_another_path_leaves_messages_alone(sim: SimulatorThread, client: Client) -> None:
    path = "/v1/messages/count_tokens"
    sim.queue_fault(Fault(kind=FaultKind.UNAVAILABLE, path=path))
    assert client.call(sim, client.body()).status == 200
    assert client.call(sim, client.body(max_tokens=...), path=path).status == 503


def test_request_that_is_wrong_is_refused_before_any_fault(
    sim: SimulatorThread, client: Client
) -> None:
    sim.queue_fault(Fault(kind=FaultKind.OVERLOADED))
    assert client.call(sim, client.body(max_tokens=0)).status == 400
    assert client.call(sim, client.body()).status == 529


def test_drawn_faults_depend_on_request_and_attempt_not_on_order(client: Client) -> Any:
    scenario = Scenario(fault_rates={"overloaded": 0.3, "rate_limit": 0.2})
    tasks = [f"task {i}" for i in range(30)]

    def statuses(order: Any) -> Any:
        with SimulatorThread(scenario=scenario, seed=3) as sim:
            return {(t, n): client.call(sim, client.body(t)).status for n in (1, 2) for t in order}

    first = statuses(tasks)
    assert statuses(tasks[::-1]) == first
    assert set(first.values()) == {200, 429, 529}
    assert any(first[t, 1] != first[t, 2] for t in tasks)


def test_storm_shows_faults_as_often_as_it_says() -> None:
    from claude_force.simulator import SCENARIOS
    from claude_force.simulator.draws import Draws

    storm = SCENARIOS["storm"]
    drawn = [storm.draw_fault(Draws(0, "x", i)) for i in range(20_000)]
    for kind, rate in storm.fault_rates.items():
        assert drawn.count(FaultKind(kind)) / 20_000 == pytest.approx(rate, abs=0.01)
    assert storm.fault_rates == {
        "rate_limit": 0.2,
        "overloaded": 0.1,
        "cut": 0.05,
        "stall": 0.03,
        "bad_json": 0.02,
        "error_overloaded": 0.02,
        "early_end": 0.01,
    }


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "explode"}, "there is no fault 'explode'; there are invalid_request"),
        ({"kind": "cut", "retry_after": "soon"}, "retry_after is 'soon'"),
        ({"kind": "cut", "times": 0}, "times is 0"),
        ({"kind": "redirect", "location": "http://a\r\nx: y"}, "line break"),
    ],
)
def test_fault_that_makes_no_sense_is_a_config_error(fields: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Fault(**fields)


BODY = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 99,
    "stream": True,
    "messages": [{"role": "user", "content": "x"}],
}
REQUEST = (
    b"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: k\r\nconnection: close\r\n"
    b"anthropic-version: 2026-10-21\r\ncontent-length: %d\r\n\r\n"
)


def _is_json(data: bytes) -> Any:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
