"""Writes ``docs/cli.md`` from the help texts: ``make docs``. With ``--check`` it only compares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_force.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = Path(__file__).with_name("cli.md")
HEAD = """# The command line

The help texts of every command; `make docs` writes this page.

Text goes to stdout, progress, costs and warnings to stderr. With `--json`, stdout has one JSON document (JSON Lines
for `run map`) and nothing else, also when the command fails.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a check found something, or an unexpected failure |
| 2 | wrong command line |
| 3 | input that cannot be used: configuration, agent, task, file, workflow; nothing was sent |
| 4 | no key, or a key that is refused |
| 5 | the API failed or refused the request, after the allowed retries |
| 6 | an unfinished answer: refusal, cut off by `max_tokens`, empty |
| 7 | partly done: some items or steps failed, the others are kept |
| 8 | a spend limit stopped the run |
| 9 | a deadline passed |
| 130 | interrupted |
"""


def sections(command: click.Command, path: str) -> Iterator[str]:
    """The command's help, then those of its own commands."""
    context = click.Context(command, info_name=path, max_content_width=100)
    help_text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"\n## {path}\n\n```text\n{help_text}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from sections(child, f"{path} {name}")


def render() -> str:
    """The whole page."""
    return HEAD + "".join(sections(cli, "claude-force"))


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(TARGET.read_text(encoding="utf-8") != render())
    TARGET.write_text(render(), encoding="utf-8")
