"""Calls that are submitted in batches today and collected tomorrow, by this process or by another one."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from claude_force.assembly.batching import (
    Asked,
    BatchPrices,
    outcomes_of,
    requests_of,
    reserve_all,
    settle_all,
)
from claude_force.assembly.caller import new_id
from claude_force.assembly.collecting import Collection
from claude_force.domain.errors import CallError, ConfigError, InvalidRequestError
from claude_force.provider.batches_api import encode_item
from claude_force.provider.cached import CachedClient
from claude_force.workflows.batch_ledger import BatchLedger
from claude_force.workflows.batch_run import BatchRun
from claude_force.workflows.submissions import Question, SubmissionStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
    from types import TracebackType

    from claude_force.agents.calls import AgentCall
    from claude_force.assembly.caller import Caller
    from claude_force.assembly.runtime import Runtime
    from claude_force.domain.results import AgentOutcome
    from claude_force.workflows.submissions import BatchSubmission

_NOTHING: Final = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionProgress:
    """Where a submission stands at the API."""

    submission: BatchSubmission
    # Of its batches: those whose results can be collected, those that go on, and those that the API does not know.
    ended: tuple[str, ...]
    going_on: tuple[str, ...]
    gone: tuple[str, ...]


class Submissions:
    """What one orchestrator submits and collects; an async context manager that closes what it opened.

    Args:
        runtime: what calls run on.
        caller: who listens.
    """

    def __init__(self, runtime: Runtime, caller: Caller) -> None:
        self._runtime = runtime
        self._caller = caller
        self._prices = BatchPrices()
        self._api = runtime.open_batches()
        self._ledger = BatchLedger(runtime.state_folder)
        self._store = SubmissionStore(runtime.state_folder)
        self._run = BatchRun(self._api, self._ledger, origin=runtime.origin)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._api.aclose()
        await asyncio.to_thread(self._ledger.close)
        await asyncio.to_thread(self._store.close)

    async def submit(self, calls: Iterable[AgentCall], *, note: str) -> BatchSubmission:
        """Send what is in no batch yet; see `AsyncAgentOrchestrator.submit_batch`."""
        asked = requests_of(self._runtime, calls)
        questions = await self._questions(asked)
        missing = {one.key for one in questions if one.result is None}
        sent = {key: one for key, one in asked.items() if key in missing}
        spending = self._runtime.spending
        if spending is not None:
            spending = spending.for_batches(self._prices)
        await reserve_all(spending, sent.values())
        submission_id = new_id()
        origin = self._runtime.origin
        await asyncio.to_thread(
            lambda: self._store.add(
                submission_id, questions, origin=origin, note=note, now=time.time()
            )
        )
        try:
            await self._run.submit(
                {key: partial(encode_item, key, one.request) for key, one in sent.items()}
            )
        except CallError:
            if not await self._place(missing):
                await settle_all(spending, sent.values(), _NOTHING)
                await asyncio.to_thread(self._store.drop, submission_id)
            raise
        finally:
            # Nobody here learns what it cost: the most that it can cost counts from now on.
            await settle_all(spending, sent.values(), None)
        await self._place(missing)
        return await asyncio.to_thread(self._store.find, submission_id)

    async def progress(self, name: str) -> SubmissionProgress:
        """See `AsyncAgentOrchestrator.batch_status`."""
        submission = await self._found(name)
        states: dict[str, list[str]] = {"ended": [], "going_on": [], "gone": []}
        for batch_id in submission.batch_ids:
            try:
                ended = (await self._api.status(batch_id)).ended
            except InvalidRequestError:
                states["gone"].append(batch_id)
            else:
                states["ended" if ended else "going_on"].append(batch_id)
        return SubmissionProgress(
            submission=submission, **{name: tuple(ids) for name, ids in states.items()}
        )

    async def cancel(self, name: str) -> SubmissionProgress:
        """See `AsyncAgentOrchestrator.cancel_batch`."""
        found = await self.progress(name)
        for batch_id in found.going_on:
            await self._api.cancel(batch_id)
        return await self.progress(found.submission.submission_id)

    async def collect(
        self, name: str, *, wait: bool, on_look: Callable[[int], None] | None
    ) -> AsyncGenerator[AgentOutcome, None]:
        """See `AsyncAgentOrchestrator.collect_batch`."""
        submission = await self._found(name)
        collection = Collection(
            submission,
            run=self._run,
            store=self._store,
            client=self._runtime.client(),
            listener=self._caller.listener(None),
        )
        questions = await asyncio.to_thread(self._store.questions, submission.submission_id)
        lost = {one.key for one in questions if one.waits and one.batch_id is None}
        placed: dict[str, str] = {}
        if lost:
            # The process that submitted them has died on the way: find out what became of it.
            await self._run.submit({})
            placed = await self._place(lost)
        stop = self._caller.new_run()
        outcomes = collection.outcomes(questions, placed, wait=wait, on_look=on_look, stop=stop)
        async with aclosing(outcomes):
            async for outcome in outcomes:
                yield outcome

    async def _questions(self, asked: Mapping[str, Asked]) -> list[Question]:
        """Every call, with its answer where the response cache has one."""
        chain = self._runtime.client()
        cached = chain if isinstance(chain, CachedClient) else None
        questions = []
        for key, one in asked.items():
            found = None if cached is None else await cached.find(one.request)
            results: list[AgentOutcome] = []
            if found is not None:
                listener = self._caller.listener(None)
                results = [outcome async for outcome in outcomes_of(one, found, None, listener)]
            by_index = {outcome.index: outcome.result for outcome in results}
            questions += [
                Question(
                    position=index,
                    item_id=str(index) if call.item_id is None else call.item_id,
                    agent_name=call.agent_name,
                    key=key,
                    request=one.request,
                    result=by_index.get(index),
                )
                for index, call in one.calls
            ]
        return questions

    async def _found(self, name: str) -> BatchSubmission:
        """The submission of that name, if it was sent to where this orchestrator asks.

        Raises:
            InputError: there is none.
            ConfigError: it was sent elsewhere.
        """
        submission = await asyncio.to_thread(self._store.find, name)
        if submission.origin != self._runtime.origin:
            raise ConfigError(
                f"Submission {submission.submission_id} was sent to {submission.origin!r}, and calls go to "
                f"{self._runtime.origin!r} now. Name the address with --base-url, or set ANTHROPIC_BASE_URL."
            )
        return submission

    async def _place(self, keys: Iterable[str]) -> dict[str, str]:
        """Note in which batch each key is, for those that are in one."""
        origin = self._runtime.origin
        placed = await asyncio.to_thread(self._ledger.batch_ids, origin, keys)
        await asyncio.to_thread(self._store.place, placed)
        return placed
