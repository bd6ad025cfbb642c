from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_force.domain.errors import (
    CallTimeoutError,
    ClaudeForceError,
    ServiceError,
    SpendLimitError,
)
from claude_force.domain.events import Event, RunFinished, RunStarted, StepFinished, StepStarted
from claude_force.domain.results import AgentResult, WorkflowResult
from claude_force.domain.usage import Usage
from claude_force.workflows.definition import Step, Workflow
from claude_force.workflows.inputs import RunInputs
from claude_force.workflows.reading import parse_workflow
from claude_force.workflows.scheduler import WorkflowRun
from claude_force.workflows.step_run import StepRun

if TYPE_CHECKING:
    from claude_force.agents.calls import AgentCall
    from claude_force.domain.runs import CallPlace

Runner = Callable[[Step, Mapping[str, AgentResult]], Awaitable[AgentResult]]


def answer(text: str) -> AgentResult:
    return AgentResult(
        agent_name="a",
        text=text,
        stop_reason="end_turn",
        model="m",
        requested_model="m",
        usage=Usage(input_tokens=1, output_tokens=2),
        cost_usd=Decimal("0.5"),
    )


def diamond() -> Workflow:
    return parse_workflow(
        "diamond",
        {
            "steps": [
                {"id": "left", "agent": "x", "needs": ["top"]},
                {"id": "top", "agent": "x"},
                {"id": "right", "agent": "x", "needs": ["top"]},
                {"id": "bottom", "agent": "x", "needs": ["left", "right"]},
                {"id": "alone", "agent": "x"},
            ]
        },
    )


def is_spend_cap(error: ClaudeForceError) -> bool:
    return isinstance(error, SpendLimitError)


async def execute(workflow: Workflow, runner: Runner, **options: Any) -> WorkflowResult:
    steps = {step.step_id: step for step in workflow.steps}

    async def make_call(call: AgentCall, place: CallPlace) -> AgentResult:
        answers = {block.label: answer(block.text) for block in call.upstream}
        return await runner(steps[place.step_id], answers)

    run_step = StepRun(
        run_id="run",
        inputs=RunInputs(),
        make_call=make_call,
        is_fatal=is_spend_cap,
        sequential=options.get("sequential", False),
        on_event=options.get("on_event"),
    )
    given: dict[str, Any] = {"is_fatal": is_spend_cap, **options}
    return await WorkflowRun(workflow, run_id="run", run_step=run_step, **given).execute()


def run(workflow: Workflow, runner: Runner, **options: Any) -> WorkflowResult:
    return asyncio.run(execute(workflow, runner, **options))


