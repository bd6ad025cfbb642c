from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from claude_force.workflows.definition import Step, Workflow
from claude_force.workflows.graph import GraphState


def workflow(edges: list[list[int]]) -> Workflow:
    return Workflow(
        name="w",
        steps=tuple(
            Step(step_id=str(n), agent_name="a", dependencies=tuple(str(d) for d in before))
            for n, before in enumerate(edges)
        ),
    )


@st.composite
def graphs(draw: st.DrawFn) -> Workflow:
    """Graphs without cycles: a step depends on earlier ones only, then the order is shuffled."""
    count = draw(st.integers(1, 12))
    edges = [draw(st.lists(st.integers(0, n - 1), max_size=4)) if n else [] for n in range(count)]
    made = workflow(edges)
    return Workflow(name="w", steps=tuple(draw(st.permutations(made.steps))))


@given(graphs(), st.data())
def test_every_step_starts_at_most_once_after_its_dependencies_and_ends_in_one_state(
    graph: Workflow, data: st.DataObject
) -> None:
    state = GraphState.of(graph)
    dependencies = {step.step_id: set(step.dependencies) for step in graph.steps}
    ready = state.first()
    started: list[str] = list(ready)
    succeeded: set[str] = set()
    failed: set[str] = set()
    while ready:
        step_id = ready.pop(data.draw(st.integers(0, len(ready) - 1)))
        if data.draw(st.booleans()):
            succeeded.add(step_id)
            released = state.succeed(step_id)
            for one in released:
                assert dependencies[one] <= succeeded
            ready += released
            started += released
        else:
            failed.add(step_id)
            for lost in state.fail(step_id):
                assert state.skipped[lost] == step_id
                assert lost not in started
    skipped = set(state.skipped)
    assert len(started) == len(set(started))
    assert succeeded | failed == set(started)
    assert succeeded.isdisjoint(failed)
    assert skipped.isdisjoint(started)
    assert skipped | set(started) == set(dependencies)
    assert state.unfinished == 0


@given(graphs())
def test_exactly_what_is_behind_a_failure_is_skipped(graph: Workflow) -> None:
    for failing in graph.steps:
        state = GraphState.of(graph)
        behind = {failing.step_id}
        for _ in graph.steps:
            behind |= {step.step_id for step in graph.steps if behind & set(step.dependencies)}
        ready = state.first()
        while ready:
            step_id = ready.pop()
            if step_id == failing.step_id:
                state.fail(step_id)
            else:
                ready += state.succeed(step_id)
        assert set(state.skipped) == behind - {failing.step_id}


def test_chain_of_2000_steps_fails_as_a_whole_without_recursion() -> None:
    state = GraphState.of(workflow([[n - 1] if n else [] for n in range(2_000)]))
    assert len(state.fail("0")) == 1_999
    assert state.unfinished == 0
