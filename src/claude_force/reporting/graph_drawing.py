"""The graph of a run as boxes and lines, in pixels: what the report's SVG shows."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from os.path import commonprefix
from typing import TYPE_CHECKING, Final

from claude_force.agents.cleaning import clean_text
from claude_force.reporting.alike import groups_of_alike
from claude_force.reporting.layered import Placement, place
from claude_force.reporting.numbers import counted, duration
from claude_force.reporting.run_facts import step_seconds

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from claude_force.domain.runs import RunRecord, StepRecord, StepState

# From so many steps on, those that have the same place in the graph are drawn as one box.
GROUP_FROM_STEPS: Final = 60
NODE_WIDTH: Final = 196
NODE_HEIGHT: Final = 48
_LAYER_WIDTH: Final = 264
_ROW_HEIGHT: Final = 64
_MARGIN: Final = 8
# With more lines than these, they are one path: a page of so many elements would be slow.
_MAX_SINGLE_EDGES: Final = 1500
# Letters that fit into a box.
_NAME_CELLS: Final = 22
_LINE_CELLS: Final = 24
# Of a group, the worst state stands for all.
_WORST_FIRST: Final[tuple[StepState, ...]] = (
    "failed", "running", "skipped", "waiting", "succeeded"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One step, or several that have the same place."""

    # Positions of its steps in the run.
    members: tuple[int, ...]
    x: float
    y: float
    state: StepState
    name: str
    # Agent, and how long it took.
    line: str
    # Everything, for a tooltip and for screen readers.
    title: str
    critical: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """A line between two boxes, as an SVG path; or many lines at once."""

    path: str
    critical: bool
    # Positions of its boxes; None where one path holds many lines.
    ends: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A graph to be drawn."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    # Those of the critical path last, to lie above the others.
    edges: tuple[Edge, ...]
    edge_count: int
    # Some boxes stand for several steps.
    grouped: bool


def draw(run: RunRecord, *, critical: Sequence[str], wall_seconds: float) -> Drawing:
    """Lay the graph of a run out from left to right."""
    steps = {step.step_id: step for step in run.steps}
    groups = _groups(steps)
    first_of = {name: group[0] for group in groups for name in group}
    graph = {
        group[0]: list(
            dict.fromkeys(
                first_of[needed] for needed in steps[group[0]].dependencies if needed in steps
            )
        )
        for group in groups
    }
    placement = place(graph)
    position = {name: number for number, name in enumerate(steps)}
    path = set(critical)
    boxes = tuple(
        _box(
            [steps[name] for name in group],
            placement.nodes[group[0]],
            members=tuple(position[name] for name in group),
            critical=not path.isdisjoint(group),
            wall_seconds=wall_seconds,
        )
        for group in groups
    )
    lines = {edge: _line(edge, placement) for edge in placement.bends}
    marked = {(first_of[one], first_of[other]) for one, other in pairwise(critical)}
    return Drawing(
        width=(placement.layers - 1) * _LAYER_WIDTH + NODE_WIDTH + 2 * _MARGIN,
        height=placement.rows * _ROW_HEIGHT - (_ROW_HEIGHT - NODE_HEIGHT) + 2 * _MARGIN,
        boxes=boxes,
        edges=_edges(lines, marked, {group[0]: number for number, group in enumerate(groups)}),
        edge_count=len(lines),
        grouped=len(groups) < len(steps),
    )


def _groups(steps: Mapping[str, StepRecord]) -> list[tuple[str, ...]]:
    if len(steps) < GROUP_FROM_STEPS:
        return [(name,) for name in steps]
    return groups_of_alike(
        {name: step.dependencies for name, step in steps.items()},
        {name: step.agent_name for name, step in steps.items()},
    )


