"""What one run of a workflow works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from claude_force.domain.messages import USE_CACHE

if TYPE_CHECKING:
    from claude_force.agents.attachments import Attachment
    from claude_force.domain.messages import CacheUse


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInputs:
    """What all steps of one run are given."""

    task: str = ""
    files: tuple[Attachment, ...] = ()
    # What the run wants of the response cache; a step can only want less.
    cache: CacheUse = USE_CACHE
    # Whether the agents have a memory; None leaves it to their files.
    use_memory: bool | None = None
    # The project: files that a definition names are looked for in it, and nowhere else.
    root: Path = Path()
