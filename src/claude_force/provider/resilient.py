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
        deadline = _Deadline(timeout)
        lost: list[Usage] = []
        for number in count(1):
            attempt = _Attempt(request.context.call_id, number, on_event)
            try:
                response = await self._send_once(request, attempt, deadline)
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
        """Close the inner client."""
        await self._inner.aclose()

    async def _send_once(
        self, request: MessageRequest, attempt: _Attempt, deadline: _Deadline
    ) -> MessageResponse:
        # Waiting for the first place is not counted, waiting for another one is.
        scope = asyncio.timeout_at(deadline.at)
        try:
            async with scope, self._limiter:
                scope.reschedule(deadline.start())
                # A timeout that has passed already would still let the request out.
                if deadline.remaining_seconds > 0:
                    attempt.started()
                    return await self._inner.send(request, attempt)
        except CallError:
            raise
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise _timed_out(attempt, deadline) from error
        raise _timed_out(attempt, deadline)


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

    __slots__ = ("_call_id", "_listener", "_text_was_sent", "number", "sent", "usage")

    def __init__(self, call_id: str, number: int, listener: EventListener | None) -> None:
        self._call_id = call_id
        self._listener = listener
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
        if self._listener is not None:
            self._listener(event)

    def started(self) -> None:
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
