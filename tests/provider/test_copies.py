"""The quick copies that layers make of requests and answers."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from claude_force.domain.copies import copied
from claude_force.domain.messages import CallContext, MessageRequest, MessageResponse
from claude_force.domain.usage import Usage

CONTEXT = CallContext(call_id="c", agent_name="a", timeout_seconds=3.0)
REQUEST = MessageRequest(model="m", messages=(), max_tokens=3)
RESPONSE = MessageResponse(message_id="m", model="m", text="t", stop_reason=None, usage=Usage())


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        (CONTEXT, {"spent_usd": Decimal(2), "run_id": "r"}),
        (REQUEST, {"context": CONTEXT}),
        (RESPONSE, {"cost_usd": Decimal(1)}),
    ],
)
def test_copy_is_what_replace_makes_and_leaves_the_original(
    value: Any, changes: dict[str, Any]
) -> None:
    before = repr(value)
    made = copied(value, **changes)
    assert type(made) is type(value)
    assert repr(made) == repr(replace(value, **changes)) != before
    assert repr(value) == before


def test_field_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        copied(CONTEXT, nonsense=1)
