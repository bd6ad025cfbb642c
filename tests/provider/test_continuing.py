"""Answers that were cut off are continued: one text, one bill, over a real socket."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force import (
    AgentCall,
    AttemptFailed,
    BudgetExceededError,
    CallFinished,
    IncompleteAnswerError,
    InputError,
    MessageRequest,
    ServiceError,
    TextDelta,
)
from claude_force.domain.messages import CallContext, Message, TextBlock
from claude_force.domain.models import known_model_ids, takes_prefill
from claude_force.provider.continuing import ContinuingClient
from claude_force.provider.seam import Seam, anchor_of, next_part
from claude_force.simulator import Fault, FaultKind
from claude_force.simulator.generations import refuses_prefill
from claude_force.testing import ScriptedClient

if TYPE_CHECKING:
    from tests.conftest import Cli, MakeBlocking, Project

    from claude_force.simulator import SimulatorThread

CUT = 60
# A model that goes on by itself with a text of its own, and one that has to be asked to.
PREFILLS, ASKED = "claude-haiku-4-5", "claude-sonnet-5-5"


def turns(simulator: SimulatorThread) -> list[list[str]]:
    """The roles of the messages of every request."""
    return [
        [message["role"] for message in request.body["messages"]] for request in simulator.requests
    ]


@pytest.mark.parametrize(
    ("model", "later"),
    [(PREFILLS, ["user", "assistant"]), (ASKED, ["user", "assistant", "user"])],
)
def test_the_parts_are_one_answer_with_one_bill(
    make_blocking: MakeBlocking, simulator: SimulatorThread, model: str, later: list[str]
) -> None:
    with make_blocking(enable_cache=False) as force:
        answer = force.run_agent("alpha", "Name a colour.", model, CUT, continue_truncated=10)
    assert answer.ok
    assert answer.stop_reason == "end_turn"
    assert answer.attempts >= 2
    assert turns(simulator) == [["user"], *[later] * (answer.attempts - 1)]
    # Each line of the simulator's answer is there once, whole: nothing is missing, nothing is said twice.
    lines = answer.text.splitlines()
    assert lines[0] == "[simulated answer: no model ran]"
    assert len(set(lines)) == len(lines)
    numbered = [line for line in lines if line[0].isdigit()]
    assert [line.split(".")[0] for line in numbered] == [
        str(number) for number in range(1, len(numbered) + 1)
    ]
    assert all(line.endswith(".") for line in numbered)
    served = simulator.stats
    assert answer.usage.output_tokens == served.usage.output_tokens
    assert answer.usage.input_tokens == served.usage.input_tokens


def test_without_the_option_a_cut_answer_is_an_error_as_before(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    with make_blocking() as force, pytest.raises(IncompleteAnswerError) as caught:
        force.run_agent("alpha", "Name a colour.", ASKED, CUT)
    assert "have it continued (--continue-truncated)" in str(caught.value)
    assert len(simulator.requests) == 1


def test_the_whole_answer_is_cached_for_the_request_and_given_to_calls_without_the_option(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    with make_blocking() as force:
        paid = force.run_agent("alpha", "Name a colour.", ASKED, CUT, continue_truncated=10)
        sent = len(simulator.requests)
        again = force.run_agent("alpha", "Name a colour.", ASKED, CUT)
    assert again.text == paid.text
    assert again.cached is not None
    assert again.cached.saved_usd == paid.cost_usd
    assert len(simulator.requests) == sent


def test_rounds_are_bounded_and_what_was_paid_is_in_the_error(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    with make_blocking() as force, pytest.raises(IncompleteAnswerError) as caught:
        force.run_agent("alpha", "Name a colour.", ASKED, 30, continue_truncated=2)
    error = caught.value
    assert len(simulator.requests) == 3
    assert "also when it was continued (at most 2 times)" in str(error)
    assert error.attempts == 3
    assert error.usage.output_tokens == simulator.stats.usage.output_tokens
    assert error.cost_usd
    # All three parts of the text, joined.
    assert error.response.text.count("[simulated answer") == 1
    assert len(error.response.text) > 30 * 4


@pytest.mark.parametrize("rounds", [-1, 21, True])
def test_a_number_of_rounds_that_makes_no_sense_is_refused(
    make_blocking: MakeBlocking, simulator: SimulatorThread, rounds: int
) -> None:
    with make_blocking() as force, pytest.raises(InputError, match="from 0 to 20"):
        force.run_agent("alpha", "Name a colour.", continue_truncated=rounds)
    assert not simulator.requests


def test_a_part_that_fails_takes_the_bill_of_the_others_with_it(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.API_ERROR, match="last-characters", times=5))
    with make_blocking(max_retries=0) as force, pytest.raises(ServiceError) as caught:
        force.run_agent("alpha", "Name a colour.", ASKED, CUT, continue_truncated=3)
    assert caught.value.attempts == 2
    assert caught.value.usage.output_tokens == simulator.stats.usage.output_tokens
    assert caught.value.cost_usd


def test_a_continuation_that_no_budget_covers_is_not_sent_and_the_part_that_is_there_is_not_lost(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    # The worst case of the first part is less than that, and that of the second, with the first in its prompt, is more.
    with (
        make_blocking(budget_usd="0.0022") as force,
        pytest.raises(IncompleteAnswerError) as caught,
    ):
        force.run_agent("alpha", "Name a colour.", ASKED, CUT, continue_truncated=3)
    assert len(simulator.requests) == 1
    assert caught.value.response.text.startswith("[simulated answer")
    with make_blocking(budget_usd="0.001") as force, pytest.raises(BudgetExceededError):
        force.run_agent("alpha", "Name a colour.", ASKED, CUT, continue_truncated=3)


@pytest.mark.parametrize("fault", [None, FaultKind.CUT])
@pytest.mark.parametrize("model", [PREFILLS, ASKED])
def test_text_deltas_come_to_the_joined_text_also_when_a_part_breaks_off(
    make_blocking: MakeBlocking, simulator: SimulatorThread, model: str, fault: FaultKind | None
) -> None:
    if fault is not None:
        # Of the second request: the stream is cut after most of it has arrived.
        simulator.queue_fault(Fault(kind=fault, match="simulated answer", after_bytes=2_000))
    told: list[str] = []
    texts: list[str] = []

    def listen(event: Any) -> None:
        if isinstance(event, TextDelta):
            told.append(event.text)
        elif isinstance(event, AttemptFailed) and event.text_was_sent:
            told.clear()
        elif isinstance(event, CallFinished):
            texts.append(event.result.text)

    with make_blocking(enable_cache=False, listeners=(listen,)) as force:
        force.run_agent("alpha", "Name a colour.", model, CUT, continue_truncated=10)
    assert "".join(told) == texts[0]


def test_an_answer_with_a_schema_is_whole_only_as_json(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    schema = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("first", "second", "third")},
        "required": ["first", "second", "third"],
        "additionalProperties": False,
    }
    with make_blocking(enable_cache=False) as force:
        whole = force.run_agent("alpha", "Name colours.", ASKED, output_schema=schema)
        tokens = whole.usage.output_tokens
        answer = force.run_agent(
            "alpha",
            "Name colours.",
            ASKED,
            tokens - 2,
            output_schema=schema,
            continue_truncated=5,
        )
    assert answer.attempts >= 2
    assert set(json.loads(answer.text)) == {"first", "second", "third"}
    # The parts after the first are asked without the schema: with it a whole JSON text would begin again.
    formats = ["output_config" in request.body for request in simulator.requests]
    assert formats == [True, True, *[False] * (answer.attempts - 1)]


def test_a_model_that_does_not_go_on_where_it_stopped_gives_no_answer() -> None:
    request = MessageRequest(
        model=ASKED,
        messages=(Message("user", (TextBlock("Tell a story."),)),),
        max_tokens=20,
        context=CallContext(continue_rounds=3),
    )

    async def ask(part: str) -> str:
        first = await ScriptedClient(["Once upon a time there was"]).send(request)
        second = await ScriptedClient([part]).send(request)
        cut = replace(first, stop_reason="max_tokens")
        return (await ContinuingClient(ScriptedClient([cut, second])).send(request)).text

    # What is asked for: the last characters, and then what follows them.
    assert asyncio.run(ask("time there was a king.")) == "Once upon a time there was a king."
    assert asyncio.run(ask("time there was")) == "Once upon a time there was"
    with pytest.raises(IncompleteAnswerError, match="did not go on where it ended"):
        asyncio.run(ask("A king lived in a castle."))


def test_the_option_reaches_steps_maps_and_the_command_line(
    project: Project, cli: Cli, make_blocking: MakeBlocking
) -> None:
    step = {"id": "a", "agent": "alpha", "task": "Look.", "max_tokens": CUT}
    with make_blocking(enable_cache=False) as force:
        assert not force.execute_workflow({"steps": [step]}).ok
        assert force.execute_workflow({"steps": [{**step, "continue_truncated": 9}]}).ok
        assert force.execute_workflow({"steps": [step]}, continue_truncated=9).ok
        assert force.execute_workflow({"continue_truncated": 9, "steps": [step]}).ok
        never = {**step, "continue_truncated": False}
        assert not force.execute_workflow({"steps": [never]}, continue_truncated=9).ok
        plan = force.plan_workflow({"steps": [{**step, "continue_truncated": 9}]})
        assert (plan.calls.least, plan.calls.expected, plan.calls.most) == (1, 1, 10)
        many = list(
            force.run_many(
                [AgentCall(agent_name="alpha", task="x", max_tokens=CUT, continue_truncated=9)]
            )
        )
        assert [outcome.ok for outcome in many] == [True]
    cut = cli("run", "agent", "alpha", "--task", "Name it.", "--max-tokens", str(CUT), "--no-cache")
    assert cut.code == 6
    whole = cli(
        *("run", "agent", "alpha", "--task", "Name it.", "--max-tokens", str(CUT), "--no-cache"),
        *("--continue-truncated", "9"),
    )
    assert whole.code == 0, whole.err
    assert whole.out.count("[simulated answer") == 1
    project.items({"task": "Name it."})
    mapped = cli(
        *("run", "map", "alpha", "--items", "items.jsonl", "--out", "o.jsonl", "--no-cache"),
        *("--max-tokens", str(CUT), "--continue-truncated", "9"),
    )
    assert mapped.code == 0, mapped.err


def test_an_answer_in_a_batch_is_continued_by_batch(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    step = {
        "id": "a",
        "agent": "alpha",
        "task": "Look at {{ item }}.",
        "for_each": ["x", "y"],
        "max_tokens": CUT,
        "batch": True,
        "continue_truncated": 9,
    }
    with make_blocking(enable_cache=False) as force:
        run = force.execute_workflow({"steps": [step]})
    assert run.ok
    paths = {request.path for request in simulator.requests}
    assert paths == {"/v1/messages/batches"}
    assert len(simulator.requests) >= 2
    for item in run.steps["a"].items:
        assert item.result is not None
        assert item.result.attempts >= 2
        assert item.result.discounts is not None
        assert item.result.discounts.batch_usd == item.cost_usd


def test_the_journal_has_one_complete_answer(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    step = {"id": "a", "agent": "alpha", "task": "Look.", "max_tokens": CUT}
    with make_blocking(enable_cache=False) as force:
        run = force.execute_workflow({"steps": [step]}, continue_truncated=9)
        calls = force.run_store().load(run.run_id).steps[0].calls
        sent = len(simulator.requests)
        again = force.resume_workflow(run.run_id)
    assert len(simulator.requests) == sent
    assert again.results == run.results
    assert [(call.text, call.attempts, call.cost_usd) for call in calls] == [
        (run.results["a"], sent, run.cost_usd)
    ]


def test_what_is_known_of_prefills_agrees_with_the_simulator() -> None:
    assert {model for model in known_model_ids() if takes_prefill(model)} == {
        model for model in known_model_ids() if not refuses_prefill(model)
    }
    assert takes_prefill("claude-haiku-4-5-20251001")
    assert not takes_prefill("a model of tomorrow")


def test_nothing_can_be_continued_that_says_nothing() -> None:
    request = MessageRequest(model=ASKED, messages=(), max_tokens=10)
    assert next_part(request, " \n ") is None


@given(
    text=st.text(min_size=1).filter(str.strip),
    rest=st.text(),
    max_tokens=st.integers(1, 5_000),
    sizes=st.lists(st.integers(1, 30), min_size=1),
    preamble=st.sampled_from(["", "\n", "Going on:\n"]),
)
def test_repeated_characters_are_cut_off_wherever_the_pieces_end(
    text: str, rest: str, max_tokens: int, sizes: list[int], preamble: str
) -> None:
    so_far = text.rstrip()
    anchor = anchor_of(so_far, max_tokens=max_tokens)
    assert anchor
    assert so_far.endswith(anchor)
    if preamble and anchor.strip() in preamble:
        return
    said = preamble + anchor + rest
    seam, added, position = Seam(anchor), "", 0
    while position < len(said):
        size = sizes[position % len(sizes)]
        added += seam.feed(said[position : position + size])
        position += size
    assert seam.found
    assert added == rest
