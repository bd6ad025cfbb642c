"""What the group ``cache`` says of the semantic cache: tasks that answers are found by."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from claude_force.assembly.semantic import DEFAULT_THRESHOLD, open_tasks
from claude_force.cache.semantic.nearest import nearest_task
from claude_force.reporting.numbers import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from claude_force.cache.entries import CacheEntry
    from claude_force.cache.semantic.nearest import Nearest
    from claude_force.cache.semantic.task_tier import TaskTier
    from claude_force.config.settings import CacheSettings


@contextmanager
def stored_tasks(
    settings: CacheSettings, folder: Path, secret: str | None
) -> Iterator[TaskTier | None]:
    """The tasks beside the answers in ``folder``; None where no agent ever used the semantic cache there."""
    tier = open_tasks(settings, folder=folder, secret=secret)
    try:
        yield tier if tier.exists() else None
    finally:
        tier.close()


def stats_json(tier: TaskTier) -> dict[str, int]:
    """How many tasks there are, and what they take."""
    stats = tier.stats()
    return {"tasks": stats.entries, "size_bytes": stats.size_bytes, "max_bytes": stats.max_bytes}


def stats_line(tier: TaskTier) -> str:
    """The same for a person."""
    stats = tier.stats()
    return (
        f"semantic: {stats.entries:,} tasks that similar ones are answered by, "
        f"{stats.size_bytes / 1_048_576:.1f} of {stats.max_bytes / 1_048_576:g} MB"
    )


def verified(tier: TaskTier) -> dict[str, int]:
    """How many tasks are as they were written, and how many are not."""
    valid = invalid = 0
    for entry in tier.records():
        valid, invalid = (valid, invalid + 1) if entry is None else (valid + 1, invalid)
    return {"valid": valid, "invalid": invalid}


def nearest_of(tier: TaskTier | None, entry: CacheEntry) -> Nearest | None:
    """The task most like that of an answer; None where it has none."""
    return None if tier is None else nearest_task(entry.key, tier.tasks())


def nearest_json(nearest: Nearest) -> dict[str, Any]:
    """The nearest task as JSON."""
    return {
        "similarity": round(nearest.similarity, 4),
        "task": nearest.task,
        "key": nearest.answer_key,
        "apart": nearest.disagreement,
    }


def nearest_line(nearest: Nearest, entry: CacheEntry, settings: CacheSettings) -> str:
    """Why it was not answered by the task that is most like it."""
    threshold = settings.semantic.agents.get(entry.agent_name) or DEFAULT_THRESHOLD
    if nearest.disagreement is not None:
        verdict = f"they differ in {nearest.disagreement}"
    elif nearest.similarity < threshold:
        verdict = f"that is less than {threshold:g}"
    else:
        verdict = "either can be answered by the other"
    return f'most similar task: {nearest.similarity:.3f} "{one_line(nearest.task)}"; {verdict}'
