"""Answers a task with the answer to a similar one, behind the response cache and before the provider."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from claude_force.cache.answers import response_of
from claude_force.cache.fingerprint import request_key
from claude_force.cache.policy import may_store
from claude_force.cache.semantic.similar_tasks import Question
from claude_force.cache.semantic.stored_task import scope_of
from claude_force.domain.events import TextDelta
from claude_force.domain.messages import SemanticMatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.cache.semantic.similar_tasks import SimilarAnswer, SimilarTasks
    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.provider.client import ModelClient


class SemanticClient:
    """A `ModelClient` that asks ``inner`` only where no similar task was answered.

    It has a part only in calls with ``request.context.semantic``, and stands behind the exact cache, which stores the
    answers that are found here by similarity. Such an answer says so: ``response.cached.match``. It is itself stored
    nowhere, so that no chain of similar tasks leads away from what was asked.

    Args:
        inner: answers what nothing similar was answered to.
        tasks: what was answered before; it is closed with this client.
        origin: the provider that answers, as the keys of the exact cache name it.
        wall_clock: seconds since the epoch.
    """

    def __init__(
        self,
        inner: ModelClient,
        *,
        tasks: SimilarTasks,
        origin: str,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._tasks = tasks
        self._origin = origin
        self._wall_clock = wall_clock

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`."""
        context = request.context
        use, cache = context.semantic, context.cache
        if use is None or not cache.write or not _is_task_alone(request):
            return await self._inner.send(request, on_event)
        question = Question(
            scope=scope_of(request, self._origin),
            answer_key=request_key(request, self._origin),
            agent_name=context.agent_name,
            model=request.model,
            task=use.task,
        )
        if cache.read:
            similar = await self._tasks.find(
                question, use.threshold, max_age_seconds=cache.max_age_seconds
            )
            response = None if similar is None else _response(similar)
            if response is not None:
                if on_event is not None and response.text:
                    on_event(TextDelta(context.call_id, response.text))
                return response
        response = await self._inner.send(request, on_event)
        if may_store(response, context.agent_name):
            self._tasks.remember(question, self._wall_clock())
        return response

    async def aclose(self) -> None:
        """Write what is waiting, and close the inner client."""
        try:
            await self._inner.aclose()
        finally:
            await self._tasks.aclose()


def _is_task_alone(request: MessageRequest) -> bool:
    """Whether nothing stands beside the task, such as what an agent remembers: that is no part of the scope."""
    return len(request.messages) == 1 and len(request.messages[0].content) == 1


def _response(similar: SimilarAnswer) -> MessageResponse | None:
    response = response_of(similar.found)
    if response is None or response.cached is None:
        return None
    match = SemanticMatch(task=similar.task, similarity=similar.similarity)
    return replace(response, cached=replace(response.cached, tier="semantic", match=match))
