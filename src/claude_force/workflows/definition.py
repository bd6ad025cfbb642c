"""A workflow as it is written, checked whole: every problem with its place, before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from claude_force.domain.errors import WorkflowDefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

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
    if isinstance(definition, list) and all(isinstance(item, str) for item in definition):
        steps, description = _chain(definition), ""
    elif isinstance(definition, dict):
        steps, description = _steps(definition, problems), str(definition.get("description", ""))
    else:
        steps, description = [], ""
        problems.append('it has to be a list of agent names, or an object with "steps"')
    if not steps and not problems:
        problems.append("it has no steps")
    problems += _graph_problems(steps)
    if agent_problem is not None:
        problems += _agent_problems(steps, agent_problem)
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise WorkflowDefinitionError(f"The workflow {name!r} cannot run:\n{lines}", problems)
    return Workflow(name=name, steps=tuple(steps), description=description)


def _chain(agents: list[str]) -> list[Step]:
    ids: list[str] = []
    for agent in agents:
        seen = sum(1 for earlier in agents[: len(ids)] if earlier == agent)
        ids.append(f"{agent}-{seen + 1}" if seen else agent)
    return [
        Step(step_id=step_id, agent_name=agent, dependencies=tuple(ids[:position]))
        for position, (step_id, agent) in enumerate(zip(ids, agents, strict=True))
    ]


def _steps(definition: Mapping[str, object], problems: list[str]) -> list[Step]:
    problems += [
        f"{key}: nothing reads this key; known are {', '.join(sorted(_WORKFLOW_KEYS))}"
        for key in definition
        if key not in _WORKFLOW_KEYS
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
    if not isinstance(entry, dict):
        problems.append(f"{place}: expected an object with id and agent")
        return None
    found = [*_unknown_keys(place, entry), *_bad_values(place, entry)]
    problems += found
    if found:
        return None
    values = cast("dict[str, Any]", entry)
    return Step(
        step_id=values.get("id") or values["agent"],
        agent_name=values["agent"],
        task=values.get("task"),
        dependencies=tuple(values.get("dependencies") or values.get("needs") or ()),
        model=values.get("model"),
        max_tokens=values.get("max_tokens"),
        effort=values.get("effort"),
    )


def _unknown_keys(place: str, entry: Mapping[str, object]) -> list[str]:
    return [
        f"{place}.{key}: nothing reads this key; known are {', '.join(sorted(_STEP_KEYS))}"
        for key in entry
        if key not in _STEP_KEYS
    ]


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
    for key in ("dependencies", "needs"):
        value = entry.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            problems.append(f"{place}.{key}: expected a list of step ids, found {value!r}")
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


def _graph_problems(steps: list[Step]) -> list[str]:
    problems = []
    ids = [step.step_id for step in steps]
    problems += [
        f"step {twice!r}: the id is used twice"
        for twice in sorted({i for i in ids if ids.count(i) > 1})
    ]
    known = set(ids)
    for step in steps:
        for dependency in step.dependencies:
            if dependency not in known:
                hint = _did_you_mean(dependency, known)
                problems.append(
                    f"step {step.step_id!r}: depends on {dependency!r}, which is no step{hint}"
                )
    if not problems and (cycle := find_cycle(steps)):
        problems.append(f"the steps wait for each other: {' -> '.join(cycle)}")
    return problems


def find_cycle(steps: list[Step]) -> list[str]:
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


def _agent_problems(steps: list[Step], agent_problem: Callable[[str], str | None]) -> list[str]:
    verdicts = {
        name: agent_problem(name) for name in dict.fromkeys(step.agent_name for step in steps)
    }
    return [
        f"step {step.step_id!r}: {verdict}"
        for step in steps
        if (verdict := verdicts[step.agent_name]) is not None
    ]


def _did_you_mean(name: str, known: Collection[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
