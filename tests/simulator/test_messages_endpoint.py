from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.domain.tokens import estimate_tokens
from claude_force.domain.usage import Usage
from claude_force.simulator import Fault, FaultKind, Latency, Scenario, SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.conftest import Client, Reply


MARK = "[simulated answer: no model ran]"


@pytest.fixture(scope="module")
def sim() -> Iterator[SimulatorThread]:
    with SimulatorThread(keep_requests=5) as running:
        yield running


def text_of(reply: Reply) -> Any:
    return "".join(b["text"] for b in reply.json["content"] if b["type"] == "text")


def test_whole_answer_has_the_shape_of_a_message(sim: SimulatorThread, client: Client) -> None:
    reply = client.call(sim, client.body("Review this.", system="You are a reviewer."))
    message = reply.json
    assert reply.status == 200
    assert reply.headers["request-id"].startswith("req_")
    assert reply.headers["content-length"] == str(len(reply.data))
    assert message["id"].startswith("msg_")
    assert message["type"] == "message"
    assert message["role"] == "assistant"
    assert message["model"] == "claude-sonnet-5-5"
    assert message["stop_reason"] == "end_turn"
    assert message["stop_sequence"] is None
    text = text_of(reply)
    prompt_tokens = estimate_tokens("You are a reviewer.") + estimate_tokens("Review this.")
    assert message["usage"] == {
        "input_tokens": prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": estimate_tokens(text),
        "service_tier": "standard",
    }


def test_stream_has_every_event_in_the_order_of_the_api(
    sim: SimulatorThread, client: Client
) -> None:
    reply = client.call(sim, client.body(stream=True))
    names = [name for name, _ in reply.events]
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["transfer-encoding"] == "chunked"
    assert names[:3] == ["message_start", "content_block_start", "ping"]
    assert set(names[3:-3]) == {"content_block_delta"}
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert all(name == data["type"] for name, data in reply.events)
    start, delta = reply.events[0][1]["message"], reply.events[-2][1]
    assert start["content"] == []
    assert start["stop_reason"] is None
    assert start["usage"]["input_tokens"] == estimate_tokens("Review this.")
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


def test_streamed_and_whole_answer_are_the_same_text_and_usage(
    sim: SimulatorThread, client: Client
) -> None:
    whole = client.call(sim, client.body())
    events = client.call(sim, client.body(stream=True)).events
    streamed = "".join(d["delta"]["text"] for n, d in events if n == "content_block_delta")
    assert streamed == text_of(whole)
    assert events[-2][1]["usage"]["output_tokens"] == whole.json["usage"]["output_tokens"]


def test_answer_says_that_no_model_ran_and_what_was_asked(
    sim: SimulatorThread, client: Client
) -> None:
    task = (
        '<file path="src/a.py" lines="2">\nx = 1\ny = 2\n</file>\n<task>\nFind the defect.\n</task>'
    )
    reply = client.call(sim, client.body(task, system="# Security auditor\nYou look for holes."))
    lines = text_of(reply).splitlines()
    assert lines[0] == MARK
    assert lines[1] == "agent: Security auditor"
    assert lines[2] == "model asked: claude-sonnet-5-5"
    assert "attached: file src/a.py (2 lines, about 3 tokens)" in lines
    assert "> Find the defect." in lines


@pytest.mark.parametrize("task", ["<file", '<a b="c">', '<f path="x">never closed', "<>" * 50])
def test_odd_markup_in_a_task_still_gives_an_answer(
    sim: SimulatorThread, client: Client, task: str
) -> None:
    assert text_of(client.call(sim, client.body(task))).startswith(MARK)


def test_same_request_and_seed_give_the_same_text_in_any_order(client: Client) -> Any:
    tasks = [f"task {i}" for i in range(12)]

    def answers(order: Any, seed: int, workers: Any) -> Any:
        with SimulatorThread(seed=seed) as sim, ThreadPoolExecutor(workers) as pool:
            return dict(pool.map(lambda t: (t, text_of(client.call(sim, client.body(t)))), order))

    first = answers(tasks, 7, 1)
    assert answers(tasks[::-1], 7, 6) == first
    assert answers(tasks, 8, 1) != first


