"""The report of a run: one HTML file that needs nothing else, neither network nor server."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from claude_force._version import __version__
from claude_force.agents.cleaning import clean_text
from claude_force.reporting.embedded import embedded_json
from claude_force.reporting.graph_drawing import NODE_HEIGHT, NODE_WIDTH, draw, one_line
from claude_force.reporting.numbers import counted, dollars, duration
from claude_force.reporting.readable import readable
from claude_force.reporting.run_facts import facts_of
from claude_force.reporting.timeline import rows_of, ticks

if TYPE_CHECKING:
    from jinja2 import Template

    from claude_force.domain.runs import RunRecord, StepRecord

_TEMPLATES: Final = Path(__file__).parent / "templates"
# By this a file is known as a report, and may be replaced by the next one.
REPORT_MARK: Final = '<meta name="generator" content="claude-force'
# Of each result that is shown on the page itself; the whole is among the details of its step.
_RESULT_CHARACTERS: Final = 20_000
_MAX_RESULTS: Final = 3
_MAX_FAILURES: Final = 20
# For each state: a word, and a sign, since colours are not for everybody.
_STATE_SIGNS: Final = {
    "succeeded": "✓",
    "failed": "✕",
    "skipped": "○",
    "running": "▸",
    "waiting": "·",
    "stopped": "■",
    "interrupted": "!",
}


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is the same in every report."""

    template: Template
    style: str
    script: str
    policy: str


def render_html(run: RunRecord) -> str:
    """The report of a run as a page.

    It loads nothing, and its Content-Security-Policy admits only its own style and script: nothing in a prompt, an
    answer or a name can run. It holds prompts and answers in full, up to 12 million characters together.
    """
    parts = _parts()
    facts = facts_of(run)
    critical = frozenset(facts.critical_steps)
    answered = _answered(run, facts.final_steps)
    return parts.template.render(
        run=run,
        facts=facts,
        style=parts.style,
        script=parts.script,
        policy=parts.policy,
        version=__version__,
        title=one_line(run.workflow_name),
        task=clean_text(run.task),
        drawing=draw(run, critical=facts.critical_steps, wall_seconds=facts.wall_seconds),
        node_width=NODE_WIDTH,
        node_height=NODE_HEIGHT,
        rows=rows_of(run, wall_seconds=facts.wall_seconds, critical=critical),
        ticks=ticks(facts.wall_seconds),
        failures=[
            (number, step) for number, step in enumerate(run.steps) if step.state == "failed"
        ][:_MAX_FAILURES],
        results=[_result(number, step) for number, step in answered[:_MAX_RESULTS]],
        more_results=max(0, len(answered) - _MAX_RESULTS),
        data=embedded_json(run, critical=critical),
        signs=_STATE_SIGNS,
    )


@cache
def _parts() -> _Parts:
    # Only a report needs it, and it takes longer to load than a command may take to start.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - see above

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        clean=clean_text,
        counted=counted,
        dollars=dollars,
        duration=duration,
        number=lambda value: f"{value:,}",
        one_line=one_line,
    )
    style = (_TEMPLATES / "report.css").read_text("utf-8")
    script = (_TEMPLATES / "report.js").read_text("utf-8")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return _Parts(environment.get_template("report.html.j2"), style, script, policy)


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _answered(run: RunRecord, final_steps: tuple[str, ...]) -> list[tuple[int, StepRecord]]:
    """What the run was for: the steps that nothing depends on, with their positions, as far as they have an answer."""
    names = set(final_steps)
    return [
        (number, step)
        for number, step in enumerate(run.steps)
        if step.step_id in names and step.text is not None
    ]


def _result(number: int, step: StepRecord) -> dict[str, Any]:
    text = clean_text(readable(step.text or ""))
    return {
        "number": number,
        "name": one_line(step.step_id),
        "text": text[:_RESULT_CHARACTERS],
        "cut": len(text) > _RESULT_CHARACTERS,
    }
