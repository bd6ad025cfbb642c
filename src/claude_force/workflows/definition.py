"""A workflow as it is written, checked whole: every problem with its place, before anything is spent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

from claude_force.domain.errors import WorkflowDefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from claude_force.domain.messages import Effort

_STEP_KEYS: Final = frozenset(
    {"id", "agent", "task", "dependencies", "needs", "model", "max_tokens", "effort"}
)
_WORKFLOW_KEYS: Final = frozenset({"name", "description", "steps"})
_EFFORTS: Final = ("low", "medium", "high", "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call of one agent within a workflow."""

    step_id: str
    agent_name: str
    # What the agent is asked, beside the workflow's task; None asks it the workflow's task alone.
    task: str | None = None
    # Steps whose answers it gets; it starts the moment the last of them ends.
    dependencies: tuple[str, ...] = ()
    model: str | None = None
    max_tokens: int | None = None
    effort: Effort | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A graph of steps without cycles; ``steps`` keep the order of the definition."""

    name: str
    steps: tuple[Step, ...]
    description: str = ""

    @property
    def final_steps(self) -> tuple[str, ...]:
        """Steps that no other step depends on."""
        needed = {dependency for step in self.steps for dependency in step.dependencies}
        return tuple(step.step_id for step in self.steps if step.step_id not in needed)


def parse_workflow(
    name: str, definition: object, *, agent_problem: Callable[[str], str | None] | None = None
) -> Workflow:
    """The workflow that ``definition`` describes.

    Args:
        name: what it is called; a ``name`` inside the definition is for readers only.
        definition: a list of agent names, which run in that order and each see what came before, or a mapping with
            ``steps``.
        agent_problem: says what is wrong with an agent's name, or None; asked once for each name.

    Raises:
        WorkflowDefinitionError: ``problems`` has every one that was found.
    """
    problems: list[str] = []
    steps, description = _read(definition, problems)
    if not problems or steps:
        problems += _graph_problems(steps)
    if agent_problem is not None:
        problems += _agent_problems(steps, agent_problem)
    _refuse(name, problems)
    return Workflow(name=name, steps=tuple(steps), description=description)


def check_workflow(
    workflow: Workflow, *, agent_problem: Callable[[str], str | None] | None = None
) -> None:
    """Passes when a workflow that was built in Python can run; the arguments are those of `parse_workflow`.

    Raises:
        WorkflowDefinitionError: ``problems`` has every one that was found.
    """
    problems = _graph_problems(workflow.steps)
    if agent_problem is not None:
        problems += _agent_problems(workflow.steps, agent_problem)
    _refuse(workflow.name, problems)


def _refuse(name: str, problems: list[str]) -> None:
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise WorkflowDefinitionError(f"The workflow {name!r} cannot run:\n{lines}", problems)


def _read(definition: object, problems: list[str]) -> tuple[list[Step], str]:
    """Steps and description."""
    if isinstance(definition, dict):
        return _steps(definition, problems), str(definition.get("description") or "")
    if isinstance(definition, list) and all(isinstance(item, str) for item in definition):
        problems += [
            f"it has an agent without a name at position {position}"
            for position, agent in enumerate(definition)
            if not agent
        ]
        return ([] if problems else _chain(definition)), ""
    problems.append('it has to be a list of agent names, or an object with "steps"')
    return [], ""


def _chain(agents: list[str]) -> list[Step]:
    ids: dict[str, None] = {}
    times: dict[str, int] = {}
    for agent in agents:
        step_id = agent
        while step_id in ids:
            times[agent] = times.get(agent, 1) + 1
            step_id = f"{agent}-{times[agent]}"
        ids[step_id] = None
    names = tuple(ids)
    return [
        Step(step_id=step_id, agent_name=agent, dependencies=names[:position])
        for position, (step_id, agent) in enumerate(zip(names, agents, strict=True))
    ]


def _steps(definition: Mapping[str, object], problems: list[str]) -> list[Step]:
    problems += [
        _unknown_key("", key, _WORKFLOW_KEYS) for key in definition if key not in _WORKFLOW_KEYS
    ]
    problems += [
        f"{key}: expected text, found {definition[key]!r}"
        for key in ("name", "description")
        if definition.get(key) is not None and not isinstance(definition[key], str)
    ]
    written = definition.get("steps")
    if not isinstance(written, list):
        problems.append("steps: expected a list of steps")
        return []
    return [
        step
        for position, entry in enumerate(written)
        if (step := _step(f"steps[{position}]", entry, problems)) is not None
    ]


def _step(place: str, entry: object, problems: list[str]) -> Step | None:
    """One step. One with problems is kept as far as others can refer to it, so that theirs are found too."""
    if not isinstance(entry, dict):
        problems.append(f"{place}: expected an object with id and agent, found {entry!r}")
        return None
    problems += [
        _unknown_key(f"{place}.", key, _STEP_KEYS) for key in entry if key not in _STEP_KEYS
    ]
    problems += _bad_values(place, entry)
    values = cast("dict[str, Any]", entry)
    agent_name, step_id = values.get("agent"), values.get("id") or values.get("agent")
    dependencies = values.get("dependencies") or values.get("needs")
    return Step(
        step_id=step_id if isinstance(step_id, str) else place,
        agent_name=agent_name if isinstance(agent_name, str) else "",
        task=values.get("task"),
        dependencies=tuple(dict.fromkeys(dependencies)) if _is_list_of_text(dependencies) else (),
        model=values.get("model"),
        max_tokens=values.get("max_tokens"),
        effort=values.get("effort"),
    )


def _unknown_key(place: str, key: str, known: frozenset[str]) -> str:
    near = _did_you_mean(key, known)
    return f"{place}{key}: nothing reads this key{near or '.'} Known are {', '.join(sorted(known))}"


def _is_list_of_text(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _bad_values(place: str, entry: Mapping[str, object]) -> list[str]:
    problems = []
    if not isinstance(entry.get("agent"), str) or not entry["agent"]:
        problems.append(
            f"{place}.agent: expected the name of an agent, found {entry.get('agent')!r}"
        )
    problems += [
        f"{place}.{key}: expected text, found {entry[key]!r}"
        for key in ("id", "task", "model")
        if entry.get(key) is not None and not isinstance(entry[key], str)
    ]
    problems += [
        f"{place}.{key}: expected a list of step ids, found {entry[key]!r}"
        for key in ("dependencies", "needs")
        if key in entry and not _is_list_of_text(entry[key])
    ]
    if "dependencies" in entry and "needs" in entry:
        problems.append(f"{place}.needs: the same as dependencies; keep one of them")
    tokens = entry.get("max_tokens")
    if tokens is not None and (
        isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1
    ):
        problems.append(
            f"{place}.max_tokens: expected a whole number of 1 or more, found {tokens!r}"
        )
    if entry.get("effort") not in (None, *_EFFORTS):
        problems.append(
            f"{place}.effort: expected one of {', '.join(_EFFORTS)}, found {entry['effort']!r}"
        )
    return problems


def _graph_problems(steps: Sequence[Step]) -> list[str]:
    if not steps:
        return ["it has no steps"]
    ids = Counter(step.step_id for step in steps)
    problems = [f"step {twice!r}: the id is used twice" for twice in sorted(ids) if ids[twice] > 1]
    for step in steps:
        for dependency in step.dependencies:
            if dependency not in ids:
                hint = _did_you_mean(dependency, ids)
                problems.append(
                    f"step {step.step_id!r}: depends on {dependency!r}, which is no step{hint}"
                )
    if not problems and (cycle := find_cycle(steps)):
        problems.append(f"the steps wait for each other: {' -> '.join(cycle)}")
    return problems


def find_cycle(steps: Sequence[Step]) -> list[str]:
    """One cycle of the graph as a path that ends where it begins; empty if there is none."""
    dependencies = {step.step_id: step.dependencies for step in steps}
    done: set[str] = set()
    for start, first in dependencies.items():
        # Depth first without recursion: a definition may be a chain of thousands of steps.
        stack = [(start, iter(first))] if start not in done else []
        on_path = {start}
        path = [start]
        while stack:
            step_id, rest = stack[-1]
            following = next((item for item in rest if item not in done), None)
            if following is None:
                stack.pop()
                path.pop()
                on_path.discard(step_id)
                done.add(step_id)
            elif following in on_path:
                return [*path[path.index(following) :], following]
            else:
                stack.append((following, iter(dependencies[following])))
                path.append(following)
                on_path.add(following)
    return []


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


def _did_you_mean(name: str, known: Collection[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
