"""The price of a call, and the result that it ends in."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from claude_force.domain.errors import CallError, IncompleteAnswerError, TransportError
from claude_force.domain.events import CallFailed, CallFinished, CallStarted, Event, TextDelta
from claude_force.domain.messages import MessageResponse
from claude_force.domain.usage import Usage
from claude_force.pricing.catalogue import PriceCatalogue
from claude_force.provider.ask import ask, compose
from claude_force.provider.metered import MeteredClient
from claude_force.testing import ScriptedClient

NOVEMBER = datetime(2026, 11, 22, tzinfo=UTC)
MILLION = Usage(input_tokens=1_000_000)


def response(**changes: Any) -> MessageResponse:
    fields: dict[str, Any] = {
        "message_id": "msg_1",
        "model": "claude-sonnet-5-5",
        "text": "fine",
        "stop_reason": "end_turn",
        "usage": MILLION,
        "request_id": "req_1",
    }
    return MessageResponse(**(fields | changes))


def metered(inner: Any) -> MeteredClient:
    return MeteredClient(inner, catalogue=PriceCatalogue(), now=lambda: NOVEMBER)


def test_price_is_that_of_the_answer_and_of_what_was_lost_before_it(lab: Any) -> None:
    inner = ScriptedClient([response(lost_usages=(MILLION,), attempts=2)])
    told: list[Event] = []

    async def main() -> MessageResponse:
        return await metered(inner).send(lab.request(), told.append)

    answer = lab.run(main())
    # $2 a million, twice.
    assert answer.cost_usd == Decimal(4)
    assert told


def test_price_of_a_failure_is_that_of_its_lost_prompts(lab: Any) -> None:
    async def main() -> CallError:
        with pytest.raises(TransportError) as caught:
            await metered(ScriptedClient([TransportError("cut", usages=[MILLION])])).send(
                lab.request()
            )
        return caught.value

    assert lab.run(main()).cost_usd == Decimal(2)


def test_failure_that_cost_nothing_has_no_price(lab: Any) -> None:
    async def main() -> CallError:
        with pytest.raises(TransportError) as caught:
            await metered(ScriptedClient([TransportError("refused")])).send(lab.request())
        return caught.value

    assert lab.run(main()).cost_usd is None


def test_price_of_an_unknown_model_is_unknown(lab: Any) -> None:
    client = metered(ScriptedClient([response(model="model-of-tomorrow")]))
    assert lab.run(client.send(lab.request())).cost_usd is None


def test_model_that_answered_is_priced_not_the_one_that_was_asked(lab: Any) -> None:
    client = metered(ScriptedClient([response(model="claude-opus-5-5")]))
    assert lab.run(client.send(lab.request())).cost_usd == Decimal(4)


def test_closing_reaches_the_inner_client() -> None:
    inner = ScriptedClient()
    asyncio.run(metered(inner).aclose())
    assert inner.closed


# ask


def asked(lab: Any, *script: Any, **changes: Any) -> tuple[Any, list[Event]]:
    events: list[Event] = []

    async def main() -> Any:
        try:
            return await ask(ScriptedClient(script), lab.request(**changes), events.append)
        except CallError as error:
            return error

    return lab.run(main()), events


def test_result_holds_the_facts_of_the_response(lab: Any) -> None:
    result, events = asked(lab, response(cost_usd=Decimal(2), attempts=2, lost_usages=(MILLION,)))
    assert result.ok
    assert (result.agent_name, result.text, result.model) == (
        "reviewer",
        "fine",
        "claude-sonnet-5-5",
    )
    assert (result.cost_usd, result.attempts, result.request_id) == (Decimal(2), 2, "req_1")
    assert result.lost_usages == (MILLION,)
    assert isinstance(events[0], CallStarted)
    assert isinstance(events[-1], CallFinished)
    assert events[-1].result is result


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"stop_reason": "max_tokens"}, "cut off at max_tokens=4,096"),
        ({"stop_reason": "refusal"}, "The model refused to answer. Reword"),
        (
            {
                "stop_reason": "refusal",
                "stop_details": {"category": "harm", "explanation": "\x1b[2Jno\n"},
            },
            r"refused to answer \(harm:  \[2Jno\)",
        ),
        ({"stop_reason": "model_context_window_exceeded"}, "context is full"),
        ({"stop_reason": "pause_turn"}, "paused its turn"),
        ({"stop_reason": None}, "ended without a reason"),
        ({"text": "  \n"}, "answered with no text"),
        ({"stop_reason": "stop_sequence", "text": ""}, "answered with no text"),
        ({"stop_reason": "new\x1breason"}, "a reason that is not known here"),
    ],
)
def test_unfinished_answer_says_what_is_missing_and_keeps_what_came(
    lab: Any, changes: dict[str, Any], text: str
) -> None:
    answer = response(**changes, cost_usd=Decimal(2))
    error, events = asked(lab, answer)
    assert isinstance(error, IncompleteAnswerError)
    with pytest.raises(IncompleteAnswerError, match=text):
        raise error
    assert str(error).isprintable()
    assert (error.response, error.agent_name, error.cost_usd) == (answer, "reviewer", Decimal(2))
    assert error.usages == (MILLION,)
    assert isinstance(events[-1], CallFailed)
    assert events[-1].error_kind == "incomplete_answer"


def test_failed_call_names_its_agent(lab: Any) -> None:
    error, events = asked(lab, TransportError("cut"))
    assert error.agent_name == "reviewer"
    assert isinstance(events[-1], CallFailed)
    assert (events[-1].agent_name, events[-1].message) == ("reviewer", "cut")


def test_call_without_a_listener_makes_no_events(lab: Any) -> None:
    async def main() -> None:
        assert (await ask(ScriptedClient(["yes"]), lab.request(), None)).text == "yes"
        with pytest.raises(TransportError):
            await ask(ScriptedClient([TransportError("cut")]), lab.request(), None)

    lab.run(main())


def test_listeners_are_told_in_order_and_none_of_them_is_no_listener() -> None:
    told: list[str] = []
    event = TextDelta("call-1", "a")
    assert compose([]) is None
    one = lambda _: told.append("one")  # noqa: E731 - two lines for each would say no more
    two = lambda _: told.append("two")  # noqa: E731 - see above
    assert compose([one]) is one
    both = compose([one, two])
    assert both is not None
    both(event)
    assert told == ["one", "two"]
