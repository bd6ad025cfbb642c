"""The error of many calls: apart from the other errors, because it carries results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.domain.errors import ClaudeForceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.domain.results import AgentOutcome


class PartialFailureError(ClaudeForceError):
    """Some items failed. ``outcomes`` holds every item in its order, the finished ones with their results."""

    exit_code = 7
    kind = "partial_failure"

    def __init__(self, message: str, *, outcomes: Sequence[AgentOutcome] = ()) -> None:
        super().__init__(message)
        self.outcomes = tuple(outcomes)
