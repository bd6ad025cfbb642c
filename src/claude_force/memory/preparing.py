"""From a task that was done to what may be written down: redacted, then shortened, then split into terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from claude_force.memory.digest import clip, digest_of
from claude_force.memory.redaction import redact
from claude_force.memory.terms import terms_of

if TYPE_CHECKING:
    from claude_force.memory.records import Experience

TASK_CHARACTERS: Final = 1000
OUTCOME_CHARACTERS: Final = 2000
DIGEST_CHARACTERS: Final = 500
# Of a longer text only so much is looked at, its beginning and its end: several times what is kept, so that no secret
# which the cut has halved, and no rule knows any more, is near enough to an edge to be kept.
_LOOKED_AT: Final = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A record as it is written."""

    task: str
    outcome: str
    digest: str
    task_terms: tuple[str, ...]
    outcome_terms: tuple[str, ...]


def prepare(experience: Experience) -> Prepared:
    """What is kept of ``experience``. Nothing that `redact` knows for a secret is in it."""
    task = redact(_window(experience.task)).text
    answer = redact(_window(experience.answer)).text
    kept_task = clip(task, TASK_CHARACTERS)
    outcome = clip(answer, OUTCOME_CHARACTERS)
    return Prepared(
        task=kept_task,
        outcome=outcome,
        digest=digest_of(kept_task, answer, DIGEST_CHARACTERS),
        task_terms=tuple(terms_of(kept_task)),
        outcome_terms=tuple(terms_of(outcome)),
    )


def _window(text: str) -> str:
    if len(text) <= _LOOKED_AT:
        return text
    half = _LOOKED_AT // 2
    return f"{text[:half]}\n{text[-half:]}"
