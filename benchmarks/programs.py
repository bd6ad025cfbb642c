"""The programs that are started from nothing: ours by its console script, and the rivals that stand beside it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import contenders
from reporting import OUR_PYTHON, RIVALS_PYTHON, ROOT

if TYPE_CHECKING:
    from pathlib import Path

CLAUDE_FORCE = OUR_PYTHON.with_name("claude-force")
AGENT_COUNT = 158
# A public collection of agents, where it lies beside the checkout; else as many look-alikes are written.
_COLLECTION = ROOT.parent / "shared/data/agents"

# Imported by a launcher, as a console script does, so that its bytecode is kept.
_BARE_CLICK = """import click

@click.group()
@click.version_option("1.0")
def cli():
    \"\"\"Does eight things.\"\"\"

def _add(number):
    @cli.command(f"command-{number}")
    @click.argument("name")
    @click.option("--count", type=int, default=1, help="How often.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def command(name, count, as_json):
        \"\"\"Does one of them.\"\"\"
        click.echo(name * count)

for number in range(8):
    _add(number)
"""

_SDK_SCRIPT = """import sys
from anthropic import Anthropic

with Anthropic(api_key="{key}", base_url=sys.argv[1], max_retries=0) as client:
    for event in client.messages.create(
        model="{model}", max_tokens=4096, stream=True, messages=[{{"role": "user", "content": "{task}"}}]
    ):
        if event.type == "content_block_delta":
            sys.stdout.write(event.delta.text)
"""


@dataclass(frozen=True, slots=True)
class Program:
    """One command line."""

    name: str
    command: tuple[str, ...]


def write_programs(folder: Path) -> tuple[Path, Path]:
    """The bare click program's launcher and the SDK's script."""
    (folder / "bare_click.py").write_text(_BARE_CLICK, encoding="utf-8")
    launcher = folder / "launcher.py"
    launcher.write_text(
        "import sys\nfrom bare_click import cli\nsys.exit(cli())\n", encoding="utf-8"
    )
    script = folder / "ask.py"
    script.write_text(
        _SDK_SCRIPT.format(key=contenders.KEY, model=contenders.MODEL, task=contenders.TASK),
        encoding="utf-8",
    )
    return launcher, script


def agents_folder(folder: Path) -> tuple[Path, str]:
    """A folder of 158 agents, and what it holds."""
    if _COLLECTION.is_dir():
        return _COLLECTION, "a public collection"
    agents = folder / "look-alikes"
    agents.mkdir()
    for number in range(AGENT_COUNT):
        agents.joinpath(f"agent-{number:03}.md").write_text(
            f"---\nname: agent-{number:03}\n"
            'description: "Use this agent when a task of its kind comes up, and for nothing else."\n'
            f"tools: Read, Write, Edit, Bash, Glob, Grep\nmodel: sonnet\n---\n\n{contenders.SYSTEM * 2}",
            encoding="utf-8",
        )
    return agents, "look-alikes, generated"


def run_agent(agents: Path, base_url: str) -> tuple[str, ...]:
    """`claude-force run agent`, as a user types it; the cache is the user's own, empty."""
    return (
        str(CLAUDE_FORCE),
        "run",
        "agent",
        contenders.AGENT,
        "--task",
        contenders.TASK,
        "--agents",
        str(agents),
        "--base-url",
        base_url,
    )


def sdk(script: Path, base_url: str) -> tuple[str, ...]:
    """A minimal script on the SDK."""
    return (str(RIVALS_PYTHON), str(script), base_url)


def bare_python() -> tuple[str, ...]:
    """The interpreter alone."""
    return (sys.executable, "-c", "pass")
