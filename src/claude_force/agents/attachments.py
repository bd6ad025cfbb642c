"""Text that goes into a prompt beside the task."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attachment:
    """A text with a name."""

    # The path relative to the root, with forward slashes, or `stdin`.
    name: str
    text: str
