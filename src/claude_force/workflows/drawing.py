"""Draws the graph of a workflow: as a tree for a terminal, as Mermaid, as DOT."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from claude_force.agents.cleaning import clean_text
from claude_force.workflows.graph import StepGraph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from claude_force.workflows.definition import ForEach, Step, Workflow

# A chain of a thousand steps would otherwise walk out of the screen.
_DEEPEST_INDENT: Final = 10
_SHOWN_CHARACTERS: Final = 90
_MERMAID_ESCAPES: Final = {
    "#": "#35;",
    "&": "#38;",
    '"': "#quot;",
    "<": "#lt;",
    ">": "#gt;",
    "`": "#96;",
    "\\": "#92;",
}


def draw_tree(workflow: Workflow) -> list[str]:
    """One line a step below the step that it waits for longest, and its fields below it.

    A step with several dependencies stands once, and names all of them.
    """
    children = _children(workflow)
    lines: list[str] = []
    # Each entry: a step, the indent in front of it, whether it is the last of its parent's.
    roots = children[None]
    stack = [(step, "", step is roots[-1]) for step in reversed(roots)]
    while stack:
        step, indent, is_last = stack.pop()
        below = indent + ("    " if is_last else "│   ")
        own = children[step.step_id]
        lines.append(f"{indent}{'└── ' if is_last else '├── '}{_headline(step)}")
        lines += [f"{below}{'│ ' if own else '  '}{detail}" for detail in _details(step)]
        if len(below) > 4 * _DEEPEST_INDENT:
            below = below[: 4 * _DEEPEST_INDENT]
        stack += [(child, below, child is own[-1]) for child in reversed(own)]
    return lines


def draw_mermaid(workflow: Workflow) -> str:
    """A Mermaid flowchart. Dashed arrows lead to steps with a condition, double frames are fan-outs."""
    lines = ["flowchart TD", *(f"    {line}" for line in _mermaid_lines(workflow))]
    return "\n".join(lines)


def draw_dot(workflow: Workflow) -> str:
    """A graph in the DOT language. Dashed arrows lead to steps with a condition, double frames are fan-outs."""
    lines = [f"digraph {_dot_text(workflow.name)} {{", "    node [shape=box];"]
    lines += [f"    {line}" for line in _dot_lines(workflow)]
    return "\n".join([*lines, "}"])


def for_each_text(source: ForEach) -> str:
    """What a step fans out over, in words."""
    if source.items is not None:
        return f"{len(source.items)} items"
    if source.lines is not None:
        return f"the lines of {source.lines}"
    if source.step is not None:
        key = f", key {source.key}" if source.key is not None else ""
        return f"the answer of {source.step}{key}"
    return "the files of the run"


def _children(workflow: Workflow) -> dict[str | None, list[Step]]:
    """Steps by the one they are drawn under: of those they depend on, the one that is deepest."""
    depth: dict[str, int] = {}
    children: dict[str | None, list[Step]] = {None: []}
    for step in StepGraph(workflow).in_order():
        # Of several that are as deep the last: what stands together stays together.
        parent = max(reversed(step.dependencies), key=depth.__getitem__, default=None)
        depth[step.step_id] = 0 if parent is None else depth[parent] + 1
        children[step.step_id] = []
        children[parent].append(step)
    return children


def _headline(step: Step) -> str:
    name = _line(step.step_id)
    agent = "" if step.agent_name == step.step_id else f" · {_line(step.agent_name)}"
    after = (
        f"  (after {', '.join(map(_line, step.dependencies))})"
        if len(step.dependencies) > 1
        else ""
    )
    return f"{name}{agent}{after}"


def _details(step: Step) -> list[str]:
    """Every field that says more than its default."""
    settings = {
        "task": step.task,
        "when": step.when,
        "for each": None if step.for_each is None else for_each_text(step.for_each),
        "at once": step.max_parallel,
        "repeat until": step.repeat_until
        and f"{step.repeat_until}  (at most {step.max_rounds} rounds)",
        "answer": None if step.output_schema is None else f"JSON: {_schema(step.output_schema)}",
        "model": step.model,
        "max tokens": step.max_tokens and f"{step.max_tokens:,}",
        "effort": step.effort,
        "timeout": step.timeout_seconds and f"{step.timeout_seconds:g} s",
        "retries": step.retries or None,
        "on error": None if step.on_error == "fail" else step.on_error,
        "files": None if step.files else "not given",
        "cache": None if step.cache else "not used",
        "budget": None if step.budget_usd is None else f"${step.budget_usd}",
    }
    return [
        line
        for name, value in settings.items()
        if value is not None
        for line in _wrapped(f"{name}: {value}")
    ]


def _wrapped(text: str) -> list[str]:
    """The whole text, in lines that a terminal holds."""
    import textwrap  # noqa: PLC0415 - only `workflow show` needs it

    return textwrap.wrap(clean_text(text), _SHOWN_CHARACTERS, subsequent_indent="  ")


def _schema(text: str) -> str:
    """The keys of an object's schema, else the schema itself."""
    schema = json.loads(text)
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if isinstance(properties, dict) and properties:
        return ", ".join(map(str, properties))
    return text


def _line(text: str) -> str:
    """One line that steers no terminal."""
    line = " ".join(clean_text(text).split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1].rstrip() + "…"


def _label(step: Step, escape: Callable[[str], str], line_end: str) -> str:
    parts = [step.step_id] if step.agent_name == step.step_id else [step.step_id, step.agent_name]
    if step.for_each is not None:
        parts.append(f"for each: {for_each_text(step.for_each)}")
    if step.repeat_until is not None:
        parts.append(f"up to {step.max_rounds} rounds")
    return line_end.join(escape(_line(part)) for part in parts)


def _numbers(workflow: Workflow) -> dict[str, str]:
    # Ids of our own: those of steps may be words of the drawing language.
    return {step.step_id: f"s{number}" for number, step in enumerate(workflow.steps)}


def _mermaid_lines(workflow: Workflow) -> Iterator[str]:
    ids = _numbers(workflow)
    for step in workflow.steps:
        opening, closing = ("[[", "]]") if step.for_each is not None else ("[", "]")
        yield f'{ids[step.step_id]}{opening}"{_label(step, _mermaid_text, "<br/>")}"{closing}'
    for step in workflow.steps:
        when = "" if step.when is None else f'|"{_mermaid_text(_line(step.when))}"|'
        arrow = "-->" if step.when is None else "-.->"
        for dependency in step.dependencies:
            yield f"{ids[dependency]} {arrow}{when} {ids[step.step_id]}"


def _mermaid_text(text: str) -> str:
    return "".join(_MERMAID_ESCAPES.get(character, character) for character in text)


def _dot_lines(workflow: Workflow) -> Iterator[str]:
    ids = _numbers(workflow)
    for step in workflow.steps:
        double = ", peripheries=2" if step.for_each is not None else ""
        yield f'{ids[step.step_id]} [label="{_label(step, _dot_escaped, chr(92) + "n")}"{double}];'
    for step in workflow.steps:
        style = "" if step.when is None else f" [style=dashed, label={_dot_text(_line(step.when))}]"
        for dependency in step.dependencies:
            yield f"{ids[dependency]} -> {ids[step.step_id]}{style};"


def _dot_escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _dot_text(text: str) -> str:
    return f'"{_dot_escaped(_line(text))}"'
