from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from claude_force.workflows.definition import OnError, Step, Workflow
from claude_force.workflows.graph import GraphState, StepGraph

END = ("succeeded", "failed", "skipped")


def workflow(edges: list[list[int]], on_error: list[OnError] | None = None) -> Workflow:
    return Workflow(
        name="w",
        steps=tuple(
            Step(
                step_id=str(n),
                agent_name="a",
                dependencies=tuple(str(d) for d in before),
                on_error=on_error[n] if on_error else "fail",
            )
            for n, before in enumerate(edges)
        ),
    )


@st.composite
def graphs(draw: st.DrawFn) -> Workflow:
    """Graphs without cycles: a step depends on earlier ones only, then the order is shuffled."""
    count = draw(st.integers(1, 12))
    edges = [draw(st.lists(st.integers(0, n - 1), max_size=4)) if n else [] for n in range(count)]
    kinds: list[OnError] = ["fail", "skip", "continue"]
    on_error = draw(st.lists(st.sampled_from(kinds), min_size=count, max_size=count))
    made = workflow(edges, on_error)
    return Workflow(name="w", steps=tuple(draw(st.permutations(made.steps))))


def expected(graph: Workflow, own: dict[str, str]) -> dict[str, str]:
    """How every step ends, worked out from the rules one step after the other, in place of the state machine."""
    steps = {step.step_id: step for step in graph.steps}
    states: dict[str, str] = {}
    for step_id in (step.step_id for step in StepGraph(graph).in_order()):
        step = steps[step_id]
        held_up = False
        for dependency in step.dependencies:
            if states[dependency] == "succeeded" or steps[dependency].on_error == "continue":
                continue
            if states[dependency] == "skipped" and step.on_error == "continue":
                continue
            held_up = True
        states[step_id] = "skipped" if held_up else own[step_id]
    return states


@given(graphs(), st.data())
def test_every_step_ends_once_in_the_state_that_the_rules_give_it(
    graph: Workflow, data: st.DataObject
) -> None:
    own = {step.step_id: data.draw(st.sampled_from(END)) for step in graph.steps}
    names = [step.step_id for step in graph.steps]
    dependencies = {step.step_id: set(step.dependencies) for step in graph.steps}
    state = GraphState(StepGraph(graph))
    ready = state.first()
    started: list[str] = [names[position] for position in ready]
    ended: dict[str, str] = {}
    while ready:
        position = ready.pop(data.draw(st.integers(0, len(ready) - 1)))
        how = own[names[position]]
        ended[names[position]] = how
        if how == "succeeded":
            released = state.succeed(position)
        else:
            more = state.fail(position) if how == "failed" else state.skip(position)
            released = more.ready
            for skip in more.skipped:
                assert names[skip.position] not in started
                assert names[skip.position] not in ended
                ended[names[skip.position]] = "skipped"
                assert skip.cause == position
        for one in released:
            assert dependencies[names[one]] <= ended.keys()
        ready += released
        started += [names[one] for one in released]
    assert len(started) == len(set(started))
    assert ended == expected(graph, own)
    assert state.unfinished == 0


@given(graphs())
def test_the_order_has_every_step_after_its_dependencies(graph: Workflow) -> None:
    order = [step.step_id for step in StepGraph(graph).in_order()]
    place = {step_id: number for number, step_id in enumerate(order)}
    assert len(order) == len(graph.steps)
    for step in graph.steps:
        assert all(place[dependency] < place[step.step_id] for dependency in step.dependencies)


def test_a_step_that_continues_lets_those_behind_it_run_although_it_failed() -> None:
    state = GraphState(StepGraph(workflow([[], [0]], ["continue", "fail"])))
    assert state.fail(0) == ([1], [])


def test_a_step_that_continues_runs_without_a_dependency_that_was_skipped_but_not_without_one_that_failed() -> (
    None
):
    edges: list[list[int]] = [[], [0], [1]]
    skipped = GraphState(StepGraph(workflow(edges, ["fail", "continue", "fail"])))
    assert skipped.skip(0) == ([1], [])
    failed = GraphState(StepGraph(workflow(edges, ["fail", "continue", "fail"])))
    # The step itself is skipped, and lets the one behind it through.
    assert failed.fail(0) == ([2], [(1, 0)])


def test_chain_of_2000_steps_fails_as_a_whole_without_recursion() -> None:
    state = GraphState(StepGraph(workflow([[n - 1] if n else [] for n in range(2_000)])))
    assert len(state.fail(0).skipped) == 1_999
    assert state.unfinished == 0
