"""The graph of a run as SVG, as far as the run has got."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from claude_force.reporting.graph_drawing import NODE_HEIGHT, NODE_WIDTH, draw
from claude_force.reporting.run_facts import facts_of

if TYPE_CHECKING:
    from claude_force.domain.runs import RunRecord
    from claude_force.reporting.graph_drawing import Box, Edge

# For each state a sign, since colours are not for everybody.
SIGNS: Final = {
    "succeeded": "✓",
    "failed": "✕",
    "skipped": "○",
    "running": "▸",
    "waiting": "·",
    "stopped": "■",
    "interrupted": "!",
}


def run_svg(run: RunRecord, *, now_seconds: float | None) -> str:
    """The graph as an SVG element; every text of others is escaped.

    Args:
        run: with its steps.
        now_seconds: since the start of a run that goes on; its steps under way take until then.
    """
    facts = facts_of(run)
    wall = facts.wall_seconds if now_seconds is None else max(now_seconds, facts.wall_seconds)
    drawing = draw(run, critical=facts.critical_steps, wall_seconds=wall)
    title = f"{run.workflow_name}: {len(run.steps)} steps, {run.state}"
    return (
        f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" width="{drawing.width:g}" height="{drawing.height:g}" '
        f'viewBox="0 0 {drawing.width:g} {drawing.height:g}" role="img" aria-label="{escape(title)}">'
        + "".join(map(_edge, drawing.edges))
        + "".join(_box(box, shown_state(box.state, run)) for box in drawing.boxes)
        + "</svg>"
    )


def _edge(edge: Edge) -> str:
    return f'<path class="edge{" critical" if edge.critical else ""}" d="{edge.path}"/>'


def shown_state(state: str, run: RunRecord) -> str:
    """The state of a step as it is shown: what was under way when its run ended so is not any more."""
    return "interrupted" if state == "running" and run.state != "running" else state


def _box(box: Box, state: str) -> str:
    behind = (
        f'<rect class="behind" x="5" y="-4" width="{NODE_WIDTH - 5}" height="{NODE_HEIGHT}" rx="8"/>'
        if len(box.members) > 1
        else ""
    )
    return (
        f'<g class="box s-{state}{" critical" if box.critical else ""}" '
        f'transform="translate({box.x:g} {box.y:g})"><title>{escape(box.title)}</title>{behind}'
        f'<rect class="card" width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="8"/>'
        f'<circle class="mark" cx="20" cy="24" r="9"/><text class="sign" x="20" y="28">{SIGNS[state]}</text>'
        f'<text class="name" x="38" y="21">{escape(box.name)}</text>'
        f'<text class="who" x="38" y="37">{escape(box.line)}</text></g>'
    )
