from __future__ import annotations

import time
from typing import Any

import pytest

from claude_force.domain.errors import WorkflowDefinitionError
from claude_force.workflows.definition import Step, Workflow
from claude_force.workflows.library import load_workflow
from claude_force.workflows.reading import check_workflow, parse_workflow

KNOWN_KEYS = {
    *(
        "agent",
        "batch",
        "budget_usd",
        "cache",
        "continue_truncated",
        "dependencies",
        "effort",
        "files",
    ),
    *("for_each", "id", "max_parallel", "max_rounds", "max_tokens", "model", "needs", "on_error"),
    *("output_schema", "repeat_until", "retries", "task", "timeout_seconds", "when"),
}


def problems_of(definition: object, **options: Any) -> tuple[str, ...]:
    with pytest.raises(WorkflowDefinitionError) as caught:
        parse_workflow("review", definition, **options)
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    assert str(caught.value).startswith("The workflow 'review' cannot run:\n")
    return caught.value.problems


def steps(*entries: object) -> dict[str, object]:
    return {"steps": list(entries)}


def only_alpha_exists(name: str) -> str | None:
    return None if name == "alpha" else f"Agent {name!r} not found."


def test_list_of_agents_is_a_chain_in_which_each_sees_all_before() -> None:
    workflow = parse_workflow("quick", ["lint", "security", "review"])
    assert workflow == Workflow(
        name="quick",
        steps=(
            Step(step_id="lint", agent_name="lint"),
            Step(step_id="security", agent_name="security", dependencies=("lint",)),
            Step(step_id="review", agent_name="review", dependencies=("lint", "security")),
        ),
    )
    assert workflow.final_steps == ("review",)


@pytest.mark.parametrize(
    ("agents", "ids"),
    [
        (["a", "a", "a"], ["a", "a-2", "a-3"]),
        (["a", "a-2", "a"], ["a", "a-2", "a-3"]),
        (["a-2", "a", "a"], ["a-2", "a", "a-3"]),
    ],
)
def test_agents_that_come_twice_in_a_chain_get_ids_of_their_own(
    agents: list[str], ids: list[str]
) -> None:
    assert [step.step_id for step in parse_workflow("w", agents).steps] == ids


def test_every_key_of_a_step_is_read() -> None:
    workflow = parse_workflow(
        "w",
        {
            "name": "For readers",
            "description": "Two steps",
            "steps": [
                {"id": "one", "agent": "alpha"},
                {
                    "id": "two",
                    "agent": "beta",
                    "task": "Do it",
                    "dependencies": ["one"],
                    "model": "haiku",
                    "max_tokens": 100,
                    "effort": "low",
                },
            ],
        },
    )
    assert workflow.name == "w"
    assert workflow.description == "Two steps"
    assert workflow.steps[1] == Step(
        step_id="two",
        agent_name="beta",
        task="Do it",
        dependencies=("one",),
        model="haiku",
        max_tokens=100,
        effort="low",
    )


def test_needs_is_the_same_as_dependencies() -> None:
    workflow = parse_workflow(
        "w", steps({"id": "a", "agent": "x"}, {"id": "b", "agent": "x", "needs": ["a"]})
    )
    assert workflow.steps[1].dependencies == ("a",)


def test_needs_beside_dependencies_is_refused_instead_of_dropped() -> None:
    assert problems_of(
        steps(
            {"id": "a", "agent": "x"},
            {"id": "b", "agent": "x", "dependencies": ["a"], "needs": ["a"]},
        )
    ) == ("steps[1].needs: the same as dependencies; keep one of them",)


def test_step_without_an_id_is_called_like_its_agent() -> None:
    assert parse_workflow("w", steps({"agent": "alpha"})).steps[0].step_id == "alpha"


def test_dependency_that_is_named_twice_counts_once() -> None:
    workflow = parse_workflow(
        "w", steps({"id": "a", "agent": "x"}, {"id": "b", "agent": "x", "needs": ["a", "a"]})
    )
    assert workflow.steps[1].dependencies == ("a",)


