"""Deadline, concurrency limit and retries around one attempt."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from claude_force.domain.errors import CallError, CallTimeoutError
from claude_force.domain.events import AnswerStarted, AttemptFailed, AttemptStarted, TextDelta

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.domain.usage import Usage
    from claude_force.provider.client import ModelClient
    from claude_force.resilience.limiter import ConcurrencyLimiter
    from claude_force.resilience.retries import RetryPolicy


class ResilientClient:
    """A `ModelClient` that sends a request again when that can help, within a deadline.

    The deadline runs from the moment the call gets its first place among the concurrent ones: waiting in the queue
    of a large run is not the call's fault. A place is held by an attempt, never by a wait between two. An answer
    that broke off is dropped and asked for from scratch; its tokens are kept in ``lost_usages``.

    Args:
        inner: sends one request once.
        limiter: shared by everything that uses the same connection.
        policy: whether and when to send again.
        timeout_seconds: the deadline of a call whose context names none.
        random_unit: a random number from 0 up to 1, for the jitter.
    """

    def __init__(
        self,
        inner: ModelClient,
        *,
        limiter: ConcurrencyLimiter,
        policy: RetryPolicy,
        timeout_seconds: float,
        random_unit: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._limiter = limiter
        self._policy = policy
        self._timeout_seconds = timeout_seconds
        self._random_unit = random_unit

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`."""
        timeout = request.context.timeout_seconds or self._timeout_seconds
        clock = asyncio.get_running_loop().time
        deadline: float | None = None
        lost: list[Usage] = []
        for number in count(1):
            attempt = _Attempt(request.context.call_id, number, on_event)
            try:
                async with self._limiter:
                    deadline = deadline or clock() + timeout
                    response = await self._send_once(request, attempt, deadline, timeout)
            except CallError as error:
                lost += error.usages
                wait = self._policy.wait_seconds(
                    error,
                    attempt=number,
                    remaining_seconds=(deadline or clock()) - clock(),
                    random_unit=self._random_unit(),
                )
                attempt.failed(error, wait)
                if wait is None:
                    error.usages = tuple(lost)
                    error.attempts = number
                    raise
                await asyncio.sleep(wait)
                continue
            if number == 1:
                return response
            return replace(response, attempts=number, lost_usages=tuple(lost))
        raise AssertionError  # pragma: no cover - count() does not end

    async def aclose(self) -> None:
        """Close the inner client."""
        await self._inner.aclose()

    async def _send_once(
        self, request: MessageRequest, attempt: _Attempt, deadline: float, timeout_seconds: float
    ) -> MessageResponse:
        attempt.started()
        try:
            async with asyncio.timeout_at(deadline):
                return await self._inner.send(request, attempt)
        except CallError:
            raise
        except TimeoutError as error:
            paid = "" if attempt.usage is None else " The prompt is billed all the same."
            raise CallTimeoutError(
                f"No complete answer within {timeout_seconds:g} s "
                f"(attempt {attempt.number}).{paid} Allow more time (--timeout, timeout_seconds) "
                "or ask for less (--max-tokens).",
                usages=() if attempt.usage is None else (attempt.usage,),
            ) from error


class _Attempt:
    """Listens to one attempt: passes events on, and remembers what a failure has to tell."""

    __slots__ = ("_call_id", "_listener", "_text_was_sent", "number", "usage")

    def __init__(self, call_id: str, number: int, listener: EventListener | None) -> None:
        self._call_id = call_id
        self._listener = listener
        self._text_was_sent = False
        self.number = number
        # What the API had counted when the answer began; None before.
        self.usage: Usage | None = None

    def __call__(self, event: Event) -> None:
        if type(event) is TextDelta:
            self._text_was_sent = True
        elif type(event) is AnswerStarted:
            self.usage = event.usage
        if self._listener is not None:
            self._listener(event)

    def started(self) -> None:
        if self._listener is not None:
            self._listener(AttemptStarted(self._call_id, self.number))

    def failed(self, error: CallError, retry_in_seconds: float | None) -> None:
        if self._listener is not None:
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
