from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import (
    Attachment,
    BudgetExceededError,
    CallFinished,
    CallStarted,
    CallTimeoutError,
    Event,
    IncompleteAnswerError,
    SpendLimitError,
    Step,
    StepFinished,
    TaskError,
    Workflow,
    WorkflowDefinitionError,
    WorkflowResult,
)
from claude_force.simulator import Fault, FaultKind, Latency, Scenario, SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import MakeAsync, MakeBlocking, Project

REVIEW: dict[str, Any] = {
    "steps": [
        {"id": "code", "agent": "alpha", "task": "Read it"},
        {"id": "tests", "agent": "beta", "task": "Test it"},
        {"id": "verdict", "agent": "gamma", "task": "Judge it", "needs": ["code", "tests"]},
    ]
}


def run(make_force: MakeAsync, workflow: Any, task: str = "Look", **options: Any) -> WorkflowResult:
    async def main() -> WorkflowResult:
        async with make_force() as force:
            return await force.execute_workflow(workflow, task, **options)

    return asyncio.run(main())


def sent_to(simulator: SimulatorThread, agent: str) -> str:
    """The user message of the request of one agent."""
    (text,) = [
        "".join(block["text"] for block in request.body["messages"][0]["content"])
        for request in simulator.requests
        if request.body["system"][0]["text"] == f"You are {agent}."
    ]
    return text


def test_workflow_of_the_configuration_is_run_by_name(
    make_force: MakeAsync, project: Project, simulator: SimulatorThread
) -> None:
    project.config(workflows={"review": REVIEW, "quick": ["alpha", "beta"]})
    result = run(make_force, "review")
    assert result.ok
    assert result.workflow_name == "review"
    assert result.execution_order == ("code", "tests", "verdict")
    assert result.results.keys() == {"code", "tests", "verdict"}
    assert result.text == result.results["verdict"]
    assert result.total_time_seconds > 0
    assert result.usage == simulator.stats.usage
    assert result.cost_usd == sum(step.cost_usd or 0 for step in result.steps.values())
    assert run(make_force, "quick").execution_order == ("alpha", "beta")


