"""A client whose requests go out in message batches: those that come together, together."""

from __future__ import annotations

import asyncio
import copy
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from claude_force.cache.fingerprint import request_key
from claude_force.domain.errors import CallError, ClaudeForceError, RateLimitError, ServiceError
from claude_force.domain.events import AttemptFailed, AttemptStarted, TextDelta
from claude_force.domain.usage import NO_USAGE
from claude_force.provider.batches_api import encode_item

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.provider.batches_api import BatchResult
    from claude_force.workflows.batch_run import BatchRun

# How long a group waits for more after the last request that came: nothing against the hours of a batch.
_QUIET_SECONDS: Final = 0.2
# How often a request goes out whose batch expired before it was reached, or that met a fault of the API: nothing was
# paid for it.
_ATTEMPTS: Final = 3


@dataclass(slots=True, eq=False)
class _Waiting:
    """One request that waits for its result."""

    request: MessageRequest
    on_event: EventListener | None
    answer: asyncio.Future[MessageResponse]
    # How often it was sent.
    attempts: int = 0

    def tell(self, event: Event) -> None:
        if self.on_event is not None:
            self.on_event(event)

    def wake(self, *, cut: bool) -> None:
        """See `Halted.wake`: what is in a batch is noted, so nobody has to wait for it here."""
        del cut
        self.answer.get_loop().call_soon_threadsafe(self._give_up)

    def _give_up(self) -> None:
        halt = self.request.context.halt
        if halt is not None and not self.answer.done():
            self.answer.set_exception(halt.refusal(sent=self.attempts > 0))


@dataclass(slots=True, eq=False)
class _Group:
    """Requests that go out together."""

    waiting: dict[str, _Waiting] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