def _edges(
    lines: Mapping[tuple[str, str], str],
    critical: Collection[tuple[str, str]],
    boxes: Mapping[str, int],
) -> tuple[Edge, ...]:
    ordered = sorted(lines, key=lambda edge: edge in critical)
    if len(lines) <= _MAX_SINGLE_EDGES:
        return tuple(
            Edge(lines[edge], edge in critical, (boxes[edge[0]], boxes[edge[1]]))
            for edge in ordered
        )
    merged = (
        Edge("".join(lines[edge] for edge in ordered if (edge in critical) is marked), marked)
        for marked in (False, True)
    )
    return tuple(edge for edge in merged if edge.path)


def _corner(place: tuple[int, float]) -> tuple[float, float]:
    layer, row = place
    return _MARGIN + layer * _LAYER_WIDTH, _MARGIN + (row - 0.5) * _ROW_HEIGHT


def _box(
    steps: Sequence[StepRecord],
    where: tuple[int, float],
    *,
    members: tuple[int, ...],
    critical: bool,
    wall_seconds: float,
) -> Box:
    x, y = _corner(where)
    states = [step.state for step in steps]
    state = next(state for state in _WORST_FIRST if state in states)
    agent = one_line(steps[0].agent_name)
    times = [taken for step in steps if (taken := step_seconds(step, wall_seconds)) is not None]
    took = duration(max(times)) if times else state
    if len(steps) == 1:
        name, line = (
            one_line(steps[0].step_id),
            f"{cut(agent, _LINE_CELLS - 3 - len(took))} · {took}",
        )
        title = f"{name} ({agent}): {state}, {took}" if times else f"{name} ({agent}): {state}"
    else:
        name = _group_name(steps)
        line = f"{counted(len(steps), 'step')} · {took}"
        title = f"{name}: {counted(len(steps), 'step')} of {agent}; {_states_in_words(states)}"
    return Box(
        members=members,
        x=x,
        y=y,
        state=state,
        name=cut(name, _NAME_CELLS),
        line=line,
        title=f"{title}; on the critical path" if critical else title,
        critical=critical,
    )


def _group_name(steps: Sequence[StepRecord]) -> str:
    """What the names of the steps begin with, else the agent."""
    # Ids are no file paths: letters are what is to be compared.
    shared = commonprefix([step.step_id for step in steps])  # noqa: RUF071 - see above
    prefix = one_line(shared).rstrip("-_.:/ 0123456789")
    return f"{prefix} …" if len(prefix) > 1 else one_line(steps[0].agent_name)


def _states_in_words(states: Collection[StepState]) -> str:
    counts = [(state, sum(one == state for one in states)) for state in _WORST_FIRST]
    return ", ".join(f"{number:,} {state}" for state, number in counts if number)


def _line(edge: tuple[str, str], placement: Placement) -> str:
    """A smooth path: level where it leaves a box, passes a layer, or arrives."""
    start_x, start_y = _corner(placement.nodes[edge[0]])
    end_x, end_y = _corner(placement.nodes[edge[1]])
    x, y = start_x + NODE_WIDTH, start_y + NODE_HEIGHT / 2
    parts = [f"M{x:g} {y:g}"]
    for bend in placement.bends[edge]:
        bend_x, bend_y = _corner(bend)
        bend_y += NODE_HEIGHT / 2
        parts += [_curve(x, y, bend_x, bend_y), f"H{bend_x + NODE_WIDTH:g}"]
        x, y = bend_x + NODE_WIDTH, bend_y
    parts.append(_curve(x, y, end_x, end_y + NODE_HEIGHT / 2))
    return "".join(parts)


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    middle = (x + to_x) / 2
    return f"C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}"


def one_line(text: str) -> str:
    """Text of others without line ends and invisible characters."""
    return " ".join(clean_text(text).split())


def cut(text: str, cells: int) -> str:
    """As much of ``text`` as fits into so many letters; wide ones, as of Chinese, count for two."""
    used = 0
    for index, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > cells:
            return f"{text[: max(index - 1, 1)]}…"
    return text