def test_answer_longer_than_max_tokens_is_cut_there(sim: SimulatorThread, client: Client) -> None:
    message = client.call(sim, client.body(max_tokens=10)).json
    assert message["stop_reason"] == "max_tokens"
    assert message["usage"]["output_tokens"] == 10
    assert estimate_tokens(message["content"][0]["text"]) == 10


def test_stop_sequence_ends_the_answer_before_it(sim: SimulatorThread, client: Client) -> None:
    message = client.call(sim, client.body(stop_sequences=["model asked"])).json
    assert message["stop_reason"] == "stop_sequence"
    assert message["stop_sequence"] == "model asked"
    assert message["content"][0]["text"] == f"{MARK}\nagent: no system prompt\n"


def test_thinking_comes_first_when_it_is_asked_for(sim: SimulatorThread, client: Client) -> None:
    events = client.call(sim, client.body(stream=True, thinking={"type": "adaptive"})).events
    blocks = [d["content_block"]["type"] for n, d in events if n == "content_block_start"]
    deltas = [d["delta"]["type"] for n, d in events if n == "content_block_delta"]
    assert blocks == ["thinking", "text"]
    assert deltas[0] == "thinking_delta"
    assert deltas.count("signature_delta") == 1
    assert events[-2][1]["usage"]["output_tokens_details"]["thinking_tokens"] > 0


def test_scenario_can_think_unasked_and_answer_in_several_text_blocks(client: Client) -> None:
    plain = client.body("Split me.")
    with SimulatorThread() as sim:
        expected = text_of(client.call(sim, plain))
    with SimulatorThread(scenario=Scenario(thinking=True, text_blocks=3)) as sim:
        reply = client.call(sim, plain)
    assert [b["type"] for b in reply.json["content"]] == ["thinking", "text", "text", "text"]
    assert text_of(reply) == expected


def test_length_of_answers_follows_the_scenario(client: Client) -> None:
    with SimulatorThread(scenario=Scenario(min_output_tokens=1000, max_output_tokens=1100)) as sim:
        sizes = [
            client.call(sim, client.body(f"t{i}", max_tokens=9999)).json["usage"]["output_tokens"]
            for i in range(5)
        ]
    assert all(1000 <= size <= 1130 for size in sizes)
    assert len(set(sizes)) > 1


def test_forced_tool_choice_gives_a_tool_call_that_fits_the_schema(
    sim: SimulatorThread, client: Client
) -> None:
    tool = {
        "name": "lookup",
        "input_schema": {
            "type": "object",
            "properties": {"ticker": {"type": "string"}},
            "required": ["ticker"],
        },
    }
    body = client.body(tools=[tool], tool_choice={"type": "any"})
    message = client.call(sim, body).json
    assert message["stop_reason"] == "tool_use"
    assert message["content"][0]["name"] == "lookup"
    assert message["content"][0]["input"] == {"ticker": "simulated ticker"}
    events = client.call(sim, {**body, "stream": True}).events
    parts = [d["delta"]["partial_json"] for n, d in events if n == "content_block_delta"]
    assert json.loads("".join(parts)) == {"ticker": "simulated ticker"}


@pytest.mark.parametrize(
    ("kind", "stop_reason"),
    [
        ("refusal", "refusal"),
        ("max_tokens", "max_tokens"),
        ("context_exceeded", "model_context_window_exceeded"),
        ("pause_turn", "pause_turn"),
        ("stop_sequence", "stop_sequence"),
        ("tool_use", "tool_use"),
        ("no_stop_reason", None),
        ("empty_text", "end_turn"),
    ],
)
def test_every_stop_reason_can_be_asked_for(
    sim: SimulatorThread, client: Client, kind: str, stop_reason: Any
) -> None:
    sim.queue_fault(Fault(kind=FaultKind(kind), times=2))
    body = client.body(f"stop {kind}")
    whole = client.call(sim, body).json
    streamed = client.call(sim, {**body, "stream": True}).events[-2][1]["delta"]
    for end in (whole, streamed):
        assert end["stop_reason"] == stop_reason
        assert ("stop_details" in end) == (kind == "refusal")