class BatchingClient:
    """A `ModelClient` for the calls of one run, on one event loop.

    The items of one step are one group, and so are all calls of steps that do not fan out; a group is sent once no
    request of it has come for ``quiet_seconds`` and none is announced. What is in a batch already, of this process or
    one that died, is not sent again. A request that was not reached within a day, or met a fault of the API, is sent again
    twice; nothing was paid for it. Every other result is the caller's: an answer, or the error of the request.

    A result stays noted until `settle`, so that nothing is lost with a process that dies before it has kept it.

    Args:
        run: sends and collects.
        origin: the provider, as keys name it.
        quiet_seconds: how long a group waits for more.
    """

    def __init__(
        self, run: BatchRun, *, origin: str, quiet_seconds: float = _QUIET_SECONDS
    ) -> None:
        self._run = run
        self._origin = origin
        self._quiet_seconds = quiet_seconds
        self._announced: set[str] = set()
        self._groups: dict[str, _Group] = {}
        self._going: set[asyncio.Task[None]] = set()
        self._under_way: dict[str, _Waiting] = {}
        # Keys whose results were handed on.
        self._delivered: set[str] = set()

    def announce(self, call_id: str) -> None:
        """A request of this call may be on its way here: wait for it before anything is sent."""
        self._announced.add(call_id)

    def withdraw(self, call_id: str) -> None:
        """The call has ended, or was answered in another way."""
        self._announced.discard(call_id)

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        """The answer to one request, once its batch has ended; see `ModelClient.send`."""
        self._announced.discard(request.context.call_id)
        key = request_key(request, self._origin)
        if key in self._delivered:
            # Asked again after a result that was of no use.
            self._delivered.discard(key)
            await self._run.taken((key,))
        under_way = self._under_way.get(key)
        if under_way is not None:
            # Paid for by the other one.
            response = await asyncio.shield(under_way.answer)
            return replace(response, usage=NO_USAGE, attempts=0)
        waiting = _Waiting(request, on_event, asyncio.get_running_loop().create_future())
        self._under_way[key] = waiting
        halt = request.context.halt
        if halt is not None:
            halt.watch(waiting)
        try:
            self._join(key, waiting)
            response = await waiting.answer
        finally:
            del self._under_way[key]
            if halt is not None:
                halt.unwatch(waiting)
        waiting.tell(TextDelta(request.context.call_id, response.text))
        return replace(response, attempts=waiting.attempts)

    async def settle(self, kept: Iterable[str] = ()) -> None:
        """Forget the results that were handed on, and those of ``kept``: nobody needs them any more."""
        delivered, self._delivered = self._delivered, set()
        await self._run.taken(delivered.union(kept))

    async def aclose(self) -> None:
        """Stop waiting; what was sent stays noted."""
        for group in self._groups.values():
            if group.timer is not None:
                group.timer.cancel()
        self._groups.clear()
        going = tuple(self._going)
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)

    def _join(self, key: str, waiting: _Waiting) -> None:
        context = waiting.request.context
        name = "" if context.item_index is None else context.step_id or ""
        group = self._groups.setdefault(name, _Group())
        group.waiting[key] = waiting
        self._arm(name, group)

    def _arm(self, name: str, group: _Group) -> None:
        if group.timer is not None:
            group.timer.cancel()
        loop = asyncio.get_running_loop()
        group.timer = loop.call_later(self._quiet_seconds, self._leave, name, group)

    def _leave(self, name: str, group: _Group) -> None:
        """Send a group, unless more is on its way to it."""
        if self._announced:
            self._arm(name, group)
            return
        del self._groups[name]
        task = asyncio.create_task(self._go(group.waiting))
        self._going.add(task)
        task.add_done_callback(self._going.discard)

    async def _go(self, waiting: Mapping[str, _Waiting]) -> None:
        """Send a group, and hand on what comes of it."""
        left = dict(waiting)
        try:
            while left := _started(left):
                await self._run.submit(
                    {key: partial(encode_item, key, one.request) for key, one in left.items()}
                )
                left = await self._collect(left)
        except CallError as error:
            _fail(left.values(), error)
        except ClaudeForceError as error:
            # The disk, or the configuration: no call can go on.
            for one in left.values():
                if not one.answer.done():
                    one.answer.set_exception(error)
        finally:
            # Cancelled, or broken: nobody may be left waiting.
            _fail(left.values(), _ended())

    async def _collect(self, waiting: Mapping[str, _Waiting]) -> dict[str, _Waiting]:
        """Hand on the results; what is worth another attempt is left."""
        again: dict[str, _Waiting] = {}
        async with aclosing(self._run.collect(list(waiting), forget=False)) as results:
            async for result in results:
                one = waiting[result.custom_id]
                if one.attempts < _ATTEMPTS and _may_pass(result.error):
                    again[result.custom_id] = one
                    one.tell(_failed_attempt(one, result.error))
                else:
                    self._delivered.add(result.custom_id)
                    _hand_on(one, result)
        if again:
            await self._run.taken(again)
        return again


def _started(waiting: Mapping[str, _Waiting]) -> dict[str, _Waiting]:
    """Those that may go out: a listener may refuse, and a caller may have left."""
    found = {}
    for key, one in waiting.items():
        if one.answer.done():
            continue
        try:
            one.tell(AttemptStarted(one.request.context.call_id, one.attempts + 1))
        except CallError as error:
            one.answer.set_exception(error)
            continue
        one.attempts += 1
        found[key] = one
    return found


def _hand_on(one: _Waiting, result: BatchResult) -> None:
    if one.answer.done():
        return
    if result.response is not None:
        one.answer.set_result(result.response)
    else:
        _fail((one,), result.error or ServiceError("The batch has no result for this request."))


def _fail(waiting: Iterable[_Waiting], error: CallError) -> None:
    """The same error for each; every call gets its own, since layers write into it what it cost."""
    for one in waiting:
        if not one.answer.done():
            own = copy.copy(error)
            own.attempts = one.attempts
            one.answer.set_exception(own)


def _may_pass(error: CallError | None) -> bool:
    return isinstance(error, (ServiceError, RateLimitError)) and error.should_retry is not False


def _failed_attempt(one: _Waiting, error: CallError | None) -> AttemptFailed:
    kind = "service" if error is None else error.kind
    return AttemptFailed(one.request.context.call_id, one.attempts, kind, str(error), 0.0, False)  # noqa: FBT003 - the event's last field


def _ended() -> ServiceError:
    return ServiceError(
        "Nobody waits for the batch any more. What is in it is noted: ask again to collect it.",
        should_retry=False,
    )
