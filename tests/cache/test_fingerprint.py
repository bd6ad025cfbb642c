"""Keys of requests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.cache.fingerprint import call_fields, call_key, request_fields, request_key
from claude_force.domain.messages import CallContext, Message, MessageRequest, TextBlock

if TYPE_CHECKING:
    from collections.abc import Mapping

ORIGIN = "https://api.anthropic.com"
REQUEST = MessageRequest(
    model="claude-sonnet-5-5",
    system=(TextBlock("You review code."),),
    messages=(Message("user", (TextBlock("Review this"), TextBlock("def f(): ..."))),),
    max_tokens=4096,
)

# Characters that could be taken for the marks of the encoding, and a lone surrogate.
_texts = st.text(alphabet=st.sampled_from("ab01:;-#é\ud800"), max_size=6)
_blocks = st.lists(_texts.map(TextBlock), max_size=3).map(tuple)
_requests = st.builds(
    MessageRequest,
    model=_texts,
    messages=st.lists(
        st.builds(Message, st.sampled_from(["user", "assistant"]), _blocks), max_size=3
    ).map(tuple),
    max_tokens=st.integers(1, 12),
    system=_blocks,
    effort=st.sampled_from([None, "low", "high"]),
    output_schema=st.none() | _texts,
    temperature=st.none() | st.sampled_from([0, 0.0, 1.0]),
    api_version=_texts,
)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 2)
    | st.sampled_from([0.0, 1.0])
    | _texts
    | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_texts, inner, max_size=2),
    max_leaves=4,
)
_contexts = st.dictionaries(st.sampled_from(["a", "b", "ab"]), _values, max_size=2)


@given(_requests, _texts, _requests, _texts)
def test_two_requests_share_a_key_exactly_when_they_are_equal(
    first: MessageRequest, first_origin: str, second: MessageRequest, second_origin: str
) -> None:
    equal = first == second and first_origin == second_origin
    assert (request_key(first, first_origin) == request_key(second, second_origin)) == equal


@given(_requests, _requests)
def test_equal_requests_have_equal_fields(first: MessageRequest, second: MessageRequest) -> None:
    if request_key(first, ORIGIN) == request_key(second, ORIGIN):
        assert request_fields(first, ORIGIN) == request_fields(second, ORIGIN)


_calls = st.tuples(_texts, _texts, _texts, _contexts)


@given(_calls, _calls)
def test_two_calls_share_a_key_exactly_when_they_are_equal(
    first: tuple[str, str, str, Mapping[str, object]],
    second: tuple[str, str, str, Mapping[str, object]],
) -> None:
    # repr tells 1, 1.0 and True apart, as the key has to; the order of names says nothing.
    equal = (*first[:3], _ordered(first[3])) == (*second[:3], _ordered(second[3]))
    assert (call_key(*first) == call_key(*second)) == equal


def _ordered(value: object) -> str:
    if isinstance(value, dict):
        return (
            "{" + ",".join(sorted(f"{key!r}:{_ordered(item)}" for key, item in value.items())) + "}"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_ordered(item) for item in value) + "]"
    return repr(value)


def test_a_key_is_32_hexadecimal_characters_and_stays_the_same_between_releases() -> None:
    assert request_key(REQUEST, ORIGIN) == "f945d001126cd9865f91cb616efa8067"
    assert (
        call_key("writer", "Say hello", "claude-sonnet-5-5", {})
        == "d80e7334f194eb3a6c7d8bcf55c9adce"
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": "claude-opus-5-5"}, "model"),
        ({"max_tokens": 4097}, "max_tokens"),
        ({"effort": "low"}, "effort"),
        ({"temperature": 0.5}, "temperature"),
        ({"output_schema": "{}"}, "output_schema"),
        ({"api_version": "2023-06-01"}, "api_version"),
        ({"system": (TextBlock("You review code!"),)}, "system[0]"),
        (
            {"messages": (Message("user", (TextBlock("Review this"), TextBlock("def g(): ..."))),)},
            "messages[0].user[1]",
        ),
    ],
)
def test_a_changed_field_is_another_key_and_is_named(change: dict[str, object], field: str) -> None:
    changed = replace(REQUEST, **change)  # type: ignore[arg-type] # fields of a request by name
    assert request_key(changed, ORIGIN) != request_key(REQUEST, ORIGIN)
    before, after = request_fields(REQUEST, ORIGIN), request_fields(changed, ORIGIN)
    assert [name for name in after if before.get(name) != after[name]] == [field]


def test_another_origin_is_another_key() -> None:
    assert request_key(REQUEST, ORIGIN) != request_key(REQUEST, "https://gateway.example")


def test_who_asks_and_where_a_prefix_is_kept_are_not_in_the_key() -> None:
    same = replace(
        REQUEST,
        system=(TextBlock("You review code.", cache_ttl="1h"),),
        context=CallContext(call_id="7", agent_name="other", timeout_seconds=1.0),
    )
    assert request_key(same, ORIGIN) == request_key(REQUEST, ORIGIN)


def test_agent_and_task_do_not_run_into_each_other() -> None:
    assert call_key("a:b", "c", "m", {}) != call_key("a", "b:c", "m", {})


def test_one_true_and_text_are_different_context() -> None:
    keys = {call_key("a", "t", "m", {"n": value}) for value in (1, True, 1.0, "1", b"1", None, [1])}
    assert len(keys) == 7


def test_a_value_without_a_canonical_form_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="context argument 'when' is a object"):
        call_key("a", "t", "m", {"when": object()})


def test_fields_show_settings_and_hide_texts() -> None:
    fields = request_fields(REQUEST, ORIGIN)
    assert fields["max_tokens"] == "4096"
    assert "Review this" not in str(fields)
    assert "secret task" not in str(
        call_fields("writer", "secret task", "m", {"note": "secret task"})
    )
