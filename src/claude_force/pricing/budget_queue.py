"""Calls that wait until others have settled what they hold of a budget."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING

from claude_force.pricing.budgets import ZERO

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from claude_force.domain.errors import BudgetExceededError
    from claude_force.domain.halting import Halt
    from claude_force.pricing.budgets import BudgetKey


class BudgetPlace:
    """One call's place in the queue of the budget that refused it last.

    Args:
        halt: ends the wait when the run of the call is stopped.
    """

    __slots__ = ("_future", "_halt", "_loop", "key")

    def __init__(self, halt: Halt) -> None:
        self._halt = halt
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] | None = None
        # In whose queue it was last; whoever was behind it has its turn afterwards.
        self.key: BudgetKey | None = None

    def start_waiting(self) -> None:
        """Make what `let_go` ends; the queue holds its lock."""
        self._future = self._loop.create_future()

    async def wait(self) -> None:
        """Until somebody has settled.

        Raises:
            CallError: the run was stopped.
        """
        assert self._future is not None  # noqa: S101 - `start_waiting` was called
        self._halt.watch(self)
        try:
            await self._future
        finally:
            self._halt.unwatch(self)

    def let_go(self) -> None:
        """End the wait. From any thread."""
        self._end(None)

    def wake(self, *, cut: bool) -> None:  # noqa: ARG002 - nothing of it is on the wire
        """See `Halted.wake`."""
        self._end(self._halt.refusal(sent=False))

    def _end(self, error: Exception | None) -> None:
        # A loop that is closed has nobody who waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish, error)

    def _finish(self, error: Exception | None) -> None:
        if self._future is None or self._future.done():
            return
        if error is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(error)


class BudgetQueue:
    """Knows what calls under way hold of each budget, and lets go who waits for it, one by one in order.

    It reserves nothing: who is let go tries again, and goes back to the front of the queue if there is still hope. Only
    what ends soon is counted, so that nobody waits for a batch. Any number of threads and event loops may use it.
    """

    def __init__(self) -> None:
        # Protects the rest: whether there is hope is decided, and a place taken, in one step.
        self._lock = threading.Lock()
        self._held: dict[BudgetKey, Decimal] = {}
        self._waiting: dict[BudgetKey, OrderedDict[BudgetPlace, None]] = {}
        # How often something was settled: tells who was refused whether that is still true.
        self.settlements = 0

    def hold(self, keys: Iterable[BudgetKey], amount_usd: Decimal) -> None:
        """A call has reserved so much."""
        with self._lock:
            for key in keys:
                self._held[key] = self._held.get(key, ZERO) + amount_usd

    def settled(self, keys: Iterable[BudgetKey], amount_usd: Decimal) -> None:
        """It has ended, and what it cost is counted: whoever waits for a budget of its may try."""
        with self._lock:
            self.settlements += 1
            self._give_back(keys, amount_usd)

    def withdrawn(self, keys: Iterable[BudgetKey], amount_usd: Decimal) -> None:
        """Another budget refused the call: it holds nothing any more."""
        with self._lock:
            self._give_back(keys, amount_usd)

    async def wait(self, place: BudgetPlace, refusal: BudgetExceededError, *, seen: int) -> bool:
        """Wait until it is worth trying again; False at once where it never is, whatever calls under way will cost.

        Args:
            place: of the call that was refused.
            refusal: what it was refused with.
            seen: `settlements` before it tried.

        Raises:
            CallError: the run of the call was stopped.
        """
        key = refusal.budget
        with self._lock:
            if self.settlements != seen:
                return True
            if key is None or self._held.get(key, ZERO) < (refusal.missing_usd or ZERO):
                return False
            waiting = self._waiting.setdefault(key, OrderedDict())
            waiting[place] = None
            if place.key == key:
                waiting.move_to_end(place, last=False)
            else:
                self._let_next_go(place.key)
                place.key = key
            place.start_waiting()
        try:
            await place.wait()
        except BaseException:
            with self._lock:
                self._remove(place, key)
            raise
        return True

    def leave(self, place: BudgetPlace) -> None:
        """The call waits no more, whatever became of it: who was behind it may try."""
        with self._lock:
            self._let_next_go(place.key)

    def _give_back(self, keys: Iterable[BudgetKey], amount_usd: Decimal) -> None:
        held = self._held
        for key in keys:
            left = held.get(key, ZERO) - amount_usd
            if left:
                held[key] = left
            else:
                # Several that hold nothing, of a free model, are forgotten by the first of them.
                held.pop(key, None)
            if self._waiting:
                self._let_next_go(key)

    def _let_next_go(self, key: BudgetKey | None) -> None:
        waiting = None if key is None else self._waiting.get(key)
        if waiting and key is not None:
            place, _ = waiting.popitem(last=False)
            if not waiting:
                del self._waiting[key]
            place.let_go()

    def _remove(self, place: BudgetPlace, key: BudgetKey) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.pop(place, None)
            if not waiting:
                del self._waiting[key]
