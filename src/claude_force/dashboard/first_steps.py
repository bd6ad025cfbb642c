"""What stands in place of figures as long as there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.dashboard.markup import plain
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from pathlib import Path


def first_steps(folder: Path, days: int) -> str:
    """Where was looked for calls, and what makes some."""
    span = "24 hours" if days == 1 else counted(days, "day")
    return (
        f"<p>No call was recorded in the last {span} in <code>{plain(str(folder))}</code>. "
        "What happens from now on appears here by itself.</p>"
        '<ul class="steps">'
        '<li><code>claude-force run workflow review --task "Review this" --file src</code> '
        "runs a team of agents; its graph is here while it runs.</li>"
        "<li>Runs with <code>--simulate</code> are kept apart; "
        "<code>claude-force dashboard --simulated</code> shows them.</li>"
        "<li>Calls are recorded unless <code>metrics.enabled</code> is false in <code>claude.json</code>.</li>"
        "</ul>"
    )
