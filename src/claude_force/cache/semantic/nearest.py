"""Why a task was not answered with the answer to a similar one: the nearest task, and what keeps them apart."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_force.cache.semantic.guard import disagreement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_force.cache.fingerprint import CacheKey
    from claude_force.cache.semantic.stored_task import StoredTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The task that is most like another one."""

    asked: str
    task: str
    answer_key: CacheKey
    # Cosine.
    similarity: float
    # What the guard finds; None where it would let one answer the other.
    disagreement: str | None


def nearest_task(answer_key: CacheKey, tasks: Iterable[StoredTask]) -> Nearest | None:
    """The task most like that of an answer, of those that it could have been answered from.

    None where the answer has no task, as one of an agent that the semantic cache is not switched on for, or is the
    only one. Needs neither the embedder nor any extra: the vectors are stored.
    """
    known = list(tasks)
    own = next((task for task in known if task.answer_key == answer_key), None)
    if own is None:
        return None
    vector = _vector(own)
    others = [
        (sum(map(float.__mul__, vector, _vector(task))), task)
        for task in known
        if task.key != own.key
        and (task.scope, task.agent_name, task.embedder)
        == (own.scope, own.agent_name, own.embedder)
    ]
    if not others:
        return None
    similarity, best = max(others, key=lambda other: other[0])
    return Nearest(
        asked=own.task,
        task=best.task,
        answer_key=best.answer_key,
        similarity=min(similarity, 1.0),
        disagreement=disagreement(own.task, best.task),
    )


def _vector(task: StoredTask) -> tuple[float, ...]:
    return struct.unpack(f"<{len(task.vector) // 2}e", task.vector)