def test_each_step_is_asked_its_own_task_with_what_came_before(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    files = (Attachment("src/app.py", "print('app')"),)
    result = run(make_force, REVIEW, "Before the release", files=files)
    code = sent_to(simulator, "alpha")
    verdict = sent_to(simulator, "gamma")
    assert "Read it\n\nBefore the release" in code
    assert "print('app')" in code
    assert "Judge it\n\nBefore the release" in verdict
    assert "print('app')" in verdict
    for step in ("code", "tests"):
        assert f'from="{step}"' in verdict
        assert result.results[step] in verdict
        assert f'from="{step}"' not in code


def test_list_is_a_chain_in_which_each_sees_all_before(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    run(make_force, ["alpha", "beta", "gamma"])
    assert 'from="alpha"' in sent_to(simulator, "beta")
    assert 'from="alpha"' in sent_to(simulator, "gamma")
    assert 'from="beta"' in sent_to(simulator, "gamma")


def test_sequential_run_gives_the_same_results(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.use_scenario(
        Scenario(latency=Latency(first_event_median_seconds=0.02, distribution="lognormal"))
    )
    parallel = run(make_force, REVIEW, cache=_no_cache())
    assert simulator.stats.max_concurrent_requests == 2
    simulator.reset()
    sequential = run(make_force, REVIEW, sequential=True, cache=_no_cache())
    assert simulator.stats.max_concurrent_requests == 1
    assert sequential.results == parallel.results
    assert sequential.execution_order == parallel.execution_order


def _no_cache() -> Any:
    from claude_force import NO_CACHE

    return NO_CACHE


def test_all_problems_are_reported_before_anything_is_sent(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    broken = {
        "steps": [
            {"id": "a", "agent": "alpah"},
            {"id": "b", "agent": "al/pha", "needs": ["aa"]},
            {"id": "b", "agent": "beta", "effort": "giant"},
        ]
    }
    with pytest.raises(WorkflowDefinitionError) as caught:
        run(make_force, broken)
    problems = caught.value.problems
    assert len(problems) == 5
    assert "Did you mean 'alpha'?" in str(caught.value)
    assert "Invalid agent name: 'al/pha'" in str(caught.value)
    assert "depends on 'aa', which is no step; did you mean 'a'?" in str(caught.value)
    assert simulator.stats.requests == 0


def test_workflow_that_is_built_in_python_runs_and_is_checked(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    good = Workflow(name="mine", steps=(Step(step_id="only", agent_name="alpha"),))
    assert run(make_force, good).workflow_name == "mine"
    loop = Workflow(name="mine", steps=(Step(step_id="a", agent_name="x", dependencies=("a",)),))
    with pytest.raises(WorkflowDefinitionError) as caught:
        run(make_force, loop)
    assert len(caught.value.problems) == 2
    assert simulator.stats.requests == 1


def test_step_without_any_task_is_refused_before_another_is_paid(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    steps = [{"id": "a", "agent": "alpha", "task": "x"}, {"id": "b", "agent": "beta"}]
    with pytest.raises(TaskError, match="The task is empty"):
        run(make_force, {"steps": steps}, "")
    assert simulator.stats.requests == 0


def test_incomplete_answer_fails_its_step_and_reaches_no_other(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.MAX_TOKENS, match="Test it"))
    result = run(make_force, REVIEW)
    assert {step_id: step.state for step_id, step in result.steps.items()} == {
        "code": "succeeded",
        "tests": "failed",
        "verdict": "skipped",
    }
    assert not result.ok
    error = result.steps["tests"].error
    assert isinstance(error, IncompleteAnswerError)
    assert error.response.text
    assert result.results.keys() == {"code"}
    # What the unfinished answer cost is part of the bill.
    assert result.cost_usd == sum(step.cost_usd or 0 for step in result.steps.values())
    assert result.steps["tests"].cost_usd
    assert simulator.stats.requests == 2


def test_step_that_succeeds_after_a_retry_is_a_success(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.CUT, match="Read it"))
    result = run(make_force, REVIEW)
    assert result.ok
    code = result.steps["code"].result
    assert code is not None
    assert code.attempts == 2


def test_spend_cap_stops_a_wide_workflow(
    make_force: MakeAsync, simulator: SimulatorThread, tasks_sent: Callable[[], list[str]]
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.BILLING, match="part 5."))
    steps: list[dict[str, Any]] = [
        {"id": f"s{n}", "agent": "alpha", "task": f"part {n}."} for n in range(40)
    ]
    steps.append({"id": "end", "agent": "beta", "needs": [f"s{n}" for n in range(40)]})

    async def main() -> WorkflowResult:
        async with make_force(max_concurrent=2, enable_cache=False) as force:
            return await force.execute_workflow({"steps": steps}, "x")

    result = asyncio.run(main())
    states = {step_id: step.state for step_id, step in result.steps.items()}
    assert states["end"] == "skipped"
    assert isinstance(result.steps["s5"].error, SpendLimitError)
    position = tasks_sent().index("part 5.\n\nx")
    # The refused one, one beside it, and those that got a place before the refusal was read: two, or some more where the
    # machine is busy; 34 are left.
    assert simulator.stats.requests - position <= 12
    assert len(result.results) == simulator.stats.answers
    assert all(states[f"s{n}"] == "succeeded" for n in range(5))


def test_events_carry_the_run_and_the_step(make_force: MakeAsync) -> None:
    events: list[Event] = []
    result = run(make_force, REVIEW, on_event=events.append)
    calls = [event for event in events if isinstance(event, CallStarted)]
    assert {event.run_id for event in calls} == {result.run_id}
    assert sorted(event.step_id or "" for event in calls) == ["code", "tests", "verdict"]
    assert len([event for event in events if isinstance(event, CallFinished)]) == 3
    ended = [event.step.step_id for event in events if isinstance(event, StepFinished)]
    assert ended[-1] == "verdict"
    first = next(e for e in calls if e.step_id == "verdict")
    assert events.index(first) > max(
        events.index(e)
        for e in events
        if isinstance(e, StepFinished) and e.step.step_id in {"code", "tests"}
    )


def test_wide_workflow_of_500_real_calls_leaves_no_connection_behind(
    make_force: MakeAsync, simulator: SimulatorThread, until: Callable[[Any], None]
) -> None:
    simulator.use_scenario(Scenario(min_output_tokens=1, max_output_tokens=1))
    steps = [{"id": f"s{n}", "agent": "alpha", "task": f"part {n}"} for n in range(500)]
    assert run(make_force, {"steps": steps}, cache=_no_cache()).ok
    assert simulator.stats.answers == 500
    until(lambda: simulator.stats.open_connections == 0)


def test_model_effort_and_max_tokens_of_a_step_are_sent(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    step = {"id": "a", "agent": "alpha", "model": "haiku", "effort": "low", "max_tokens": 77}
    with make_blocking(enable_cache=False) as force:
        assert force.execute_workflow({"steps": [step]}, "x").ok
    (request,) = simulator.requests
    assert request.body["model"].startswith("claude-haiku-")
    assert request.body["max_tokens"] == 77
    assert request.body["output_config"]["effort"] == "low"


def test_a_step_without_the_cache_is_asked_each_time(
    make_blocking: MakeBlocking, tasks_sent: Callable[[], list[str]]
) -> None:
    steps = [
        {"id": "held", "agent": "alpha", "task": "held"},
        {"id": "fresh", "agent": "alpha", "task": "fresh", "cache": False},
    ]
    with make_blocking() as force:
        for _ in range(2):
            assert force.execute_workflow({"steps": steps}).ok
    assert sorted(tasks_sent()) == ["fresh", "fresh", "held"]


def test_the_deadline_of_a_step_fails_it_alone(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.STALL, match="hangs"))
    steps = [
        {"id": "hangs", "agent": "alpha", "task": "hangs", "timeout_seconds": 0.2},
        {"id": "beside", "agent": "beta", "task": "beside"},
    ]
    with make_blocking(enable_cache=False) as force:
        run = force.execute_workflow({"steps": steps})
    assert isinstance(run.steps["hangs"].error, CallTimeoutError)
    assert run.steps["beside"].state == "succeeded"


def test_the_budget_of_a_step_bounds_its_items_and_nothing_else(
    make_blocking: MakeBlocking,
) -> None:
    steps = [
        {
            "id": "bounded",
            "agent": "alpha",
            "task": "Look at {{ item }}.",
            "for_each": list(range(4)),
            "max_parallel": 1,
            "max_tokens": 1000,
            # One call reserves 1.1 cents and costs 0.2, so the last one does not fit any more.
            "budget_usd": "0.0155",
        },
        {"id": "beside", "agent": "beta", "task": "beside"},
        {"id": "behind", "agent": "beta", "task": "behind", "needs": ["beside"]},
    ]
    with make_blocking(enable_cache=False) as force:
        run = force.execute_workflow({"steps": steps})
    bounded = run.steps["bounded"]
    ended = [item.error is None for item in bounded.items]
    assert ended == sorted(ended, reverse=True)
    assert 0 < sum(ended) < 4
    assert isinstance(bounded.items[-1].error, BudgetExceededError)
    assert bounded.cost_usd is not None
    assert bounded.cost_usd <= Decimal("0.0155")
    assert run.steps["behind"].state == "succeeded"