def test_all_problems_of_several_kinds_are_reported_at_once() -> None:
    found = problems_of(
        {
            "stesp": [],
            "description": 5,
            "steps": [
                {"id": "a", "agent": "alpha", "modle": "haiku"},
                {"id": "b", "agent": ""},
                {"id": 7, "agent": "alpha", "task": ["x"], "max_tokens": 0, "effort": "huge"},
                {"id": "d", "agent": "alpha", "dependencies": "a"},
                "beta",
                {"id": "lint", "agent": "missing"},
                {"id": "sum", "agent": "alpha", "dependencies": ["lnt"]},
                {"id": "sum", "agent": "alpha", "zzzzzz": 1},
            ],
        },
        agent_problem=only_alpha_exists,
    )
    assert found == (
        "stesp: nothing reads this key; did you mean 'steps'?",
        "description: expected text, found 5",
        "steps[0].modle: nothing reads this key; did you mean 'model'?",
        "steps[1].agent: expected the name of an agent, found ''",
        "steps[2].id: expected text, found 7",
        "steps[2].task: expected text, found ['x']",
        "steps[2].max_tokens: expected a whole number from 1 to 128,000, found 0",
        "steps[2].effort: expected one of low, medium, high, max, found 'huge'",
        "steps[3].dependencies: expected a list of step ids, found 'a'",
        "steps[4]: expected an object with id and agent, found 'beta'",
        f"steps[7].zzzzzz: nothing reads this key. Known are {', '.join(sorted(KNOWN_KEYS))}",
        "step 'sum': the id is used twice",
        "step 'sum': depends on 'lnt', which is no step; did you mean 'lint'?",
        "step 'lint': Agent 'missing' not found.",
    )


def test_step_that_is_wrong_itself_is_no_unknown_step_for_others() -> None:
    assert problems_of(
        steps(
            {"id": "a", "agent": "x", "max_tokens": "many"},
            {"id": "b", "agent": "x", "needs": ["a"]},
        )
    ) == ("steps[0].max_tokens: expected a whole number from 1 to 128,000, found 'many'",)


def test_cycle_is_shown_as_a_path() -> None:
    found = problems_of(
        steps(
            {"id": "start", "agent": "x"},
            {"id": "a", "agent": "x", "needs": ["start", "c"]},
            {"id": "b", "agent": "x", "needs": ["a"]},
            {"id": "c", "agent": "x", "needs": ["b"]},
        )
    )
    assert found == ("the steps wait for each other: a -> c -> b -> a",)


def test_every_cycle_is_shown_beside_what_else_is_wrong() -> None:
    found = problems_of(
        steps(
            {"id": "a", "agent": "x", "needs": ["b"]},
            {"id": "b", "agent": "x", "needs": ["a", "other"]},
            # Waits for the first cycle, and is in none itself.
            {"id": "behind", "agent": "x", "needs": ["a"]},
            {"id": "other", "agent": "x", "needs": ["a"]},
            {"id": "c", "agent": "x", "needs": ["d", "zzz"], "task": "{{ steps.non.text }}"},
            {"id": "d", "agent": "x", "needs": ["c"], "when": "steps.a.ok and"},
        )
    )
    assert found == (
        "step 'c': depends on 'zzz', which is no step",
        "the steps wait for each other: a -> b -> a",
        "the steps wait for each other: c -> d -> c",
        "step 'c': task: 'non' is no step",
        "step 'd': when: it ends too early",
    )


def test_data_of_a_step_without_a_schema_is_a_problem() -> None:
    found = problems_of(
        steps(
            {"id": "a", "agent": "x"},
            {"id": "b", "agent": "x", "output_schema": {}},
            {
                "id": "c",
                "agent": "x",
                "needs": ["a", "b"],
                "task": "{{ steps['a'].data.names }} {{ steps.b.data }} {{ steps.a.text }}",
            },
        )
    )
    assert found == ("step 'c': task: uses the data of 'a', which needs an output_schema for it",)


@pytest.mark.parametrize(
    ("field", "text", "problem"),
    [
        ("task", "{{ task", "it ends too early, expected '}}'"),
        ("task", "a\nb {% if task %}", "it ends too early. Jinja was looking for"),
        ("task", "a\nb {% if task %}", "(in line 2 of it)"),
        ("when", "task ==", "it ends too early"),
        ("when", "{{ task }}", "it is an expression, so it stands without '{{' and '}}'"),
        ("when", "tsk", "nothing is called 'tsk' here; did you mean 'task'?"),
    ],
)
def test_a_text_that_cannot_be_read_says_what_is_missing(
    field: str, text: str, problem: str
) -> None:
    (found,) = problems_of(steps({"id": "a", "agent": "x", field: text}))
    assert found.startswith(f"step 'a': {field}: ")
    assert problem in found


def test_step_that_waits_for_itself_is_a_cycle() -> None:
    assert problems_of(steps({"id": "a", "agent": "x", "needs": ["a"]})) == (
        "the steps wait for each other: a -> a",
    )


