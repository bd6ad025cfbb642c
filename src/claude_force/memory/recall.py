"""What is found, as the text that goes into a request: within an allowance of tokens, redacted again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.domain.tokens import estimate_tokens
from claude_force.memory.digest import clip
from claude_force.memory.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from claude_force.memory.records import MemoryRecord, Recollection

# What shares less than this with the question is noise, and noise costs tokens and attention.
LEAST_SCORE: Final = 0.12
MOST_RECALLED: Final = 8
_TASK_CHARACTERS: Final = 300


def worth_recalling(found: Sequence[Recollection]) -> list[MemoryRecord]:
    """Those that fit well enough, the best first; of the same task only the best."""
    seen: set[str] = set()
    chosen = []
    for one in found:
        if one.score >= LEAST_SCORE and one.record.task not in seen:
            seen.add(one.record.task)
            chosen.append(one.record)
    return chosen[:MOST_RECALLED]


def recalled_text(records: Iterable[MemoryRecord], max_tokens: int) -> tuple[str, tuple[int, ...]]:
    """The records as text, and their numbers: as many as fit, the best first; never more than ``max_tokens``.

    A record that does not fit is left out, and a smaller one behind it may still fit.
    """
    parts: list[str] = []
    ids: list[int] = []
    for record in records:
        part = redact(_entry(record)).text
        if estimate_tokens("\n\n".join((*parts, part))) <= max_tokens:
            parts.append(part)
            ids.append(record.id)
    return "\n\n".join(parts), tuple(ids)


def _entry(record: MemoryRecord) -> str:
    task = " ".join(clip(record.task, _TASK_CHARACTERS).split())
    return f"{record.recorded_at:%Y-%m-%d}: {task}\nWhat came of it: {record.digest}"
