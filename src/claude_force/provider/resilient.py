"""Deadlines, retries, governor and circuit breaker around one attempt."""

from __future__ import annotations

import asyncio
import random
from itertools import count
from typing import TYPE_CHECKING

from claude_force.domain.errors import BudgetExceededError, CallError, CallTimeoutError
from claude_force.domain.tokens import estimate_tokens
from claude_force.domain.usage import NO_USAGE
from claude_force.provider.under_way import Attempt, CallUnderWay, billed
from claude_force.resilience.rate_class import Estimate
from claude_force.resilience.retries import too_long_a_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.provider.client import ModelClient
    from claude_force.resilience.circuit_breakers import CircuitBreakers
    from claude_force.resilience.governor import Governor
    from claude_force.resilience.retries import RetryPolicy


class ResilientClient:
    """A `ModelClient` that sends a request when the limits allow it, and again when that can help, within a deadline.

    The deadline runs from the moment the call gets its first place among the concurrent ones: waiting in the queue
    of a large run is not the call's fault. A place is held by an attempt, never by a wait between two. An answer
    that broke off is dropped and asked for from scratch; its tokens are kept in ``lost_usages``. The breaker is
    asked last, so that calls which waited for a place are not sent to a service that has gone down meanwhile. When
    the run of a call is stopped, the call waits for nothing any more.

    Args:
        inner: sends one request once.
        governor: decides when a request may go out; shared by everything that uses the same key.
        breakers: refuse requests while the service is down; shared in the same way.
        origin: the base URL or platform; limits and breakers belong to it.
        policy: whether and when to send again.
        timeout_seconds: the deadline of a call whose context names none.
        attempt_timeout_seconds: the deadline of a single attempt, from its sending; None leaves it what the call has.
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
        attempt_timeout_seconds: float | None = None,
        random_unit: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._governor = governor
        self._breakers = breakers
        self._origin = origin
        self._policy = policy
        self._timeout_seconds = timeout_seconds
        self._attempt_timeout_seconds = attempt_timeout_seconds
        self._send_in_time = inner.send if attempt_timeout_seconds is None else self._send_timed
        self._random_unit = random_unit

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request; see `ModelClient.send`."""
        context = request.context
        call = CallUnderWay(context.timeout_seconds or self._timeout_seconds, context.halt)
        estimate = Estimate(_prompt_tokens(request), request.max_tokens)
        try:
            with call:
                for number in count(1):
                    call.attempt = attempt = Attempt(context.call_id, number, on_event)
                    try:
                        response = await self._send_once(request, attempt, call, estimate)
                    except CallError as error:
                        await self._wait_for_another(error, request, call)
                    else:
                        return response if number == 1 else call.answered(response)
        except CallError as error:
            call.close(error)
            raise
        except TimeoutError as error:
            if not call.expired:
                raise
            failure = call.timed_out()
            call.attempt.failed(failure, None)
            call.lost += failure.usages
            call.close(failure)
            raise failure from error
        raise AssertionError  # pragma: no cover - count() does not end

    async def aclose(self) -> None:
        """Turn away who waits, and close the inner client."""
        await self._governor.aclose()
        await self._inner.aclose()

    async def _send_once(
        self, request: MessageRequest, attempt: Attempt, call: CallUnderWay, estimate: Estimate
    ) -> MessageResponse:
        context = request.context
        place = self._governor.slot(
            self._origin,
            request.model,
            context.run_id or context.agent_name,
            estimate,
            patience_seconds=call.remaining_seconds,
        )
        async with place as slot:
            call.start()
            try:
                # A timeout that has passed already would still let the request out.
                if call.remaining_seconds <= 0:
                    raise call.timed_out()
                async with self._breakers.guard(self._origin, request.model):
                    attempt.started(slot)
                    if context.allowance is not None:
                        context.allowance.spend()
                    response = await self._send_in_time(request, attempt)
            except CallError:
                if not attempt.sent:
                    # Nothing of the limits is used.
                    slot.settle(NO_USAGE)
                raise
            slot.settle(response.usage)
            return response

    async def _send_timed(self, request: MessageRequest, attempt: Attempt) -> MessageResponse:
        scope = asyncio.timeout(self._attempt_timeout_seconds)
        try:
            async with scope:
                return await self._inner.send(request, attempt)
        except CallError:
            raise
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise CallTimeoutError(
                f"Attempt {attempt.number} had no complete answer within {self._attempt_timeout_seconds:g} s."
                f"{billed(attempt.usages)} Allow an attempt more time (--attempt-timeout, attempt_timeout_seconds) "
                "or ask for less (--max-tokens).",
                should_retry=True,
                usages=attempt.usages,
            ) from error

    async def _wait_for_another(
        self, error: CallError, request: MessageRequest, call: CallUnderWay
    ) -> None:
        """Wait until the next attempt may be made; raises the error when there is none."""
        call.attempt.on_wire = False
        lost = call.attempt.billable(error.usages)
        call.lost += lost
        wait = self._policy.wait_seconds(
            error,
            attempt=call.attempt.number,
            remaining_seconds=call.remaining_seconds,
            random_unit=self._random_unit(),
        )
        if wait is None and (reason := too_long_a_wait(error, call.remaining_seconds)):
            error.args = (f"{error}{reason}",)
        allowance = request.context.allowance
        if wait is not None and allowance is not None:
            try:
                await allowance.renew(lost)
            except BudgetExceededError as refusal:
                wait = None
                error.args = (f"{error} It is not sent again: {refusal}",)
            except CallError:
                # The run was stopped while a budget was waited for.
                call.attempt.failed(error, None)
                raise
        call.attempt.failed(error, wait)
        if wait is None:
            raise error
        call.check()
        await asyncio.sleep(wait)


def _prompt_tokens(request: MessageRequest) -> int:
    """About how long the whole prompt is."""
    # Plain loops: this runs at every call, and a generator takes as long as the estimates themselves.
    tokens = 0
    for block in request.system:
        tokens += estimate_tokens(block.text)
    for message in request.messages:
        for block in message.content:
            tokens += estimate_tokens(block.text)
    return tokens
