"""Answers to similar tasks: compares on a thread of its own, never on an event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final

from claude_force.cache.policy import Freshness
from claude_force.cache.semantic.guard import disagreement
from claude_force.cache.semantic.stored_task import StoredTask

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from numpy.typing import NDArray

    from claude_force.cache.fingerprint import CacheKey
    from claude_force.cache.semantic.embedder import Embedder
    from claude_force.cache.semantic.task_index import TaskIndex
    from claude_force.cache.semantic.task_tier import TaskTier
    from claude_force.cache.store import CacheStore, Found

_LOG = logging.getLogger(__name__)

# Tasks of an agent that are compared; older ones are left out.
MOST_TASKS: Final = 10_000
# What the benchmark measures is short questions; in a longer text, one word that turns the meaning hardly moves the
# mean of all words.
LONGEST_TASK_CHARACTERS: Final = 500
# Similar tasks that are looked at, the most similar first, until the guard lets one pass and its answer is there. Numbers
# of the same digits are equally similar, so they may be many.
_MOST_LOOKED_AT: Final = 128
# Vectors of tasks that were looked for and will be remembered when their answers are there.
_MOST_VECTORS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A task to be compared with earlier ones."""

    scope: CacheKey
    # Under which its own answer would be stored.
    answer_key: CacheKey
    agent_name: str
    model: str
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarAnswer:
    """An answer to a similar task, which may be served."""

    found: Found
    task: str
    similarity: float


class SimilarTasks:
    """The tasks that were answered, and the answers to those that are similar. Safe in any thread and event loop.

    Nothing raises for the sake of a disk or of the embedder: what they fail is a miss, logged once.

    Args:
        tier: keeps the tasks; it is closed with this object.
        store: keeps the answers; it belongs to the caller.
        embedder: makes the vectors.
    """

    def __init__(self, tier: TaskTier, store: CacheStore, embedder: Embedder) -> None:
        self._tier = tier
        self._store = store
        self._embedder = embedder
        self._starting = Lock()
        # One thread for all loops: it alone touches what is below.
        self._thread: ThreadPoolExecutor | None = None
        self._indexes: dict[str, TaskIndex] = {}
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self._warned = False
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _start_over(reference))

    async def find(
        self, question: Question, threshold: float, *, max_age_seconds: float | None = None
    ) -> SimilarAnswer | None:
        """A fresh answer to the most similar task that the guard lets pass; None where there is none."""
        if not _fits(question):
            return None
        return await asyncio.get_running_loop().run_in_executor(
            self._working_thread(),
            lambda: self._guarded_find(question, threshold, max_age_seconds),
        )

    def remember(self, question: Question, created_at: float) -> None:
        """Have later tasks compared with this one, whose answer is stored about now. Never waits."""
        if _fits(question):
            self._working_thread().submit(self._guarded_remember, question, created_at)

    def close(self) -> None:
        """Write what is waiting and give resources back. Waits."""
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=True)
        self._tier.close()

    async def aclose(self) -> None:
        """``close`` beside the event loop."""
        await asyncio.to_thread(self.close)

    def start_over_after_fork(self) -> None:
        """Let go of the thread that stayed in the parent process, and of what it may have been changing."""
        self._starting = Lock()
        self._thread = None
        self._indexes = {}
        self._vectors = {}

    def _guarded_find(
        self, question: Question, threshold: float, max_age_seconds: float | None
    ) -> SimilarAnswer | None:
        try:
            return self._find(question, threshold, max_age_seconds)
        except Exception as error:  # noqa: BLE001 - an embedder of the caller's own may raise anything
            self._warn(error)
            return None

    def _guarded_remember(self, question: Question, created_at: float) -> None:
        try:
            self._remember(question, created_at)
        except Exception as error:  # noqa: BLE001 - as above
            self._warn(error)

    def _find(
        self, question: Question, threshold: float, max_age_seconds: float | None
    ) -> SimilarAnswer | None:
        vector = self._vector(question.task)
        index = self._index(question.agent_name, len(vector))
        for similarity, task in index.near(question.scope, vector, threshold, _MOST_LOOKED_AT):
            if disagreement(question.task, task.task) is not None:
                continue
            found = self._store.lookup(task.answer_key, max_age_seconds=max_age_seconds)
            if found is not None and found.freshness is Freshness.FRESH:
                self._tier.touch(task.key)
                return SimilarAnswer(found=found, task=task.task, similarity=min(similarity, 1.0))
            if max_age_seconds is None:
                index.discard(task)
        return None

    def _remember(self, question: Question, created_at: float) -> None:
        vector = self._vector(question.task)
        self._vectors.pop(question.task, None)
        task = StoredTask(
            scope=question.scope,
            answer_key=question.answer_key,
            agent_name=question.agent_name,
            model=question.model,
            created_at=created_at,
            embedder=self._embedder.name,
            task=question.task,
            vector=vector.astype("<f2").tobytes(),
        )
        self._tier.put(task.to_entry())
        index = self._indexes.get(question.agent_name)
        if index is not None:
            index.put((task,))

    def _vector(self, task: str) -> NDArray[np.float32]:
        vector = self._vectors.get(task)
        if vector is None:
            vector = self._embedder.embed([task])[0]
            if len(self._vectors) >= _MOST_VECTORS:
                self._vectors.clear()
            self._vectors[task] = vector
        return vector

    def _index(self, agent_name: str, dimensions: int) -> TaskIndex:
        """The tasks of an agent, those that other processes have added since the last look among them."""
        from claude_force.cache.semantic.task_index import (  # noqa: PLC0415 - imports numpy
            TaskIndex,
        )

        index = self._indexes.get(agent_name)
        if index is None or len(index) > MOST_TASKS + MOST_TASKS // 8:
            index = TaskIndex(dimensions=dimensions, embedder=self._embedder.name)
            self._tier.flush()
        added = self._tier.added(index.mark, agent_name, MOST_TASKS)
        if added.afresh:
            index = TaskIndex(dimensions=dimensions, embedder=self._embedder.name)
        # The oldest first: of two of the same key the later one counts.
        index.put(reversed(added.tasks))
        index.mark = added.mark
        self._indexes[agent_name] = index
        return index

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "semantic cache: %s: %s; similar tasks are not looked for where that happens",
                type(error).__name__,
                error,
            )

    def _working_thread(self) -> ThreadPoolExecutor:
        thread = self._thread
        if thread is None:
            with self._starting:
                thread = self._thread = self._thread or _new_thread()
        return thread


def _fits(question: Question) -> bool:
    return len(question.task) <= LONGEST_TASK_CHARACTERS


def _new_thread() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - start-up time

    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="claude-force-semantic")


def _start_over(reference: weakref.ref[SimilarTasks]) -> None:
    tasks = reference()
    if tasks is not None:
        tasks.start_over_after_fork()
