"""One call from the request to the result, told as events."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from claude_force.domain.discounts import NO_DISCOUNTS
from claude_force.domain.errors import CallError, ClaudeForceError
from claude_force.domain.events import NOTHING_SPENT, CallFailed, CallFinished, CallStarted
from claude_force.domain.results import AgentResult
from claude_force.provider.completeness import incomplete_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.provider.client import ModelClient


async def ask(
    client: ModelClient, request: MessageRequest, on_event: EventListener | None
) -> AgentResult:
    """The result of one request, told to ``on_event`` from `CallStarted` to `CallFinished` or `CallFailed`.

    Raises:
        IncompleteAnswerError: an answer came back, but not a complete one.
        CallError: none came back.
    """
    context = request.context
    began = time.monotonic()
    if on_event is not None:
        on_event(
            CallStarted(
                context.call_id,
                context.agent_name,
                request.model,
                context.run_id,
                context.step_id,
                context.item_index,
            )
        )
    try:
        response = await client.send(request, on_event)
        if not response.complete:
            raise incomplete_answer(request, response)
    except ClaudeForceError as error:
        if isinstance(error, CallError):
            error.agent_name = context.agent_name
        if on_event is not None:
            on_event(_failure(request, error, time.monotonic() - began))
        raise
    result = _result(request, response, time.monotonic() - began)
    if on_event is not None:
        on_event(CallFinished(context.call_id, result, context.run_id, context.step_id))
    return result


def _failure(request: MessageRequest, error: ClaudeForceError, seconds: float) -> CallFailed:
    context = request.context
    failed = CallFailed(
        context.call_id,
        context.agent_name,
        error.kind,
        str(error),
        seconds,
        request.model,
        context.run_id,
        context.step_id,
    )
    if not isinstance(error, CallError):
        return failed
    cost, discounts = (
        (error.cost_usd, error.discounts) if error.usages else (NOTHING_SPENT, NO_DISCOUNTS)
    )
    return replace(
        failed, attempts=error.attempts, usage=error.usage, cost_usd=cost, discounts=discounts
    )


def _result(request: MessageRequest, response: MessageResponse, seconds: float) -> AgentResult:
    return AgentResult(
        agent_name=request.context.agent_name,
        text=response.text,
        stop_reason=response.stop_reason,
        model=response.model,
        requested_model=request.model,
        usage=response.usage,
        fallback_from=response.fallback_from,
        lost_usages=response.lost_usages,
        cost_usd=response.cost_usd,
        discounts=response.discounts,
        cached=response.cached,
        recalled=request.context.recalled,
        attempts=response.attempts,
        seconds=seconds,
        request_id=response.request_id,
    )


def compose(listeners: Sequence[EventListener]) -> EventListener | None:
    """One listener for all of them; None for none, so that nobody makes events that nobody hears."""
    if len(listeners) < 2:
        return listeners[0] if listeners else None

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell
