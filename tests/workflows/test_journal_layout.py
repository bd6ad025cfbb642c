"""What the journal keeps comes back as it was."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from claude_force.domain.results import AgentResult
from claude_force.domain.runs import CallPlace, CallRecord, StepRecord
from claude_force.domain.usage import Usage
from claude_force.workflows.journal_layout import (
    decode_call,
    decode_result,
    decode_step,
    encode_call,
    encode_result,
    encode_step,
    packed,
    unpacked,
)

# Any text that Python can hold, halves of surrogate pairs included.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=200)


@given(TEXTS)
def test_a_text_comes_back(text: str) -> None:
    assert unpacked(packed(text)) == text


@given(TEXTS, st.integers(0, 10**9), st.decimals(0, 1000, places=9))
def test_a_result_comes_back_free_of_charge_with_what_it_saved(
    text: str, tokens: int, cost_usd: Decimal
) -> None:
    result = AgentResult(
        agent_name="a",
        text=text,
        stop_reason="end_turn",
        model="m",
        requested_model="m",
        usage=Usage(input_tokens=tokens, output_tokens=2),
        cost_usd=cost_usd,
    )
    found = decode_result(encode_result(result))
    assert (found.text, found.usage, found.cost_usd) == (text, result.usage, Decimal(0))
    assert found.cached is not None
    assert (found.cached.tier, found.cached.saved_usd) == ("journal", cost_usd)


@given(TEXTS, st.none() | st.integers(0, 99))
def test_a_call_comes_back(text: str, item: int | None) -> None:
    call = CallRecord(
        place=CallPlace(step_id="s", item_index=item, round=2, repair=1),
        key="0" * 32,
        agent_name="a",
        model="m",
        prompt=(),
        text=text,
        usage=Usage(output_tokens=3),
        cost_usd=Decimal("0.000001"),
        attempts=2,
        error_message=text,
    )
    assert decode_call(encode_call(call), ()) == call


@given(TEXTS)
def test_a_step_comes_back(text: str) -> None:
    step = StepRecord(
        step_id="s", agent_name="a", dependencies=("x", "y"), state="failed", text=text
    )
    assert decode_step(encode_step(step), lambda _: ()) == step
