"""Goes on with answers that were cut off at ``max_tokens``, for calls that ask for it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from claude_force.domain.discounts import NO_DISCOUNTS, total_discounts
from claude_force.domain.errors import CallError, ClaudeForceError, IncompleteAnswerError
from claude_force.domain.events import AttemptFailed, TextDelta
from claude_force.domain.results import total_cost_usd
from claude_force.provider.seam import Seam, next_part

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from decimal import Decimal

    from claude_force.domain.discounts import Discounts
    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.provider.client import ModelClient
    from claude_force.provider.seam import NextPart

_CUT: Final = "max_tokens"


class ContinuingClient:
    """A `ModelClient` that asks for the rest of an answer, ``request.context.continue_rounds`` times at most.

    The parts are one answer: its text is joined, its tokens, attempts and dollars are the sums. All of them share the
    deadline of the call; each is reserved in the budgets on its own. An answer with a schema counts as whole only when
    the joined text is JSON. Text deltas give the joined text: what a part repeats is held back, and when an
    attempt at a part fails, the parts before it are told again.

    Args:
        inner: answers each part.
        clock: monotonic seconds.
    """

    def __init__(self, inner: ModelClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._clock = clock

    def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> Coroutine[Any, Any, MessageResponse]:
        """The answer to one request; see `ModelClient.send`.

        Raises:
            IncompleteAnswerError: the model did not go on where its answer ended.
        """
        # Not a coroutine of its own: most calls ask for nothing here.
        if not request.context.continue_rounds:
            return self._inner.send(request, on_event)
        return self._whole(request, on_event)

    async def aclose(self) -> None:
        """Close the inner client."""
        await self._inner.aclose()

    async def _whole(
        self, request: MessageRequest, on_event: EventListener | None
    ) -> MessageResponse:
        began = self._clock()
        response = await self._inner.send(request, on_event)
        for _ in range(request.context.continue_rounds):
            part = next_part(request, response.text) if response.stop_reason == _CUT else None
            asked = None if part is None else self._within(part.request, began, response)
            if part is None or asked is None:
                break
            longer = await self._go_on(asked, part, response, on_event)
            if longer is None:
                break
            response = longer
        return _checked(request, response)

    def _within(
        self, request: MessageRequest, began: float, before: MessageResponse
    ) -> MessageRequest | None:
        """The request with what is left of the call's deadline and budget; None where no time is."""
        context = replace(request.context, spent_usd=before.cost_usd)
        if context.timeout_seconds is not None:
            left = context.timeout_seconds - (self._clock() - began)
            if left <= 0:
                return None
            context = replace(context, timeout_seconds=left)
        return replace(request, context=context)

    async def _go_on(
        self,
        asked: MessageRequest,
        part: NextPart,
        before: MessageResponse,
        on_event: EventListener | None,
    ) -> MessageResponse | None:
        """What is there with one more part; None where nothing more can be paid."""
        listener = None if on_event is None else _PartListener(part, before, on_event)
        try:
            after = await self._inner.send(asked, listener)
        except CallError as error:
            _add_what_was_paid(error, before)
            raise
        except ClaudeForceError:
            # Not sent, for want of budget. What is there was paid, and is an unfinished answer.
            return None
        seam = Seam(part.anchor)
        added = seam.feed(after.text)
        joined = _joined(before, after, part.so_far + added)
        if not seam.found:
            raise _failed(
                joined,
                "The answer was cut off at max_tokens, and the model did not go on where it ended. Allow a longer answer "
                "(--max-tokens), or ask for less.",
            )
        return joined


class _PartListener:
    """Tells of a part as of the rest of one answer."""

    def __init__(self, part: NextPart, before: MessageResponse, tell: EventListener) -> None:
        self._part = part
        self._tell = tell
        self._seam = Seam(part.anchor)
        # White space that was told already, and that the part may bring again.
        self._tail = before.text[len(part.so_far) :]
        self._told = False
        # All that was told is void, the parts before included.
        self._void = False

    def __call__(self, event: Event) -> None:
        if type(event) is TextDelta:
            added = self._without_tail(self._seam.feed(event.text))
            if added:
                self._tell(
                    TextDelta(event.call_id, self._part.so_far + added if self._void else added)
                )
                self._told, self._void = True, False
        elif type(event) is AttemptFailed:
            self._tell(replace(event, text_was_sent=self._told))
            if self._told:
                self._void, self._tail = True, ""
            self._seam, self._told = Seam(self._part.anchor), False
        else:
            self._tell(event)

    def _without_tail(self, added: str) -> str:
        while self._tail and added and added[0] == self._tail[0]:
            self._tail, added = self._tail[1:], added[1:]
        if added:
            self._tail = ""
        return added


def _joined(before: MessageResponse, after: MessageResponse, text: str) -> MessageResponse:
    return replace(
        before,
        text=text,
        stop_reason=after.stop_reason,
        stop_details=after.stop_details,
        request_id=after.request_id,
        usage=before.usage + after.usage,
        lost_usages=(*before.lost_usages, *after.lost_usages),
        attempts=before.attempts + after.attempts,
        cost_usd=total_cost_usd((before.cost_usd, after.cost_usd)),
        discounts=total_discounts((before.discounts, after.discounts)),
        fallback_from=before.fallback_from or after.fallback_from,
    )


def _checked(request: MessageRequest, response: MessageResponse) -> MessageResponse:
    """The answer, unless it was to be JSON, came in parts, and is none."""
    if request.output_schema is None or not response.complete:
        return response
    try:
        json.loads(response.text)
    except (ValueError, RecursionError):
        raise _failed(
            response,
            "The answer was cut off at max_tokens, and its parts together are not JSON. Allow a longer answer (--max-tokens).",
        ) from None
    return response


def _failed(response: MessageResponse, message: str) -> IncompleteAnswerError:
    error = IncompleteAnswerError(message, response=replace(response, stop_reason=_CUT))
    error.cost_usd = response.cost_usd
    error.discounts = response.discounts
    return error


def _add_what_was_paid(error: CallError, before: MessageResponse) -> None:
    cost: Decimal | None = before.cost_usd
    discounts: Discounts | None = before.discounts
    if error.usages:
        cost = total_cost_usd((cost, error.cost_usd))
        discounts = total_discounts((discounts, error.discounts))
    error.usages = (before.usage, *before.lost_usages, *error.usages)
    error.attempts += before.attempts
    error.cost_usd = cost
    error.discounts = discounts or (NO_DISCOUNTS if cost is not None else None)
