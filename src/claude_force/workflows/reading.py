"""Reads a definition: every problem with its place, before anything is spent."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from claude_force.agents.prompts import MAX_OUTPUT_TOKENS
from claude_force.domain.errors import WorkflowDefinitionError
from claude_force.workflows.checking import did_you_mean, problems_of
from claude_force.workflows.definition import (
    MAX_LITERAL_ITEMS,
    MAX_ROUNDS,
    ON_ERROR,
    ForEach,
    Step,
    Workflow,
)
from claude_force.workflows.reading_ways import read_batch, read_continuations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_WORKFLOW_KEYS: Final = frozenset(
    {"name", "description", "steps", "timeout_seconds", "batch", "continue_truncated"}
)
_TEXTS: Final = ("id", "task", "model", "when", "repeat_until")
_STEP_KEYS: Final = frozenset(
    {
        *_TEXTS,
        *("agent", "dependencies", "needs", "for_each", "max_parallel", "max_rounds"),
        *("output_schema", "max_tokens", "effort", "timeout_seconds", "retries", "on_error"),
        *("files", "cache", "budget_usd", "batch", "continue_truncated"),
    }
)
_EFFORTS: Final = ("low", "medium", "high", "max")
_SOURCES: Final = ("lines", "step", "files")
# Whole numbers by name, with the least and the most.
_WHOLE: Final[dict[str, tuple[int, int | None]]] = {
    "max_tokens": (1, MAX_OUTPUT_TOKENS),
    "max_parallel": (1, None),
    "max_rounds": (1, MAX_ROUNDS),
    "retries": (0, 10),
}


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
    workflow = _read(name, definition, problems)
    if not problems or workflow.steps:
        problems += problems_of(workflow, agent_problem=agent_problem)
    _refuse(name, problems)
    return workflow


def check_workflow(
    workflow: Workflow, *, agent_problem: Callable[[str], str | None] | None = None
) -> None:
    """Passes when a workflow that was built in Python can run; the arguments are those of `parse_workflow`.

    Raises:
        WorkflowDefinitionError: ``problems`` has every one that was found.
    """
    problems: list[str] = []
    # Values of a wrong type are found in the same way as those of a file.
    _read(workflow.name, workflow.to_dict(), problems)
    _refuse(workflow.name, [*problems, *problems_of(workflow, agent_problem=agent_problem)])


def _refuse(name: str, problems: list[str]) -> None:
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise WorkflowDefinitionError(f"The workflow {name!r} cannot run:\n{lines}", problems)


def _read(name: str, definition: object, problems: list[str]) -> Workflow:
    if isinstance(definition, dict):
        return Workflow(
            name=name,
            steps=tuple(_steps(definition, problems)),
            description=str(definition.get("description") or ""),
            timeout_seconds=_positive("timeout_seconds", definition, problems),
            batch=read_batch(definition, problems),
            continue_truncated=read_continuations(definition, problems),
        )
    if isinstance(definition, list) and all(isinstance(item, str) for item in definition):
        problems += [
            f"it has an agent without a name at position {position}"
            for position, agent in enumerate(definition)
            if not agent
        ]
        return Workflow(name=name, steps=() if problems else _chain(definition))
    problems.append('it has to be a list of agent names, or an object with "steps"')
    return Workflow(name=name, steps=())


def _chain(agents: list[str]) -> tuple[Step, ...]:
    ids: dict[str, None] = {}
    times: dict[str, int] = {}
    for agent in agents:
        step_id = agent
        while step_id in ids:
            times[agent] = times.get(agent, 1) + 1
            step_id = f"{agent}-{times[agent]}"
        ids[step_id] = None
    names = tuple(ids)
    return tuple(
        Step(step_id=step_id, agent_name=agent, dependencies=names[:position])
        for position, (step_id, agent) in enumerate(zip(names, agents, strict=True))
    )


def _steps(definition: Mapping[str, object], problems: list[str]) -> list[Step]:
    problems += _unknown_keys("", definition, _WORKFLOW_KEYS)
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
    found: list[str] = _unknown_keys(f"{place}.", entry, _STEP_KEYS)
    texts = {key: _text(place, key, entry, found) for key in _TEXTS}
    numbers = {key: _whole(place, key, entry, found) for key in _WHOLE}
    agent_name = entry.get("agent")
    if not isinstance(agent_name, str) or not agent_name:
        found.append(f"{place}.agent: expected the name of an agent, found {agent_name!r}")
        agent_name = ""
    step = Step(
        step_id=texts["id"] or agent_name or place,
        agent_name=agent_name,
        task=texts["task"],
        dependencies=_dependencies(place, entry, found),
        when=texts["when"],
        for_each=_for_each(f"{place}.for_each", entry.get("for_each"), found),
        max_parallel=numbers["max_parallel"],
        repeat_until=texts["repeat_until"],
        max_rounds=numbers["max_rounds"],
        output_schema=_schema(place, entry.get("output_schema"), found),
        model=texts["model"],
        max_tokens=numbers["max_tokens"],
        effort=_one_of(place, "effort", entry, _EFFORTS, found),
        timeout_seconds=_positive("timeout_seconds", entry, found, place=f"{place}."),
        retries=numbers["retries"] or 0,
        on_error=_one_of(place, "on_error", entry, ON_ERROR, found) or "fail",
        files=_flag(place, "files", entry, found),
        cache=_flag(place, "cache", entry, found),
        batch=read_batch(entry, found, place=f"{place}."),
        continue_truncated=read_continuations(entry, found, place=f"{place}."),
        budget_usd=_dollars(place, entry.get("budget_usd"), found),
    )
    problems += found
    return step


def _unknown_keys(place: str, entry: Mapping[str, object], known: frozenset[str]) -> list[str]:
    all_known = ", ".join(sorted(known))
    return [
        f"{place}{key}: nothing reads this key{did_you_mean(str(key), known) or f'. Known are {all_known}'}"
        for key in entry
        if key not in known
    ]


def _text(place: str, key: str, entry: Mapping[str, object], problems: list[str]) -> str | None:
    value = entry.get(key)
    if value is None or isinstance(value, str):
        return value
    problems.append(f"{place}.{key}: expected text, found {value!r}")
    return None


def _whole(place: str, key: str, entry: Mapping[str, object], problems: list[str]) -> int | None:
    value = entry.get(key)
    if value is None:
        return None
    least, most = _WHOLE[key]
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < least
        or (most is not None and value > most)
    ):
        bounds = f"of {least} or more" if most is None else f"from {least} to {most:,}"
        problems.append(f"{place}.{key}: expected a whole number {bounds}, found {value!r}")
        return None
    return value


def _positive(
    key: str, entry: Mapping[str, object], problems: list[str], *, place: str = ""
) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        problems.append(f"{place}{key}: expected seconds above 0, found {value!r}")
        return None
    return value


def _dollars(place: str, value: object, problems: list[str]) -> Decimal | None:
    if value is None:
        return None
    dollars: Decimal | None = None
    if isinstance(value, int | float | str | Decimal) and not isinstance(value, bool):
        with suppress(InvalidOperation):
            dollars = Decimal(str(value))
    if dollars is None or not dollars.is_finite() or dollars < 0:
        problems.append(f"{place}.budget_usd: expected dollars such as 0.50, found {value!r}")
        return None
    return dollars


def _flag(place: str, key: str, entry: Mapping[str, object], problems: list[str]) -> bool:
    value = entry.get(key, True)
    if not isinstance(value, bool):
        problems.append(f"{place}.{key}: expected true or false, found {value!r}")
    return value is not False


def _one_of(
    place: str,
    key: str,
    entry: Mapping[str, object],
    allowed: tuple[str, ...],
    problems: list[str],
) -> Any:  # noqa: ANN401 - one of ``allowed``, which is what the field takes
    value = entry.get(key)
    if value is None or value in allowed:
        return value
    problems.append(f"{place}.{key}: expected one of {', '.join(allowed)}, found {value!r}")
    return None


def _dependencies(place: str, entry: Mapping[str, object], problems: list[str]) -> tuple[str, ...]:
    problems += [
        f"{place}.{key}: expected a list of step ids, found {entry[key]!r}"
        for key in ("dependencies", "needs")
        if entry.get(key) is not None and not _is_list_of_text(entry[key])
    ]
    if "dependencies" in entry and "needs" in entry:
        problems.append(f"{place}.needs: the same as dependencies; keep one of them")
    written = entry.get("dependencies") or entry.get("needs")
    return tuple(dict.fromkeys(written)) if _is_list_of_text(written) else ()


def _is_list_of_text(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _for_each(place: str, value: object, problems: list[str]) -> ForEach | None:
    if value is None:
        return None
    if isinstance(value, list):
        if len(value) > MAX_LITERAL_ITEMS:
            problems.append(
                f"{place}: {len(value):,} items, at most {MAX_LITERAL_ITEMS:,}; put them into a file, as lines"
            )
        return ForEach(items=tuple(value))
    if value == "files":
        return ForEach(files=True)
    if isinstance(value, str) and value.startswith("steps."):
        return ForEach(step=value.removeprefix("steps."))
    if isinstance(value, dict) and len(value.keys() & set(_SOURCES)) == 1:
        return _source(place, value, problems)
    problems.append(
        f'{place}: expected a list, "files", "steps.ID", or an object with one of lines, step (and key), files; '
        f"found {value!r}"
    )
    return None


def _source(place: str, value: dict[str, Any], problems: list[str]) -> ForEach | None:
    problems += _unknown_keys(f"{place}.", value, frozenset({*_SOURCES, "key"}))
    for key in ("lines", "step", "key"):
        if key in value and (not isinstance(value[key], str) or not value[key]):
            problems.append(f"{place}.{key}: expected text, found {value[key]!r}")
            return None
    if "key" in value and "step" not in value:
        problems.append(f"{place}.key: belongs to step, which is not there")
    if "files" in value and value["files"] is not True:
        problems.append(f"{place}.files: expected true, found {value['files']!r}")
    return ForEach(
        lines=value.get("lines"),
        step=value.get("step"),
        key=value.get("key"),
        files=value.get("files") is True,
    )


def _schema(place: str, value: object, problems: list[str]) -> str | None:
    if value is None:
        return None
    try:
        schema = json.loads(value) if isinstance(value, str) else value
        text = json.dumps(schema, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        problems.append(f"{place}.output_schema: it is not JSON: {error}")
        return None
    if not isinstance(schema, dict):
        problems.append(f"{place}.output_schema: a JSON Schema is an object, found {text:.80}")
        return None
    return text
