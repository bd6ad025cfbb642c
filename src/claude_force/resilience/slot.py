"""One request's place with the governor."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, Self

from claude_force.domain.errors import CallError
from claude_force.resilience.ticket import Ticket

if TYPE_CHECKING:
    from types import TracebackType

    from claude_force.domain.rate_limits import RateSnapshot
    from claude_force.domain.usage import Usage
    from claude_force.resilience.rate_class import Estimate


class Keeper(Protocol):
    """What a slot needs of its governor. Every method may be called from any thread."""

    def enter(self, slot: Slot) -> bool:
        """Let the request out at once, or queue it and return False."""
        ...

    def leave(self, slot: Slot) -> None:
        """Forget a request that was not sent."""
        ...

    def finish(self, slot: Slot) -> None:
        """End a request that was let out, with what ``slot.usage`` and ``slot.error`` tell."""
        ...

    def observe(self, slot: Slot, snapshot: RateSnapshot) -> None:
        """Take over what a response reports."""
        ...


class Slot(Ticket):
    """``async with`` waits until the request may go out, and gives its place back at the end.

    Within it tell what happened: `observe` the response's headers when they arrive, then `settle` with the usage of
    the answer. A `CallError` that leaves the block is taken as the request's failure. Whatever ends it otherwise,
    cancellation included, leaves nothing reserved. A slot is used once.
    """

    __slots__ = ("_future", "_keeper", "_loop", "error", "usage")

    def __init__(
        self,
        keeper: Keeper,
        key: str,
        flow: str,
        estimate: Estimate,
        patience_seconds: float,
    ) -> None:
        super().__init__(key, flow, estimate, patience_seconds)
        self._keeper = keeper
        # How the request ended, as far as anybody has told.
        self.usage: Usage | None = None
        self.error: CallError | None = None
        self._future: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        if self._keeper.enter(self):
            return self
        assert self._future is not None  # noqa: S101 - `enter` has called `start_waiting`
        try:
            await self._future
        except BaseException:
            # Also when the place was granted at the same moment: it is handed on.
            self._keeper.leave(self)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, CallError):
            self.error = error
        self._keeper.finish(self)

    def observe(self, snapshot: RateSnapshot) -> None:
        """Tell what the response's headers say; of an error's response too."""
        if snapshot:
            self._keeper.observe(self, snapshot)

    def settle(self, usage: Usage) -> None:
        """Tell what the answer used; counts at the end of the block.

        An empty usage says that nothing was sent: every answer has read a prompt.
        """
        self.usage = usage

    def failed(self, error: CallError) -> None:
        """Tell that the request failed, where the error does not leave the block."""
        self.error = error

    def start_waiting(self) -> None:
        """Make what `wake` and `turn_away` end; the governor holds its lock."""
        self._loop = asyncio.get_running_loop()
        self._future = self._loop.create_future()

    def wake(self) -> bool:
        """End the wait: the request may go out. False if its loop is closed, so that nobody waits. From any thread."""
        return self._end_wait(None)

    def turn_away(self, error: Exception) -> bool:
        """End the wait with an error; as `wake`."""
        return self._end_wait(error)

    def _end_wait(self, error: Exception | None) -> bool:
        assert self._loop is not None and self._future is not None  # noqa: S101, PT018 - it waits
        try:
            if self._loop is _running_loop():
                _end(self._future, error)
            else:
                self._loop.call_soon_threadsafe(_end, self._future, error)
        except RuntimeError:
            return False
        return True


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _end(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