async def say(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
    return answer(f"{step.step_id}({','.join(one.text for one in answers.values())})")


def failing(*names: str, error: ClaudeForceError | None = None) -> Runner:
    async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
        if step.step_id in names:
            raise error or ServiceError("down")
        return await say(step, answers)

    return runner


def states(result: WorkflowResult) -> dict[str, str]:
    return {step_id: step.state for step_id, step in result.steps.items()}


def test_step_gets_the_answers_of_its_own_dependencies() -> None:
    result = run(diamond(), say)
    assert result.results == {
        "left": "left(top())",
        "top": "top()",
        "right": "right(top())",
        "bottom": "bottom(left(top()),right(top()))",
        "alone": "alone()",
    }
    assert result.ok
    assert result.text == "bottom(left(top()),right(top()))\n\nalone()"
    assert result.usage == Usage(input_tokens=5, output_tokens=10)
    assert result.cost_usd == Decimal("2.5")
    assert result.workflow_name == "diamond"


def test_step_starts_when_its_own_dependencies_end_and_not_with_a_wave() -> None:
    workflow = parse_workflow(
        "w",
        {
            "steps": [
                {"id": "fast", "agent": "x"},
                {"id": "slow", "agent": "x"},
                {"id": "behind-fast", "agent": "x", "needs": ["fast"]},
            ]
        },
    )

    async def main() -> WorkflowResult:
        behind_fast_has_ended = asyncio.Event()

        async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
            # With waves `behind-fast` would wait for `slow`, which waits for it: the run would never end.
            if step.step_id == "slow":
                await behind_fast_has_ended.wait()
            if step.step_id == "behind-fast":
                behind_fast_has_ended.set()
            return await say(step, answers)

        async with asyncio.timeout(20):
            return await execute(workflow, runner)

    assert asyncio.run(main()).ok


def test_failure_takes_what_is_behind_it_and_lets_other_branches_end() -> None:
    result = run(diamond(), failing("left"))
    assert states(result) == {
        "left": "failed",
        "top": "succeeded",
        "right": "succeeded",
        "bottom": "skipped",
        "alone": "succeeded",
    }
    assert not result.ok
    assert result.steps["bottom"].reason == "left failed"
    assert str(result.steps["left"].error) == "down"
    assert result.execution_order == ("top", "left", "right", "alone")
    assert result.results.keys() == {"top", "right", "alone"}


def test_spend_cap_starts_nothing_more() -> None:
    started: list[str] = []

    async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
        started.append(step.step_id)
        if step.step_id == "top":
            raise SpendLimitError("the cap is reached")
        return await say(step, answers)

    result = run(diamond(), runner, sequential=True)
    assert started == ["top"]
    assert states(result) == {
        "left": "skipped",
        "top": "failed",
        "right": "skipped",
        "bottom": "skipped",
        "alone": "skipped",
    }
    assert result.steps["alone"].reason == "the run was stopped (spend_limit)"


def test_spend_cap_keeps_what_was_under_way_and_starts_nothing_behind_it() -> None:
    workflow = parse_workflow(
        "w",
        {
            "steps": [
                {"id": "capped", "agent": "x"},
                {"id": "other", "agent": "x"},
                {"id": "behind-other", "agent": "x", "needs": ["other"]},
            ]
        },
    )

    async def main() -> WorkflowResult:
        capped, begun = asyncio.Event(), asyncio.Event()

        async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
            if step.step_id == "capped":
                await begun.wait()
                capped.set()
                raise SpendLimitError("the cap is reached")
            begun.set()
            await capped.wait()
            await asyncio.sleep(0)
            return await say(step, answers)

        return await execute(workflow, runner)

    result = asyncio.run(main())
    assert states(result) == {"capped": "failed", "other": "succeeded", "behind-other": "skipped"}
    assert result.results == {"other": "other()"}


def test_sequential_run_has_one_step_at_a_time_in_the_order_of_the_definition() -> None:
    running: list[str] = []
    order: list[str] = []

    async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
        running.append(step.step_id)
        order.append(step.step_id)
        await asyncio.sleep(0)
        assert running == [step.step_id]
        running.remove(step.step_id)
        return await say(step, answers)

    result = run(diamond(), runner, sequential=True)
    assert order == ["top", "left", "right", "bottom", "alone"]
    assert result.execution_order == tuple(order)


def test_events_tell_the_run_and_every_step_once() -> None:
    events: list[Event] = []
    run(diamond(), failing("left"), on_event=events.append)
    assert events[0] == RunStarted("run", "diamond", ("left", "top", "right", "bottom", "alone"))
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert not last.ok
    started = [event.step_id for event in events if isinstance(event, StepStarted)]
    ended = [event.step.step_id for event in events if isinstance(event, StepFinished)]
    assert sorted(started) == ["alone", "left", "right", "top"]
    assert sorted(ended) == ["alone", "bottom", "left", "right", "top"]


def test_fault_of_the_program_ends_the_run_and_cancels_the_rest() -> None:
    cancelled: list[str] = []

    async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
        if step.step_id == "top":
            await asyncio.sleep(0)
            raise RuntimeError("a bug")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(step.step_id)
            raise
        raise AssertionError

    with pytest.raises(RuntimeError, match="a bug"):
        run(diamond(), runner)
    assert cancelled == ["alone"]


def test_a_step_that_is_cancelled_from_within_ends_the_run() -> None:
    async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(diamond(), runner)


def test_steps_that_wait_all_run_at_the_same_time() -> None:
    workflow = parse_workflow(
        "wide", {"steps": [{"id": f"s{n}", "agent": "x"} for n in range(100)]}
    )

    async def main() -> WorkflowResult:
        together = asyncio.Barrier(100)

        async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
            await together.wait()
            return await say(step, answers)

        async with asyncio.timeout(20):
            return await execute(workflow, runner)

    assert asyncio.run(main()).ok


def test_steps_that_never_wait_let_others_have_the_loop() -> None:
    workflow = parse_workflow(
        "wide", {"steps": [{"id": f"s{n}", "agent": "x"} for n in range(1_000)]}
    )
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> WorkflowResult:
        counting = asyncio.create_task(count_turns())
        try:
            return await execute(workflow, say)
        finally:
            counting.cancel()

    assert asyncio.run(main()).ok
    assert turns > 3


def test_the_deadline_of_a_workflow_fails_what_runs_and_skips_the_rest() -> None:
    async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
        if step.step_id == "top":
            await asyncio.Event().wait()
        return await say(step, answers)

    result = run(diamond().within(0.05), runner)
    assert states(result) == {
        "left": "skipped",
        "top": "failed",
        "right": "skipped",
        "bottom": "skipped",
        "alone": "succeeded",
    }
    assert isinstance(result.steps["top"].error, CallTimeoutError)


def test_cancelled_run_leaves_no_step_running() -> None:
    async def main() -> set[asyncio.Task[Any]]:
        begun = asyncio.Event()

        async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        running = asyncio.create_task(execute(diamond(), runner))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()


def test_times_of_steps_come_from_the_given_clock() -> None:
    ticks = iter(range(100))
    result = run(
        parse_workflow("w", ["x", "y"]), say, clock=lambda: float(next(ticks)), sequential=True
    )
    assert result.steps["x"].started_seconds == 1.0
    assert result.steps["x"].ended_seconds == 2.0
    assert result.steps["y"].started_seconds == 3.0
    assert result.total_time_seconds == 5.0


@st.composite
def runs(draw: st.DrawFn) -> tuple[Workflow, frozenset[str], list[int]]:
    count = draw(st.integers(1, 9))
    steps = [
        Step(
            step_id=str(n),
            agent_name="x",
            dependencies=tuple(
                dict.fromkeys(str(d) for d in draw(st.lists(st.integers(0, n - 1), max_size=3)))
            )
            if n
            else (),
        )
        for n in range(count)
    ]
    order = tuple(draw(st.permutations(steps)))
    bad = draw(st.frozensets(st.sampled_from([step.step_id for step in steps]), max_size=2))
    return (
        Workflow(name="w", steps=order),
        bad,
        draw(st.lists(st.integers(0, 4), min_size=9, max_size=9)),
    )


@settings(deadline=None)
@given(runs())
def test_parallel_run_equals_a_sequential_one_whatever_takes_how_long(
    case: tuple[Workflow, frozenset[str], list[int]],
) -> None:
    workflow, bad, turns = case
    ran: list[str] = []

    async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
        ran.append(step.step_id)
        assert tuple(answers) == step.dependencies
        for _ in range(turns[int(step.step_id)]):
            await asyncio.sleep(0)
        if step.step_id in bad:
            raise ServiceError("down")
        return await say(step, answers)

    parallel = run(workflow, runner)
    assert len(ran) == len(set(ran))
    assert set(ran) == {name for name, state in states(parallel).items() if state != "skipped"}
    sequential = run(workflow, runner, sequential=True)
    assert parallel.results == sequential.results
    assert states(parallel) == states(sequential)
    assert parallel.execution_order == sequential.execution_order
    place = {step_id: number for number, step_id in enumerate(parallel.execution_order)}
    for step in workflow.steps:
        for dependency in step.dependencies:
            if step.step_id in place:
                assert place[dependency] < place[step.step_id]


def test_chain_of_2000_steps_runs() -> None:
    entries: list[dict[str, object]] = [{"id": "s0", "agent": "x"}]
    entries += [{"id": f"s{n}", "agent": "x", "needs": [f"s{n - 1}"]} for n in range(1, 2_000)]
    workflow = parse_workflow("chain", {"steps": entries})

    async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
        return answer(step.step_id)

    result = run(workflow, runner)
    assert result.ok
    assert result.execution_order == tuple(f"s{n}" for n in range(2_000))


def seconds_for_a_fan_out(count: int) -> float:
    entries: list[dict[str, object]] = [{"id": f"s{n}", "agent": "x"} for n in range(count)]
    entries.append({"id": "end", "agent": "x", "needs": [f"s{n}" for n in range(count)]})
    workflow = parse_workflow("wide", {"steps": entries})

    async def main() -> None:
        turn = asyncio.Semaphore(1)

        async def runner(step: Step, answers: Mapping[str, AgentResult]) -> AgentResult:
            # One step ends in each turn of the loop: the case in which a scan of all running steps is quadratic.
            async with turn:
                await asyncio.sleep(0)
            return answer(str(len(answers)))

        result = await execute(workflow, runner)
        assert result.results["end"] == str(count)

    best = 1e9
    for _ in range(2):
        began = time.process_time()
        asyncio.run(main())
        best = min(best, time.process_time() - began)
    return best


def test_fan_out_of_2000_steps_that_end_one_by_one_takes_linear_time() -> None:
    # Ten times the steps: ten times the time when linear, a hundred times when quadratic.
    assert seconds_for_a_fan_out(2_000) < 40 * seconds_for_a_fan_out(200)
