"""What keeps a workflow from running: all of it at once, each with its place and a hint."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import WorkflowDefinitionError
from claude_force.workflows.templates import (
    expression_references,
    is_template,
    template_references,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from claude_force.workflows.definition import Step, Workflow
    from claude_force.workflows.templates import References

# Names that every template sees.
_ALWAYS: Final = frozenset({"task", "steps", "range"})
_OF_ITEMS: Final = frozenset({"item", "item_index"})
_OF_ROUNDS: Final = frozenset({"round", "previous"})


def problems_of(
    workflow: Workflow, *, agent_problem: Callable[[str], str | None] | None = None
) -> list[str]:
    """Everything that keeps ``workflow`` from running; empty if it can.

    Args:
        workflow: what is to run.
        agent_problem: says what is wrong with an agent's name, or None; asked once for each name.
    """
    steps = workflow.steps
    problems = _graph_problems(steps)
    known = {step.step_id: step for step in steps}
    # Where the graph itself is wrong, nothing can be said about what ends before what.
    in_order = not problems
    for step in steps:
        found = [*_own_problems(step), *_text_problems(step, known, in_order=in_order)]
        problems += [f"step {step.step_id!r}: {problem}" for problem in found]
    if agent_problem is not None:
        problems += _agent_problems(steps, agent_problem)
    return problems


def find_cycles(steps: Sequence[Step]) -> list[list[str]]:
    """Cycles of the graph, each as a path that ends where it begins.

    No step is in two of them, and a graph without them has none. Dependencies that are no steps count for nothing.
    """
    dependencies = {step.step_id: step.dependencies for step in steps}
    found: list[list[str]] = []
    done: set[str] = set()
    for start, first in dependencies.items():
        # Depth first without recursion: a definition may be a chain of thousands of steps.
        stack = [(start, iter(first))] if start not in done else []
        # Steps on the way here, with where they stand on it.
        path = {start: 0}
        while stack:
            step_id, rest = stack[-1]
            following = next((one for one in rest if one in dependencies and one not in done), None)
            if following is None or step_id in done:
                stack.pop()
                path.pop(step_id)
                done.add(step_id)
            elif following in path:
                cycle = list(path)[path[following] :]
                found.append([*cycle, following])
                # What waits for a step of this cycle is explained by it.
                done.update(cycle)
            else:
                stack.append((following, iter(dependencies[following])))
                path[following] = len(path)
    return found


def did_you_mean(name: str, known: Collection[str]) -> str:
    """A hint at the known name that is nearest; empty if none is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _graph_problems(steps: Sequence[Step]) -> list[str]:
    if not steps:
        return ["it has no steps"]
    ids = Counter(step.step_id for step in steps)
    problems = [f"step {twice!r}: the id is used twice" for twice in sorted(ids) if ids[twice] > 1]
    for step in steps:
        for dependency in step.dependencies:
            if dependency not in ids:
                hint = did_you_mean(dependency, ids)
                problems.append(
                    f"step {step.step_id!r}: depends on {dependency!r}, which is no step{hint}"
                )
    return problems + [
        f"the steps wait for each other: {' -> '.join(cycle)}" for cycle in find_cycles(steps)
    ]


def _own_problems(step: Step) -> Iterator[str]:
    """Fields that do not go together, and a schema that is none."""
    if step.max_rounds is not None and step.repeat_until is None:
        yield "max_rounds: bounds a loop, and there is no repeat_until"
    if step.repeat_until is not None and step.max_rounds is None:
        yield "repeat_until: needs max_rounds, from 1 to 20, or it might never end"
    if step.max_parallel is not None and step.for_each is None:
        yield "max_parallel: bounds a fan-out, and there is no for_each"
    if step.batch and step.timeout_seconds is not None:
        yield "timeout_seconds: bounds calls that are sent at once, and a batch may take a day; leave one of them out"
    if step.for_each is not None and step.for_each.step is not None:
        source = step.for_each.step
        if source not in step.dependencies:
            yield f"for_each: {source!r} is not among its dependencies{did_you_mean(source, step.dependencies)}"
    if step.output_schema is not None:
        yield from _schema_problems(step.output_schema)


def _schema_problems(schema: str) -> Iterator[str]:
    import json  # noqa: PLC0415 - few steps have a schema

    from jsonschema import Draft202012Validator  # noqa: PLC0415 - as above: 0.1 s
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415 - as above

    try:
        Draft202012Validator.check_schema(json.loads(schema))
    except SchemaError as error:
        yield f"output_schema: {error.message} (at {error.json_path})"


def _text_problems(step: Step, steps: Mapping[str, Step], *, in_order: bool) -> Iterator[str]:
    """Templates and expressions that cannot be read, or use what is not there."""
    of_items = _OF_ITEMS if step.for_each is not None else frozenset()
    of_rounds = _OF_ROUNDS if step.repeat_until is not None else frozenset()
    texts: list[tuple[str, str | None, frozenset[str], Callable[[str], References]]] = [
        ("when", step.when, frozenset(), expression_references),
        (
            "repeat_until",
            step.repeat_until,
            of_items | of_rounds | {"answer"},
            expression_references,
        ),
    ]
    if step.task is not None and is_template(step.task):
        texts.append(("task", step.task, of_items | of_rounds, template_references))
    for field, text, more, references in texts:
        if text is None:
            continue
        try:
            used = references(text)
        except WorkflowDefinitionError as error:
            yield f"{field}: {error}"
            continue
        yield from _name_problems(field, used, _ALWAYS | more)
        for step_id in sorted(used.steps - steps.keys()):
            yield f"{field}: {step_id!r} is no step{did_you_mean(step_id, steps)}"
        for step_id in sorted(used.data):
            if step_id in steps and steps[step_id].output_schema is None:
                yield f"{field}: uses the data of {step_id!r}, which needs an output_schema for it"
        if in_order:
            for step_id in sorted(used.steps & steps.keys() - _all_before(step, steps)):
                yield f"{field}: uses {step_id!r}, which does not end before it; add it to the dependencies"


def _name_problems(field: str, used: References, known: frozenset[str]) -> Iterator[str]:
    for name in sorted(used.names - known):
        if name in _OF_ITEMS:
            hint = "; it is there in a step with for_each"
        elif name in _OF_ROUNDS:
            hint = "; it is there in a step with repeat_until"
        else:
            hint = did_you_mean(name, known) or f"; there are {', '.join(sorted(known))}"
        yield f"{field}: nothing is called {name!r} here{hint}"


def _all_before(step: Step, steps: Mapping[str, Step]) -> set[str]:
    """Every step that has ended when ``step`` starts."""
    found: set[str] = set()
    front = list(step.dependencies)
    while front:
        step_id = front.pop()
        if step_id not in found and step_id in steps:
            found.add(step_id)
            front.extend(steps[step_id].dependencies)
    return found


def _agent_problems(steps: Sequence[Step], agent_problem: Callable[[str], str | None]) -> list[str]:
    verdicts = {
        name: agent_problem(name)
        for name in dict.fromkeys(step.agent_name for step in steps)
        if name
    }
    return [
        f"step {step.step_id!r}: {verdict}"
        for step in steps
        if (verdict := verdicts.get(step.agent_name)) is not None
    ]
