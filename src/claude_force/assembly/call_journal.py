"""Answers calls of a run from its journal, and keeps what comes of the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from claude_force.cache.fingerprint import request_key
from claude_force.domain.errors import CallError
from claude_force.domain.messages import REFRESH_CACHE
from claude_force.domain.runs import CallRecord
from claude_force.workflows.journal_layout import prompt_parts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from claude_force.agents.calls import AgentCall
    from claude_force.domain.messages import MessageRequest
    from claude_force.domain.results import AgentResult
    from claude_force.domain.runs import CallPlace
    from claude_force.workflows.journal import RunJournal


class CallJournal:
    """The calls of one run by their content.

    A call is known if exactly its request, with the answers of earlier steps in it, was answered completely before in
    this run; where it stands in the workflow does not matter.
    """

    def __init__(self, journal: RunJournal, origin: str) -> None:
        self._journal = journal
        self._origin = origin

    async def answered(
        self,
        call: AgentCall,
        place: CallPlace,
        request: MessageRequest,
        send: Callable[[AgentCall], Awaitable[AgentResult]],
    ) -> AgentResult:
        """The answer of ``call``: the one that the run has, else what ``send`` brings, committed.

        ``request`` is what the call comes to; it is the content that counts.

        Raises:
            JournalError: the journal cannot be written; nothing was sent, or the answer is not in it.
        """
        journal = self._journal
        journal.check()
        key = request_key(request, self._origin)
        known = journal.answer(key)
        if known is not None:
            return known
        if journal.asks_anew(key) and call.cache.write:
            call = replace(call, cache=REFRESH_CACHE)
        sent = _Sent(place, key, request, journal.seconds())
        try:
            result = await send(call)
        except CallError as error:
            if error.attempts:
                sent.ended = journal.seconds()
                failure = error
                await journal.record(key, lambda: sent.failed(call.agent_name, failure), None)
            raise
        sent.ended = journal.seconds()
        await journal.record(key, lambda: sent.done(call.agent_name, result), result)
        return result


@dataclass(slots=True)
class _Sent:
    """A call that was sent; times in seconds of the run."""

    place: CallPlace
    key: str
    request: MessageRequest
    started: float
    ended: float = 0.0

    def done(self, agent_name: str, result: AgentResult) -> CallRecord:
        return CallRecord(
            place=self.place,
            key=self.key,
            agent_name=agent_name,
            model=result.model,
            prompt=prompt_parts(self.request),
            text=result.text,
            usage=result.usage,
            cost_usd=result.cost_usd,
            attempts=result.attempts,
            cached_tier=None if result.cached is None else result.cached.tier,
            request_id=result.request_id,
            started_seconds=self.started,
            ended_seconds=self.ended,
        )

    def failed(self, agent_name: str, error: CallError) -> CallRecord:
        return CallRecord(
            place=self.place,
            key=self.key,
            agent_name=agent_name,
            model=self.request.model,
            prompt=prompt_parts(self.request),
            usage=error.usage,
            cost_usd=error.cost_usd if error.usages else Decimal(0),
            attempts=error.attempts,
            request_id=error.request_id,
            error_kind=error.kind,
            error_message=str(error),
            started_seconds=self.started,
            ended_seconds=self.ended,
        )
