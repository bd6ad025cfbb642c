from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from claude_force.agents.calls import AgentCall
from claude_force.agents.prompts import UpstreamText
from claude_force.domain.errors import (
    AuthenticationError,
    ClaudeForceError,
    ServiceError,
    SpendLimitError,
)
from claude_force.domain.events import AttemptStarted, CallStarted
from claude_force.domain.results import AgentOutcome, AgentResult, StepResult
from claude_force.domain.usage import Usage
from claude_force.workflows.definition import Step
from claude_force.workflows.fan_out import fan_out
from claude_force.workflows.inputs import RunInputs
from claude_force.workflows.run_stop import RunStop, not_sent
from claude_force.workflows.steps import Asking, step_call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable


def ended_step(step_id: str, text: str) -> StepResult:
    return StepResult(step_id=step_id, agent_name="a", state="succeeded", result=answer(text))


def answer(text: str) -> AgentResult:
    return AgentResult(
        agent_name="a",
        text=text,
        stop_reason="end_turn",
        model="m",
        requested_model="m",
        usage=Usage(),
    )


def calls(count: int) -> Iterable[AgentCall]:
    return (AgentCall(agent_name="a", task=str(number)) for number in range(count))


def is_spend_cap(error: ClaudeForceError) -> bool:
    return isinstance(error, SpendLimitError)


def outcomes_of(
    given: Iterable[AgentCall],
    run_call: Callable[[AgentCall], Awaitable[AgentResult]],
    workers: int,
) -> list[AgentOutcome]:
    async def main() -> list[AgentOutcome]:
        found = fan_out(given, run_call, workers=workers, is_fatal=is_spend_cap)
        return [outcome async for outcome in found]

    return asyncio.run(main())


class TestFanOut:
    def test_every_call_has_an_outcome_and_no_more_run_than_there_are_workers(self) -> None:
        running = most = 0

        async def run_call(call: AgentCall) -> AgentResult:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            if call.task == "4":
                raise ServiceError("down")
            return answer(call.task)

        outcomes = outcomes_of(calls(20), run_call, 3)
        assert most == 3
        assert sorted(outcome.index for outcome in outcomes) == list(range(20))
        assert [outcome.index for outcome in outcomes if not outcome.ok] == [4]

    def test_outcomes_come_in_the_order_in_which_they_end(self) -> None:
        async def run_call(call: AgentCall) -> AgentResult:
            for _ in range(10 - int(call.task)):
                await asyncio.sleep(0)
            return answer(call.task)

        assert [outcome.index for outcome in outcomes_of(calls(5), run_call, 5)] == [4, 3, 2, 1, 0]

    def test_nothing_is_run_after_a_fatal_error(self) -> None:
        ran: list[str] = []

        async def run_call(call: AgentCall) -> AgentResult:
            ran.append(call.task)
            if call.task == "2":
                raise SpendLimitError("the cap is reached")
            return answer(call.task)

        outcomes = outcomes_of(calls(6), run_call, 1)
        assert ran == ["0", "1", "2"]
        assert [outcome.ok for outcome in outcomes] == [True, True] + [False] * 4
        assert str(outcomes[5].error) == (
            "Not sent, because the run was stopped: the cap is reached"
        )

    def test_slow_reader_holds_the_workers_up(self) -> None:
        read = 0

        def given() -> Iterable[AgentCall]:
            nonlocal read
            for call in calls(1_000):
                read += 1
                yield call

        async def run_call(call: AgentCall) -> AgentResult:
            return answer(call.task)

        async def main() -> int:
            found = fan_out(given(), run_call, workers=2, is_fatal=is_spend_cap)
            async with aclosing(found):
                await anext(found)
                for _ in range(100):
                    await asyncio.sleep(0)
                return read

        # One taken, two that wait to be taken, and one in the hands of each worker.
        assert asyncio.run(main()) <= 5

    def test_fault_of_the_program_is_raised_and_no_outcome(self) -> None:
        async def run_call(call: AgentCall) -> AgentResult:
            raise RuntimeError("a bug")

        with pytest.raises(RuntimeError, match="a bug"):
            outcomes_of(calls(3), run_call, 2)


class TestRunStop:
    def test_only_an_attempt_after_a_fatal_error_is_refused(self) -> None:
        stop = RunStop(is_spend_cap)
        stop.consider(ServiceError("down"))
        stop(AttemptStarted("call", 1))
        stop.consider(SpendLimitError("the cap"))
        stop(CallStarted("call", "a", "m"))
        with pytest.raises(SpendLimitError, match="Not sent, because the run was stopped: the cap"):
            stop(AttemptStarted("call", 2))

    def test_calls_under_way_are_woken_when_the_run_is_stopped_and_others_are_not(self) -> None:
        class Call:
            def __init__(self) -> None:
                self.woken: list[bool] = []

            def wake(self, *, cut: bool) -> None:
                self.woken.append(cut)

        stop, early, ended, late = RunStop(is_spend_cap), Call(), Call(), Call()
        stop.watch(early)
        stop.watch(ended)
        stop.unwatch(ended)
        stop.consider(ServiceError("down"))
        assert not stop.stopped
        stop.consider(SpendLimitError("the cap"))
        stop.consider(SpendLimitError("another"))
        stop.stop(ServiceError("the deadline"), cut=True)
        stop.watch(late)
        assert (early.woken, ended.woken, late.woken) == ([False, True], [], [True])
        assert str(stop.refusal(sent=True)) == "the cap"
        assert str(stop.refusal(sent=False)) == "Not sent, because the run was stopped: the cap"

    def test_what_was_not_sent_is_as_little_worth_a_retry_as_its_cause(self) -> None:
        cause = AuthenticationError("no such key", status=401, error_type="authentication_error")
        error = not_sent(cause)
        assert type(error) is AuthenticationError
        assert (error.status, error.error_type, error.attempts) == (401, "authentication_error", 0)
        assert error.usages == ()


class TestStepCall:
    def test_own_task_comes_first_and_answers_in_the_order_of_the_dependencies(self) -> None:
        step = Step(
            step_id="sum",
            agent_name="beta",
            task="Sum up",
            dependencies=("two", "one"),
            model="haiku",
            max_tokens=9,
            effort="low",
        )
        ended = {"one": ended_step("one", "1"), "two": ended_step("two", "2")}
        call = step_call(step, RunInputs(task="the release"), ended, Asking())
        assert call.agent_name == "beta"
        assert call.task == "Sum up\n\nthe release"
        assert call.upstream == (UpstreamText("two", "2"), UpstreamText("one", "1"))
        assert (call.model, call.max_tokens, call.effort) == ("haiku", 9, "low")

    @pytest.mark.parametrize(("own", "whole", "asked"), [(None, "x", "x"), ("y", "", "y")])
    def test_either_task_alone_is_enough(self, own: str | None, whole: str, asked: str) -> None:
        step = Step(step_id="s", agent_name="a", task=own)
        call = step_call(step, RunInputs(task=whole), {}, Asking())
        assert call.task == asked
        assert call.max_tokens == 4096
