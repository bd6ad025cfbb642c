"""The tasks of one agent in memory, in the form in which all of them are compared at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from claude_force.cache.semantic.task_tier import Mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from claude_force.cache.fingerprint import CacheKey
    from claude_force.cache.semantic.stored_task import StoredTask

_FIRST_ROWS: Final = 64


class Near(NamedTuple):
    """A task that is similar enough."""

    similarity: float
    task: StoredTask


class _Scope:
    """The tasks of one scope: a matrix with a row for each."""

    def __init__(self, dimensions: int) -> None:
        self._rows: NDArray[np.float32] = np.zeros((_FIRST_ROWS, dimensions), dtype=np.float32)
        self._tasks: list[StoredTask] = []
        self._row_of: dict[CacheKey, int] = {}

    def put(self, tasks: Sequence[StoredTask]) -> None:
        """Take tasks, each in place of the one with the same answer."""
        rows = [self._row(task) for task in tasks]
        while len(self._tasks) > len(self._rows):
            self._rows = np.concatenate((self._rows, np.zeros_like(self._rows)))
        vectors = np.frombuffer(b"".join(task.vector for task in tasks), dtype="<f2")
        self._rows[rows] = vectors.reshape(len(tasks), -1)

    def _row(self, task: StoredTask) -> int:
        row = self._row_of.setdefault(task.answer_key, len(self._tasks))
        if row == len(self._tasks):
            self._tasks.append(task)
        self._tasks[row] = task
        return row

    def discard(self, task: StoredTask) -> None:
        """Let a task be similar to nothing any more."""
        row = self._row_of.get(task.answer_key)
        if row is not None:
            self._rows[row] = 0

    def near(self, vector: NDArray[np.float32], threshold: float, most: int) -> list[Near]:
        # On one core: the threads of `@` wait for each other where the machine is busy.
        similarities = np.einsum("ij,j->i", self._rows[: len(self._tasks)], vector)
        rows = np.flatnonzero(similarities >= threshold)
        best = rows[np.argsort(-similarities[rows], kind="stable")][:most]
        return [Near(float(similarities[row]), self._tasks[row]) for row in best]

    def __len__(self) -> int:
        return len(self._tasks)


class TaskIndex:
    """The tasks of one agent by scope. For one thread at a time.

    Args:
        dimensions: of the vectors; tasks with others are passed over.
        embedder: the name of what makes them; tasks of others are passed over too.
    """

    def __init__(self, *, dimensions: int, embedder: str) -> None:
        self._dimensions = dimensions
        self._embedder = embedder
        self._scopes: dict[CacheKey, _Scope] = {}
        # How far the file was read.
        self.mark = Mark()

    def __len__(self) -> int:
        return sum(map(len, self._scopes.values()))

    def put(self, tasks: Iterable[StoredTask]) -> None:
        """Take tasks, each in place of the one with the same answer."""
        by_scope: dict[CacheKey, list[StoredTask]] = {}
        for task in tasks:
            if task.embedder == self._embedder and len(task.vector) == 2 * self._dimensions:
                by_scope.setdefault(task.scope, []).append(task)
        for name, found in by_scope.items():
            scope = self._scopes.get(name)
            if scope is None:
                scope = self._scopes[name] = _Scope(self._dimensions)
            scope.put(found)

    def discard(self, task: StoredTask) -> None:
        """Let a task be found no more: its answer has gone."""
        scope = self._scopes.get(task.scope)
        if scope is not None:
            scope.discard(task)

    def near(
        self, scope: CacheKey, vector: NDArray[np.float32], threshold: float, most: int
    ) -> list[Near]:
        """At most ``most`` tasks of a scope whose similarity reaches ``threshold``, the most similar first."""
        found = self._scopes.get(scope)
        # A row of zeros reaches a threshold of 0.
        return [] if found is None else found.near(vector, max(threshold, 1e-6), most)