@pytest.mark.parametrize(
    ("definition", "problem"),
    [
        ([], "it has no steps"),
        ({"steps": []}, "it has no steps"),
        ({}, "steps: expected a list of steps"),
        ({"steps": {"a": 1}}, "steps: expected a list of steps"),
        ("alpha", 'it has to be a list of agent names, or an object with "steps"'),
        (None, 'it has to be a list of agent names, or an object with "steps"'),
        ([1, "alpha"], 'it has to be a list of agent names, or an object with "steps"'),
        ([""], "it has an agent without a name at position 0"),
    ],
)
def test_definition_of_another_form_is_refused(definition: object, problem: str) -> None:
    assert problems_of(definition) == (problem,)


def test_unknown_agents_of_a_chain_are_each_reported_once() -> None:
    assert problems_of(["x", "alpha", "x", "y"], agent_problem=only_alpha_exists) == (
        "step 'x': Agent 'x' not found.",
        "step 'x-2': Agent 'x' not found.",
        "step 'y': Agent 'y' not found.",
    )


def test_workflow_that_is_built_in_python_is_checked_like_a_written_one() -> None:
    looped = Workflow(
        name="built",
        steps=(
            Step(step_id="a", agent_name="alpha", dependencies=("b",)),
            Step(step_id="b", agent_name="alpha", dependencies=("a",)),
        ),
    )
    with pytest.raises(WorkflowDefinitionError, match="a -> b -> a"):
        check_workflow(looped)
    with pytest.raises(WorkflowDefinitionError, match="a -> b -> a"):
        load_workflow(looped, {}, only_alpha_exists)
    lost = Workflow(name="built", steps=(Step(step_id="a", agent_name="nobody"),))
    with pytest.raises(WorkflowDefinitionError, match="Agent 'nobody' not found"):
        load_workflow(lost, {}, only_alpha_exists)
    with pytest.raises(WorkflowDefinitionError, match="it has no steps"):
        check_workflow(Workflow(name="built", steps=()))


def test_chain_of_2000_steps_parses_without_recursion() -> None:
    entries: list[dict[str, object]] = [{"id": "s0", "agent": "alpha"}]
    entries += [{"id": f"s{n}", "agent": "alpha", "needs": [f"s{n - 1}"]} for n in range(1, 2_000)]
    # Written in reverse, so that a search that follows dependencies goes 2,000 deep at once.
    workflow = parse_workflow("long", steps(*reversed(entries)), agent_problem=only_alpha_exists)
    assert len(workflow.steps) == 2_000
    assert workflow.final_steps == ("s1999",)


def test_cycle_of_2000_steps_is_found() -> None:
    entries = [
        {"id": f"s{n}", "agent": "alpha", "needs": [f"s{(n - 1) % 2_000}"]} for n in range(2_000)
    ]
    (problem,) = problems_of(steps(*entries))
    assert problem.count(" -> ") == 2_000


def seconds_to_parse(count: int) -> float:
    entries = [{"id": f"s{n}", "agent": "alpha"} for n in range(count)]
    entries.append({"id": "end", "agent": "alpha", "needs": [f"s{n}" for n in range(count)]})  # type: ignore[dict-item] # JSON
    best = 1e9
    for _ in range(3):
        began = time.process_time()
        parse_workflow("wide", steps(*entries), agent_problem=only_alpha_exists)
        best = min(best, time.process_time() - began)
    return best


def test_ten_times_as_many_steps_take_far_less_than_a_hundred_times_as_long() -> None:
    assert seconds_to_parse(20_000) < 40 * seconds_to_parse(2_000)


KNOWN = {"review": ["alpha"], "release": ["alpha"]}


class TestLibrary:
    def test_name_is_looked_up(self) -> None:
        assert load_workflow("review", KNOWN, only_alpha_exists).name == "review"

    def test_unknown_name_gets_the_nearest_one_and_all_there_are(self) -> None:
        with pytest.raises(WorkflowDefinitionError) as caught:
            load_workflow("reviw", KNOWN, only_alpha_exists)
        assert str(caught.value) == (
            "Workflow 'reviw' not found. Did you mean 'review'? There are: release, review."
        )

    def test_unknown_name_where_there_are_none_names_the_command_that_writes_some(self) -> None:
        with pytest.raises(WorkflowDefinitionError, match="claude-force init"):
            load_workflow("review", {}, only_alpha_exists)

    def test_definition_in_place_of_a_name_is_taken(self) -> None:
        assert load_workflow(["alpha"], {}, only_alpha_exists).name == "workflow"
        assert load_workflow(("alpha",), {}, only_alpha_exists).name == "workflow"
        given = {"name": "mine", "steps": [{"agent": "alpha"}]}
        assert load_workflow(given, {}, only_alpha_exists).name == "mine"
