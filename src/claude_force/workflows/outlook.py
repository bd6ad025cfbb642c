"""What is known of each step of a workflow before it is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_force.workflows.calls import Question
    from claude_force.workflows.spans import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A call whose exact request is known, and that the cache does not hold."""

    question: Question
    round: int = 1
    repair: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is known of a step before the run."""

    # Calls that the cache answers.
    cached_calls: int = 0
    missing: tuple[Missing, ...] = ()
    # Set for a step behind an answer that is not there yet: its calls (one for each item that is known) without
    # that answer.
    later: tuple[Question, ...] = ()
    # Of a step behind: how many items there are, where that is not known.
    items: Span | None = None
    # Tokens of its answer, where it is there.
    answer_tokens: Span | None = None
    # Why it is skipped, or cannot be asked.
    reason: str | None = None
    fails: bool = False