def test_refusal_has_details_and_no_content(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.REFUSAL))
    events = client.call(sim, client.body(stream=True)).events
    assert [name for name, _ in events] == ["message_start", "message_delta", "message_stop"]
    assert events[1][1]["delta"]["stop_details"]["type"] == "refusal"


def test_empty_text_is_a_block_without_a_delta(sim: SimulatorThread, client: Client) -> None:
    sim.queue_fault(Fault(kind=FaultKind.EMPTY_TEXT))
    names = [name for name, _ in client.call(sim, client.body(stream=True)).events]
    assert "content_block_start" in names
    assert "content_block_delta" not in names


def test_paused_answer_can_be_sent_back_to_go_on(sim: SimulatorThread, client: Client) -> None:
    body = client.body("Go on.")
    sim.queue_fault(Fault(kind=FaultKind.PAUSE_TURN))
    paused = client.call(sim, body).json
    body["messages"].append({"role": "assistant", "content": paused["content"]})
    assert client.call(sim, body).json["stop_reason"] == "end_turn"


def test_count_tokens_equals_the_input_that_is_billed(sim: SimulatorThread, client: Client) -> None:
    body = client.body("Count. " * 40, system="You are a counter.")
    counted = client.call(
        sim, client.body("Count. " * 40, system="You are a counter.", max_tokens=...),
        path="/v1/messages/count_tokens",
    )  # fmt: skip
    assert counted.json == {"input_tokens": client.call(sim, body).json["usage"]["input_tokens"]}


def test_models_are_listed_and_read_one_by_one(sim: SimulatorThread, client: Client) -> None:
    page = client.call(sim, path="/v1/models", method="GET").json
    ids = [model["id"] for model in page["data"]]
    assert "claude-opus-5-5" in ids
    assert "claude-3-opus" not in ids
    assert page["has_more"] is False
    model = client.call(sim, path="/v1/models/claude-haiku-4-5", method="GET").json
    assert model["type"] == "model"
    assert model["max_input_tokens"] == 200_000
    gone = client.call(sim, path="/v1/models/claude-3-5-haiku-20241022", method="GET")
    assert (gone.status, gone.json["error"]["type"]) == (404, "not_found_error")


def test_statistics_prove_that_each_request_was_paid_once(client: Client) -> None:
    with SimulatorThread() as sim:
        for task in ("a", "b", "b"):
            client.call(sim, client.body(task))
        stats = sim.stats
    assert (stats.requests, stats.answers) == (3, 3)
    assert sorted(stats.answers_by_fingerprint.values()) == [1, 2]
    assert stats.requests_by_model == {"claude-sonnet-5-5": 3}
    assert isinstance(stats.usage, Usage)
    assert stats.usage.input_tokens == 3


def test_fingerprint_leaves_out_stream_and_metadata_only(client: Client) -> None:
    with SimulatorThread() as sim:
        client.call(sim, client.body("x"))
        client.call(sim, client.body("x", stream=True, metadata={"user_id": "u"}))
        assert list(sim.stats.requests_by_fingerprint.values()) == [2]
        client.call(sim, client.body("x", max_tokens=1023))
        assert sorted(sim.stats.requests_by_fingerprint.values()) == [1, 2]


def test_kept_requests_have_bodies_and_no_key(sim: SimulatorThread, client: Client) -> None:
    client.call(sim, client.body("keep me"), headers={"anthropic-beta": "b"})
    record = sim.requests[-1]
    assert record.body["messages"][0]["content"] == "keep me"
    assert record.headers["anthropic-beta"] == "b"
    assert "x-api-key" not in record.headers
    assert len(sim.requests) <= 5


def test_latency_delays_the_first_event_and_the_chunks(client: Client) -> None:
    latency = Latency(
        distribution="fixed", first_event_median_seconds=0.05, output_tokens_per_second=1000
    )
    with SimulatorThread(scenario=Scenario(latency=latency)) as sim:
        import time

        start = time.perf_counter()
        message = client.call(sim, client.body()).json
        seconds = time.perf_counter() - start
    assert seconds >= 0.05 + message["usage"]["output_tokens"] / 1000 - 0.01
