"""Attachments from the patterns of ``--file``, with a word on what was left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from claude_force.agents.attachments import collect_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.agents.attachments import Attachment, SkippedFile

_MAX_NAMED: Final = 5


def collect(patterns: Sequence[str]) -> tuple[Attachment, ...]:
    """The files, as seen from the working folder.

    Raises:
        AttachmentError: a file cannot be attached, or all together are too large.
    """
    collected = collect_files(patterns, root=Path.cwd())
    name_skipped(collected.skipped)
    return collected.files


def name_skipped(skipped: Sequence[SkippedFile]) -> None:
    """Say which files were left out, and why."""
    if skipped:
        named = ", ".join(f"{file.name} ({file.reason})" for file in skipped[:_MAX_NAMED])
        more = f" and {len(skipped) - _MAX_NAMED} more" if len(skipped) > _MAX_NAMED else ""
        click.echo(f"Left out: {named}{more}.", err=True)
