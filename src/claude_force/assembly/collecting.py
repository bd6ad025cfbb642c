"""Collects what was submitted in batches: every result is on disk before it is handed on."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from claude_force.agents.calls import AgentCall
from claude_force.assembly.batching import Asked, BatchPrices, outcomes_of
from claude_force.domain.errors import CallError, ServiceError
from claude_force.domain.results import AgentOutcome
from claude_force.provider.cached import CachedClient
from claude_force.workflows.batch_ledger import PendingBatch
from claude_force.workflows.batch_run import NotOursError, no_result

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from claude_force.domain.events import EventListener
    from claude_force.domain.halting import Halt
    from claude_force.provider.batches_api import BatchResult
    from claude_force.provider.client import ModelClient
    from claude_force.workflows.batch_run import BatchRun
    from claude_force.workflows.submissions import BatchSubmission, Question, SubmissionStore

# An answer is on disk before it is handed on; so many share the wait for the disk.
_KEPT_TOGETHER: Final = 50
_NEVER_ACCEPTED: Final = (
    "The batch with this call was never accepted, so nothing was paid for it. Submit it again."
)
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_STOP_NOTICED_SECONDS: Final = 0.2


class Collection:
    """The results of one submission.

    Args:
        submission: whose.
        run: reads batches.
        store: keeps what comes of them.
        client: the chain of calls, whose response cache is filled.
        listener: told of every answer as of that of any other call.
        sleep: waits between two looks at batches that go on.
    """

    def __init__(
        self,
        submission: BatchSubmission,
        *,
        run: BatchRun,
        store: SubmissionStore,
        client: ModelClient,
        listener: EventListener | None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._submission = submission
        self._run = run
        self._store = store
        self._cached = client if isinstance(client, CachedClient) else None
        self._listener = listener
        self._sleep = sleep
        self._prices = BatchPrices()

    async def outcomes(
        self,
        questions: Sequence[Question],
        placed: Mapping[str, str],
        *,
        wait: bool,
        on_look: Callable[[int], None] | None,
        stop: Halt,
    ) -> AsyncGenerator[AgentOutcome, None]:
        """Outcomes of ``questions``; ``placed`` names the batch of those that do not know theirs, by content key."""
        for question in questions:
            if not question.waits:
                yield _known(question)
        batches = self._by_batch(questions, placed)
        lost = [one for one in questions if one.waits and not (one.batch_id or one.key in placed)]
        # The process that submitted them died before it sent them.
        for outcome in await self._failed(lost, ServiceError(_NEVER_ACCEPTED, attempts=0)):
            yield outcome
        pause_seconds = _FIRST_PAUSE_SECONDS
        while batches:
            async for outcome in self._look(batches):
                yield outcome
            if on_look is not None:
                on_look(sum(map(len, batches.values())))
            if not batches or not wait or await self._is_stopped(stop, pause_seconds):
                return
            pause_seconds = min(pause_seconds * 1.5, _LONGEST_PAUSE_SECONDS)

    async def _look(
        self, batches: dict[PendingBatch, list[Question]]
    ) -> AsyncGenerator[AgentOutcome, None]:
        """Take those that have ended out of ``batches``."""
        looked_at: set[PendingBatch] = set()
        while left := batches.keys() - looked_at:
            batch = min(left, key=lambda one: one.batch_id or "")
            looked_at.add(batch)
            if not await self._run.has_ended(batch):
                continue
            questions = batches.pop(batch)
            try:
                async for outcome in self._take(batch, questions):
                    yield outcome
            except NotOursError:
                for outcome in await self._look_elsewhere(batch, questions, batches):
                    yield outcome

    async def _look_elsewhere(
        self,
        batch: PendingBatch,
        questions: Sequence[Question],
        batches: dict[PendingBatch, list[Question]],
    ) -> Sequence[AgentOutcome]:
        """Put the batches that do hold ``questions`` into ``batches``; outcomes of those that are nowhere.

        ``batch`` was taken for the one of a process that died while it sent these.
        """
        found = await self._run.find_again(
            str(batch.batch_id), sorted({question.key for question in questions})
        )
        placed = {key: batch_id for key, batch_id in found.items() if batch_id}
        await asyncio.to_thread(self._store.place, found, instead_of=batch.batch_id)
        await asyncio.to_thread(self._store.place, placed)
        moved = [
            replace(question, batch_id=None) for question in questions if question.key in placed
        ]
        batches |= self._by_batch(moved, placed)
        unsent = [one for one in questions if one.key in found and one.key not in placed]
        unknown = [one for one in questions if one.key not in found]
        return [
            *await self._failed(unsent, ServiceError(_NEVER_ACCEPTED, attempts=0)),
            *await self._failed(unknown, no_result(batch)),
        ]

    async def _is_stopped(self, stop: Halt, seconds: float) -> bool:
        """Wait, but not for longer than the user wants to."""
        while seconds > 0 and not stop.stopped:
            await self._sleep(min(seconds, _STOP_NOTICED_SECONDS))
            seconds -= _STOP_NOTICED_SECONDS
        return stop.stopped

    def _by_batch(
        self, questions: Sequence[Question], placed: Mapping[str, str]
    ) -> dict[PendingBatch, list[Question]]:
        by_id: dict[str, list[Question]] = {}
        for one in questions:
            batch_id = one.batch_id or placed.get(one.key)
            if one.waits and batch_id is not None:
                by_id.setdefault(batch_id, []).append(one)
        return {
            PendingBatch(
                number=0,
                batch_id=batch_id,
                created_at=self._submission.created_at,
                request_count=len(held),
                waiting=len(held),
            ): held
            for batch_id, held in by_id.items()
        }

    async def _take(
        self, batch: PendingBatch, questions: Sequence[Question]
    ) -> AsyncGenerator[AgentOutcome, None]:
        """Results of one batch, kept before they are handed on; the ledger forgets them in the end.

        Raises:
            NotOursError: it holds none of them; nothing was kept or handed on.
        """
        asked: dict[str, list[Question]] = {}
        for question in questions:
            asked.setdefault(question.key, []).append(question)
        outcomes: list[AgentOutcome] = []
        async with aclosing(self._run.results_of(batch, set(asked))) as results:
            async for result in results:
                outcomes += await self._outcomes(result, asked[result.custom_id])
                if len(outcomes) >= _KEPT_TOGETHER:
                    for outcome in await self._kept(questions, outcomes):
                        yield outcome
                    outcomes = []
        for outcome in await self._kept(questions, outcomes):
            yield outcome
        await self._run.taken(asked)

    async def _kept(
        self, questions: Sequence[Question], outcomes: Sequence[AgentOutcome]
    ) -> Sequence[AgentOutcome]:
        """The outcomes, once they are on disk."""
        by_position = {question.position: question for question in questions}
        ended = [
            replace(by_position[outcome.index], result=outcome.result, error=_kept_error(outcome))
            for outcome in outcomes
        ]
        await asyncio.to_thread(self._store.end, self._submission.submission_id, ended)
        return outcomes

    async def _failed(
        self, questions: Sequence[Question], error: CallError
    ) -> Sequence[AgentOutcome]:
        """The outcomes of questions that have no answer, once they are on disk."""
        outcomes = [
            AgentOutcome(
                index=question.position,
                item_id=question.item_id,
                agent_name=question.agent_name,
                error=error,
            )
            for question in questions
        ]
        return await self._kept(questions, outcomes)

    async def _outcomes(
        self, result: BatchResult, questions: Sequence[Question]
    ) -> list[AgentOutcome]:
        """What came of the calls that ask the same; the answer fills the response cache."""
        request = questions[0].request
        response = result.response
        if response is not None:
            response = await self._prices.priced(response)
            if self._cached is not None:
                self._cached.keep(request, response)
        one = Asked(
            request,
            [
                (
                    question.position,
                    AgentCall(agent_name=question.agent_name, task="", item_id=question.item_id),
                )
                for question in questions
            ],
        )
        told = outcomes_of(one, response, result.error, self._listener)
        return [outcome async for outcome in told]


def _known(question: Question) -> AgentOutcome:
    """The outcome of a call that was collected before; it costs nothing this time."""
    error = None
    if question.error is not None:
        kind, message = question.error
        error = CallError(message, attempts=0)
        error.kind = kind  # type: ignore[misc] # of the class that it had when it was collected
    return AgentOutcome(
        index=question.position,
        item_id=question.item_id,
        agent_name=question.agent_name,
        result=question.result,
        error=error,
    )


def _kept_error(outcome: AgentOutcome) -> tuple[str, str] | None:
    return None if outcome.error is None else (outcome.error.kind, str(outcome.error))
