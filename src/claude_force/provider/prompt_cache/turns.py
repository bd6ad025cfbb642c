"""Who writes a prefix, who waits for it, and who is told when it can be read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from claude_force.provider.prompt_cache.history import PrefixHistory
from claude_force.provider.prompt_cache.outlook import Outlook
from claude_force.provider.prompt_cache.planner import Plan, plan_marks

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.companions import Companions
    from claude_force.domain.usage import Usage
    from claude_force.provider.prompt_cache.history import Others, Record
    from claude_force.provider.prompt_cache.outlook import CacheRates
    from claude_force.provider.prompt_cache.prefixes import Prefix, PrefixKey


@dataclass(slots=True, eq=False)
class Waiter:
    """One call that waits; it may be told from any thread."""

    loop: asyncio.AbstractEventLoop
    told: asyncio.Future[None]

    def wake(self) -> None:
        """Let it look again."""
        try:
            if asyncio.get_running_loop() is self.loop:
                self._set()
                return
        except RuntimeError:
            # No loop runs in this thread.
            pass
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self.told.done():
            self.told.set_result(None)


@dataclass(slots=True, eq=False)
class Write:
    """A request that will make prefixes readable, until its answer has begun."""

    keys: tuple[PrefixKey, ...]
    waiters: list[Waiter] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Go:
    """A call is sent now, marked like this."""

    plan: Plan
    write: Write | None


@dataclass(frozen=True, slots=True)
class Wait:
    """A call waits: for the answer to a request that writes what it would read, or to know whether others follow."""

    waiter: Waiter
    # None while nobody writes yet.
    write: Write | None


class Turns:
    """The state that all calls of a process share. Any thread may call any method; none of them waits.

    Args:
        one_hour: whether the longer lifetime may be chosen.
        clock: monotonic seconds.
        others: processes that see the same prefixes.
    """

    def __init__(
        self, *, one_hour: bool, clock: Callable[[], float], others: Others | None = None
    ) -> None:
        self._one_hour = one_hour
        self._clock = clock
        self._history = PrefixHistory(others)
        self._writes: dict[PrefixKey, Write] = {}
        # How many calls wait, by what they begin with.
        self._waiting: dict[PrefixKey, int] = {}
        # Those of them that wait to know whether others follow.
        self._undecided: dict[PrefixKey, list[Waiter]] = {}
        # Guards all of the above; never held over an await.
        self._lock = Lock()

    def arrive(self, prefixes: tuple[Prefix, ...], *, expected: bool = False) -> list[Record]:
        """A call has come, ``expected`` or not, that begins with these; what is known of them, in the same order."""
        with self._lock:
            return self._history.asked(prefixes, self._clock(), expected=expected)

    def leave(self, prefixes: tuple[Prefix, ...]) -> None:
        """A call that has waited is sent now, or has given up."""
        with self._lock:
            for prefix in prefixes:
                left = self._waiting[prefix.key] - 1
                if left:
                    self._waiting[prefix.key] = left
                else:
                    del self._waiting[prefix.key]

    def next(
        self,
        prefixes: tuple[Prefix, ...],
        records: list[Record],
        rates: CacheRates,
        companions: Companions | None,
        *,
        patient: bool,
        curious: bool,
        waited: bool,
        gave_up_on: Write | None = None,
    ) -> Go | Wait:
        """What a call that has arrived does now.

        Args:
            prefixes: what it begins with.
            records: of the prefixes.
            rates: what writing and reading cost.
            companions: the calls that are made together with it.
            patient: it may wait for what another call writes; otherwise it reads what can be read and writes nothing.
            curious: it may wait to know whether others follow.
            waited: it is one of those that wait already; one that is told to wait now is one from then on.
            gave_up_on: the write that it has waited for too long: if nobody else has, it writes in its place.
        """
        with self._lock:
            if gave_up_on is not None and self._drop(gave_up_on):
                patient = True
            now = self._clock()
            outlooks = [
                Outlook(
                    prefix=prefix,
                    warm=record.warm(now),
                    readers=self._others(prefix.key, companions) - waited,
                    gaps=record.telling_gaps,
                )
                for prefix, record in zip(prefixes, records, strict=True)
                if not record.refused
            ]
            write = self._awaited(outlooks)
            if write is not None and patient:
                return self._wait(prefixes, write, waited=waited)
            plan = plan_marks(
                outlooks, rates, one_hour=self._one_hour, may_write=patient and write is None
            )
            if plan.written:
                return Go(plan, self._begin(plan))
            cold = [outlook.prefix.key for outlook in _behind_warm(outlooks)]
            if curious and patient and cold and companions is not None and companions.on_the_way:
                wait = self._wait(prefixes, None, waited=waited)
                for key in cold:
                    self._undecided.setdefault(key, []).append(wait.waiter)
                return wait
            return Go(plan, None)

    def stop_waiting(self, wait: Wait, prefixes: tuple[Prefix, ...]) -> None:
        """The call of ``wait`` was told, or waits no more."""
        with self._lock:
            if wait.write is not None:
                if wait.waiter in wait.write.waiters:
                    wait.write.waiters.remove(wait.waiter)
                return
            for prefix in prefixes:
                waiting = self._undecided.get(prefix.key)
                if waiting is not None and wait.waiter in waiting:
                    waiting.remove(wait.waiter)
                    if not waiting:
                        del self._undecided[prefix.key]

    def answered(
        self,
        go: Go,
        prefixes: tuple[Prefix, ...],
        usage: Usage,
        rates: CacheRates,
        *,
        sent_at: float,
    ) -> None:
        """The answer has begun: what was written can be read from now on."""
        marks = go.plan.marks
        with self._lock:
            if usage.cache_write_tokens or usage.cache_read_tokens:
                self._history.kept(prefixes, marks, since=sent_at, rates=rates)
            else:
                self._history.refused(prefixes, marks, since=sent_at)
        self.ended(go)

    def ended(self, go: Go) -> None:
        """The call is over, or its answer has begun; whoever waits for it looks again."""
        if go.write is None:
            return
        with self._lock:
            self._drop(go.write)
            waiting, go.write.waiters = go.write.waiters, []
        for waiter in waiting:
            waiter.wake()

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()

    def _others(self, key: PrefixKey, companions: Companions | None) -> int:
        to_come = 0 if companions is None else companions.to_come(key)
        return self._waiting.get(key, 0) + to_come

    def _awaited(self, outlooks: list[Outlook]) -> Write | None:
        """The request under way that writes the longest of the prefixes that cannot be read yet."""
        for outlook in reversed(_behind_warm(outlooks)):
            write = self._writes.get(outlook.prefix.key)
            if write is not None:
                return write
        return None

    def _begin(self, plan: Plan) -> Write:
        write = Write(tuple(outlook.prefix.key for outlook in plan.written))
        for key in write.keys:
            self._writes[key] = write
            for waiter in self._undecided.get(key, ()):
                waiter.wake()
        return write

    def _drop(self, write: Write) -> bool:
        """Take the write off the board; False where it is not there any more."""
        found = False
        for key in write.keys:
            if self._writes.get(key) is write:
                del self._writes[key]
                found = True
        return found

    def _wait(self, prefixes: tuple[Prefix, ...], write: Write | None, *, waited: bool) -> Wait:
        if not waited:
            for prefix in prefixes:
                self._waiting[prefix.key] = self._waiting.get(prefix.key, 0) + 1
        loop = asyncio.get_running_loop()
        waiter = Waiter(loop, loop.create_future())
        if write is not None:
            write.waiters.append(waiter)
        return Wait(waiter, write)


def _behind_warm(outlooks: list[Outlook]) -> list[Outlook]:
    """The prefixes beyond the longest one that can be read."""
    warm = max((at for at, one in enumerate(outlooks) if one.warm is not None), default=-1)
    return outlooks[warm + 1 :]
