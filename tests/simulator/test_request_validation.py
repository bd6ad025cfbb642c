from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_force.simulator import Simulator, SimulatorThread
from claude_force.simulator.wire import HttpRequest, Response, whole_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.conftest import Client, Clock


OLD: dict[str, str | None] = {"anthropic-version": "2023-06-01"}
TEXT = {"type": "text", "text": "hello"}
MARKED = {**TEXT, "cache_control": {"type": "ephemeral"}}


def user(*content: Any) -> Any:
    return [{"role": "user", "content": list(content)}]


@pytest.fixture(scope="module")
def sim() -> Iterator[SimulatorThread]:
    # 2026-11-22, before the retirement of claude-sonnet-4-5.
    with SimulatorThread(wall_clock=lambda: 1_795_300_000.0) as running:
        yield running


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"foo": 1}, "foo: Extra inputs are not permitted"),
    "no model": ({"model": ...}, "model: Field required"),
    "no max_tokens": ({"max_tokens": ...}, "max_tokens: Field required"),
    "no messages": ({"messages": ...}, "messages: Field required"),
    "model is a number": ({"model": 5}, "model: Input should be a valid string"),
    "max_tokens zero": ({"max_tokens": 0}, "max_tokens: Input should be greater"),
    "max_tokens text": ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
    "max_tokens true": ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
    "stream text": ({"stream": "yes"}, "stream: Input should be a valid boolean"),
    "messages empty": ({"messages": []}, "at least one message is required"),
    "messages text": ({"messages": "hi"}, "messages: Input should be a valid list"),
    "role": ({"messages": [{"role": "bot", "content": "x"}]}, "messages.0.role"),
    "content empty": ({"messages": [{"role": "user", "content": ""}]}, "non-empty content"),
    "content none": ({"messages": [{"role": "user", "content": []}]}, "non-empty content"),
    "content missing": ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    "message field": (
        {"messages": [{"role": "user", "content": "x", "name": "y"}]},
        "messages.0.name: Extra inputs are not permitted",
    ),
    "text empty": ({"messages": user({"type": "text", "text": ""})}, "must be non-empty"),
    "text blank": ({"messages": user({"type": "text", "text": " "})}, "non-whitespace"),
    "block type": ({"messages": user({"type": "smell"})}, "Input tag 'smell'"),
    "image without source": ({"messages": user({"type": "image"})}, "image.source: Field required"),
    "system type": ({"system": [{"type": "image"}]}, "system.0.type"),
    "temperature": ({"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
    "top_p": ({"top_p": 1.0}, "top_p: Extra inputs are not permitted"),
    "top_k": ({"top_k": 5}, "top_k: Extra inputs are not permitted"),
    "five marks": ({"messages": user(*[MARKED] * 5)}, "A maximum of 4 blocks"),
    "bad ttl": (
        {"messages": user({**TEXT, "cache_control": {"type": "ephemeral", "ttl": "2h"}})},
        "ttl: Input should be '5m' or '1h'",
    ),
    "long after short": (
        {
            "messages": user(
                MARKED, {**TEXT, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
            )
        },
        "must not come after",
    ),
    "effort": ({"output_config": {"effort": "huge"}}, "output_config.effort"),
    "format": ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
    "format schema": (
        {"output_config": {"format": {"type": "json_schema"}}},
        "output_config.format.schema: Field required",
    ),
    "output_config field": ({"output_config": {"x": 1}}, "output_config.x: Extra inputs"),
    "budget": (
        {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000},
        "a budget is not supported by claude-sonnet-5-5",
    ),
    "fable thinks": (
        {"model": "claude-fable-5-2", "thinking": {"type": "disabled"}},
        "'disabled' is not supported by claude-fable-5-2",
    ),
    "thinking type": ({"thinking": {"type": "deep"}}, "thinking.type: Input should be"),
    "prefill": (
        {"messages": [*user(TEXT), {"role": "assistant", "content": "The answer is"}]},
        "does not support prefill",
    ),
    "tool_choice": ({"tool_choice": {"type": "any"}}, "while providing tools"),
    "too long": ({"messages": user({**TEXT, "text": "x" * 4_000_000})}, "prompt is too long"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_api_refuses_is_a_400_that_says_why(
    sim: SimulatorThread, client: Client, name: str
) -> None:
    changes, message = REFUSED[name]
    reply = client.call(sim, client.body(**changes))
    assert reply.status == 400
    assert reply.json["type"] == "error"
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert message in reply.json["error"]["message"]
    assert reply.json["request_id"] == reply.headers["request-id"]


ACCEPTED: dict[str, Any] = {
    "assistant first": {"messages": [{"role": "assistant", "content": "x"}, *user(TEXT)]},
    "four marks": {"messages": user(*[MARKED] * 4)},
    "long before short": {
        "system": [{**TEXT, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": user(MARKED),
    },
    "adaptive": {"thinking": {"type": "adaptive"}},
    "thinking off": {"thinking": {"type": "disabled"}},
    "budget of an old model": {
        "model": "claude-haiku-4-5",
        "max_tokens": 4000,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    },
    "prefill of an old model": {
        "model": "claude-haiku-4-5",
        "messages": [*user(TEXT), {"role": "assistant", "content": "The answer is"}],
    },
    "effort": {"output_config": {"effort": "max"}},
    "metadata": {"metadata": {"user_id": "u"}, "service_tier": "auto"},
    "dated snapshot": {"model": "claude-haiku-4-5-20251001"},
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_api_takes_is_taken(sim: SimulatorThread, client: Client, name: str) -> None:
    assert client.call(sim, client.body(**ACCEPTED[name])).status == 200


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("claude-haiku-4-5", 200),
        ("claude-opus-4-6", 200),
        ("claude-sonnet-4-6", 200),
        ("claude-opus-4-7", 400),
        ("claude-sonnet-5", 400),
        ("claude-haiku-5-5", 400),
    ],
)
def test_old_version_takes_a_temperature_for_old_models_only(
    sim: SimulatorThread, client: Client, model: str, status: int
) -> None:
    body = client.body(model=model, temperature=0.5)
    assert client.call(sim, body, headers=OLD).status == status
    assert client.call(sim, body).status == 400


@pytest.mark.parametrize(
    "model", ["claude-3-5-haiku-20241022", "claude-opus-4-0", "gpt-5", "claude-sonnet-9"]
)
def test_retired_and_unknown_models_are_404(
    sim: SimulatorThread, client: Client, model: str
) -> None:
    reply = client.call(sim, client.body(model=model))
    assert reply.status == 404
    assert reply.json["error"] == {"type": "not_found_error", "message": f"model: {model}"}


def test_model_is_gone_on_the_day_of_its_retirement(client: Client, clock: Clock) -> None:
    body = client.body(model="claude-sonnet-4-5")
    last_second = 1_795_996_799.0
    clock.now = last_second
    with SimulatorThread(wall_clock=clock) as sim:
        assert client.call(sim, body).status == 200
        clock.now += 1
        assert client.call(sim, body).status == 404


@pytest.mark.parametrize(
    ("headers", "status", "error_type"),
    [
        ({"x-api-key": None}, 401, "authentication_error"),
        ({"x-api-key": None, "authorization": "Basic abc"}, 401, "authentication_error"),
        ({"x-api-key": None, "authorization": "Bearer abc"}, 200, None),
        ({"anthropic-version": None}, 400, "invalid_request_error"),
        ({"anthropic-version": "1999-01-01"}, 400, "invalid_request_error"),
    ],
)
def test_key_and_version_headers_are_needed(
    sim: SimulatorThread, client: Client, headers: Any, status: int, error_type: str
) -> None:
    reply = client.call(sim, client.body(), headers=headers)
    assert reply.status == status
    assert reply.json.get("error", {}).get("type") == error_type


def test_required_key_refuses_any_other(client: Client) -> None:
    with SimulatorThread(required_api_key="right") as sim:
        assert client.call(sim, client.body()).status == 401
        assert client.call(sim, client.body(), headers={"x-api-key": "right"}).status == 200


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
def test_body_that_is_no_json_object_is_400(
    sim: SimulatorThread, client: Client, data: bytes
) -> None:
    reply = client.call(sim, data)
    assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/messages", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/complete", 404),
        ("GET", "/", 404),
        ("GET", "/v1/messages/batches/none", 404),
        ("GET", "/v1/messages/batches/a/b", 404),
    ],
)
def test_unknown_paths_and_methods_are_refused(
    sim: SimulatorThread, client: Client, method: str, path: str, status: int
) -> None:
    reply = client.call(sim, method=method, path=path)
    assert reply.status == status
    assert reply.json["type"] == "error"


def test_body_over_32_mb_is_413_and_the_server_goes_on(
    sim: SimulatorThread, client: Client
) -> None:
    reply = client.call(sim, b"x" * (32 * 1024 * 1024 + 1))
    assert (reply.status, reply.json["error"]["type"]) == (413, "request_too_large")
    assert client.call(sim, client.body()).status == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.sampled_from(["text", "ephemeral", "5m", "user", "tool", "enabled", "json_schema", "#"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["type", "text", "content", "role", "source", "cache_control", "ttl", "name", "input_schema", "format", "schema", "properties", "items", "$ref", "anyOf", "minItems", "minLength", "required", "enum", "minimum", "budget_tokens", "input"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    changes=st.dictionaries(
        st.sampled_from(
            [
                "system",
                "messages",
                "tools",
                "tool_choice",
                "thinking",
                "output_config",
                "cache_control",
                "stop_sequences",
                "metadata",
                "max_tokens",
                "model",
                "stream",
            ]
        ),
        json_values,
        max_size=3,
    )
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_gets_an_answer_or_a_refusal_never_a_crash(changes: Any) -> None:
    body = {
        "model": "claude-sonnet-5-5",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "x"}],
        **changes,
    }
    response = answer_to(json.dumps(body).encode())
    assert response.status in {200, 400, 404}
    assert whole_bytes(response, date="", keep_alive=True).startswith(b"HTTP/1.1 ")


@given(schema=json_values)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_schema_gets_json_or_a_refusal(schema: Any) -> None:
    config = {"format": {"type": "json_schema", "schema": {"type": "object", "items": schema,
              "properties": {"a": schema}, "required": ["a", "b"]}}}  # fmt: skip
    body = {
        "model": "claude-sonnet-5-5",
        "max_tokens": 10**9,
        "messages": [{"role": "user", "content": "x"}],
        "output_config": config,
    }
    response = answer_to(json.dumps(body).encode())
    assert response.status in {200, 400}
    if response.status == 200:
        message = json.loads(response.pieces[0].data)
        assert set(json.loads(message["content"][0]["text"])) == {"a", "b"}


def answer_to(data: bytes) -> Response:
    headers = {"host": "127.0.0.1", "x-api-key": "k", "anthropic-version": "2026-10-21"}
    request = HttpRequest(method="POST", path="/v1/messages", query="", headers=headers, body=data)
    return Simulator()._api.handle(request)
