from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.simulator import SimulatorThread
from claude_force.simulator.draws import Draws
from claude_force.simulator.schemas import SchemaInstance

if TYPE_CHECKING:
    from tests.simulator.conftest import Client


REVIEW = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["pass", "fail"]},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
        "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "findings": {"type": "array", "items": {"$ref": "#/$defs/finding"}, "minItems": 3},
        "note": {"anyOf": [{"type": "string", "minLength": 40}, {"type": "null"}]},
        "version": {"const": 2},
        "maybe": {"type": ["null", "boolean"]},
    },
    "required": ["verdict", "score", "findings"],
    "$defs": {
        "finding": {
            "type": "object",
            "properties": {"title": {"type": "string", "maxLength": 12}, "line": {"type": "integer"}},
            "required": ["title"],
        }
    },
}  # fmt: skip


def test_answer_to_a_schema_is_an_instance_of_it(client: Client) -> None:
    config = {"format": {"type": "json_schema", "schema": REVIEW}}
    with SimulatorThread() as sim:
        body = client.body(output_config=config)
        texts = [client.call(sim, body).json["content"][0]["text"] for _ in range(2)]
    value = json.loads(texts[0])
    assert texts[0] == texts[1]
    assert value["verdict"] in {"pass", "fail"}
    assert value["score"] in {1, 2, 3, 4, 5}
    assert 0 < value["share"] <= 1
    assert [set(f) for f in value["findings"]] == [{"title", "line"}] * 3
    assert value["findings"][0]["title"] == "simulated ti"
    assert len(value["note"]) == 40
    assert value["note"].startswith("simulated note")
    assert value["version"] == 2
    assert isinstance(value["maybe"], bool)


def test_schema_that_refers_to_itself_ends() -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "child": {"$ref": "#"}},
        "required": ["name"],
    }
    value = make(schema)
    depth = 0
    while value is not None:
        assert value["name"] == "simulated name"
        value, depth = value.get("child"), depth + 1
    assert depth == 6


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "format": "date"}, "2026-11-22"),
        ({"allOf": [{"properties": {"a": {"const": 1}}}, {"required": ["a"]}]}, {"a": 1}),
        ({"type": "array", "items": {"const": 0}}, [0, 0]),
        ({"type": "array", "items": {"const": 0}, "maxItems": 1}, [0]),
        ({"type": "null"}, None),
        ({"type": "integer", "minimum": 7, "maximum": 7}, 7),
        ({"type": "integer", "multipleOf": 5, "minimum": 6, "maximum": 10}, 10),
        ({}, "simulated"),
    ],
)
def test_keyword_is_followed(schema: Any, value: str | None) -> None:
    assert make(schema) == value


@given(low=st.integers(-1000, 1000), width=st.integers(0, 50), seed=st.integers(0, 99))
def test_numbers_stay_within_their_bounds(low: int, width: int, seed: int) -> None:
    bounds = {"minimum": low, "maximum": low + width}
    assert low <= make({"type": "integer", **bounds}, seed) <= low + width
    assert low <= make({"type": "number", **bounds}, seed) <= low + width


def make(schema: Any, seed: int = 0) -> Any:
    return SchemaInstance(schema, Draws(seed, "x")).make()
