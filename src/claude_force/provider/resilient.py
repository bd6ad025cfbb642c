"""Deadline, retries, governor and circuit breaker around one attempt."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from claude_force.domain.errors import CallError, CallTimeoutError, CircuitOpenError
from claude_force.domain.events import (
    AnswerStarted,
    AttemptFailed,
    AttemptStarted,
    LimitsSeen,
    TextDelta,
)
from claude_force.domain.tokens import estimate_tokens
from claude_force.domain.usage import NO_USAGE
from claude_force.resilience.rate_class import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.domain.usage import Usage
    from claude_force.provider.client import ModelClient
    from claude_force.resilience.circuit_breakers import CircuitBreakers
    from claude_force.resilience.governor import Governor
    from claude_force.resilience.retries import RetryPolicy
    from claude_force.resilience.slot import Slot


class ResilientClient:
    """A `ModelClient` that sends a request when the limits allow it, and again when that can help, within a deadline.

    The deadline runs from the moment the call gets its first place among the concurrent ones: waiting in the queue
    of a large run is not the call's fault. A place is held by an attempt, never by a wait between two. An answer
    that broke off is dropped and asked for from scratch; its tokens are kept in ``lost_usages``. The breaker is
    asked last, so that calls which waited for a place are not sent to a service that has gone down meanwhile.

    Args:
        inner: sends one request once.
        governor: decides when a request may go out; shared by everything that uses the same key.
        breakers: refuse requests while the service is down; shared in the same way.
        origin: the base URL or platform; limits and breakers belong to it.
        policy: whether and when to send again.
        timeout_seconds: the deadline of a call whose context names none.
        random_unit: a random number from 0 up to 1, for the jitter.
    """

    def __init__(
        self,
        inner: ModelClient,
        *,
        governor: Governor,
        breakers: CircuitBreakers,
        origin: str,
        policy: RetryPolicy,
        timeout_seconds: float,
        random_unit: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._governor = governor
        self._breakers = breakers
        self._origin = origin
        self._policy = policy
        self._timeout_seconds = timeout_seconds
        self._random_unit = random_unit

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`."""
        timeout = request.context.timeout_seconds or self._timeout_seconds
        deadline = _Deadline(timeout)
        estimate = Estimate(_prompt_tokens(request), request.max_tokens)
        lost: list[Usage] = []
        for number in count(1):
            attempt = _Attempt(request.context.call_id, number, on_event)
            try:
                response = await self._send_once(request, attempt, deadline, estimate)
            except CallError as error:
                lost += error.usages
                wait = self._policy.wait_seconds(
                    error,
                    attempt=number,
                    remaining_seconds=deadline.remaining_seconds,
                    random_unit=self._random_unit(),
                )
                attempt.failed(error, wait)
                if wait is None:
                    error.usages = tuple(lost)
                    error.attempts = number if attempt.sent else number - 1
                    raise
                await asyncio.sleep(wait)
                continue
            if number == 1:
                return response
            return replace(response, attempts=number, lost_usages=tuple(lost))
        raise AssertionError  # pragma: no cover - count() does not end

    async def aclose(self) -> None:
        """Turn away who waits, and close the inner client."""
        await self._governor.aclose()
        await self._inner.aclose()

    async def _send_once(
        self,
        request: MessageRequest,
        attempt: _Attempt,
        deadline: _Deadline,
        estimate: Estimate,
    ) -> MessageResponse:
        context = request.context
        place = self._governor.slot(
            self._origin,
            request.model,
            context.run_id or context.agent_name,
            estimate,
            patience_seconds=deadline.remaining_seconds,
        )
        # Waiting for the first place is not counted, waiting for another one is.
        scope = asyncio.timeout_at(deadline.at)
        try:
            async with scope, place as slot:
                scope.reschedule(deadline.start())
                # A timeout that has passed already would still let the request out.
                if deadline.remaining_seconds > 0:
                    return await self._send_in(slot, request, attempt)
                slot.settle(NO_USAGE)
        except CallError:
            raise
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise _timed_out(attempt, deadline) from error
        raise _timed_out(attempt, deadline)

    async def _send_in(
        self, slot: Slot, request: MessageRequest, attempt: _Attempt
    ) -> MessageResponse:
        try:
            async with self._breakers.guard(self._origin, request.model):
                attempt.started(slot)
                response = await self._inner.send(request, attempt)
        except CircuitOpenError:
            # Nothing was sent, so nothing of the limits is used.
            slot.settle(NO_USAGE)
            raise
        slot.settle(response.usage)
        return response


def _prompt_tokens(request: MessageRequest) -> int:
    """About how long the whole prompt is."""
    system = sum(estimate_tokens(block.text) for block in request.system)
    return system + sum(
        estimate_tokens(block.text) for message in request.messages for block in message.content
    )


def _timed_out(attempt: _Attempt, deadline: _Deadline) -> CallTimeoutError:
    last = f"attempt {attempt.number}" if attempt.sent else f"attempt {attempt.number} was not sent"
    paid = "" if attempt.usage is None else " The prompt is billed all the same."
    return CallTimeoutError(
        f"No complete answer within {deadline.timeout_seconds:g} s ({last}).{paid} "
        "Allow more time (--timeout, timeout_seconds) or ask for less (--max-tokens).",
        usages=() if attempt.usage is None else (attempt.usage,),
    )


class _Deadline:
    """The end of a call; open until the call gets its first place."""

    __slots__ = ("_loop", "at", "timeout_seconds")

    def __init__(self, timeout_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.timeout_seconds = timeout_seconds
        # By the loop's clock; None before the start.
        self.at: float | None = None

    def start(self) -> float:
        """Start the clock, if it is not running, and return when it ends."""
        if self.at is None:
            self.at = self._loop.time() + self.timeout_seconds
        return self.at

    @property
    def remaining_seconds(self) -> float:
        """What is left of it."""
        return self.timeout_seconds if self.at is None else self.at - self._loop.time()


class _Attempt:
    """Listens to one attempt: passes events on, and remembers what a failure has to tell."""

    __slots__ = ("_call_id", "_listener", "_slot", "_text_was_sent", "number", "sent", "usage")

    def __init__(self, call_id: str, number: int, listener: EventListener | None) -> None:
        self._call_id = call_id
        self._listener = listener
        self._slot: Slot | None = None
        self._text_was_sent = False
        self.number = number
        # The request went out, or was about to.
        self.sent = False
        # What the API had counted when the answer began; None before.
        self.usage: Usage | None = None

    def __call__(self, event: Event) -> None:
        if type(event) is TextDelta:
            self._text_was_sent = True
        elif type(event) is AnswerStarted:
            self.usage = event.usage
        elif type(event) is LimitsSeen and self._slot is not None:
            self._slot.observe(event.snapshot)
        if self._listener is not None:
            self._listener(event)

    def started(self, slot: Slot) -> None:
        self._slot = slot
        # A listener may refuse the attempt, which is then not sent.
        if self._listener is not None:
            self._listener(AttemptStarted(self._call_id, self.number))
        self.sent = True

    def failed(self, error: CallError, retry_in_seconds: float | None) -> None:
        if self._listener is not None and self.sent:
            self._listener(
                AttemptFailed(
                    call_id=self._call_id,
                    attempt=self.number,
                    error_kind=error.kind,
                    message=str(error),
                    retry_in_seconds=retry_in_seconds,
                    text_was_sent=self._text_was_sent,
                )
            )
