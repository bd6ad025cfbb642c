"""Circuit breakers around attempts, one for each origin and model, shared with the other processes where possible."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from claude_force.domain.errors import CallError, CircuitOpenError
from claude_force.resilience.breaker import (
    CLOSED,
    BreakerPolicy,
    BreakerState,
    Outcome,
    Verdict,
    admit,
    outcome_of,
    passed,
    probed,
)
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from claude_force.resilience.breaker import BreakerStates

# How old what is known of the other processes' breakers may be: one call a second looks them up.
_FRESH_SECONDS: Final = 1.0


class CircuitBreakers:
    """``async with breakers.guard(origin, model):`` around one attempt.

    Any number of tasks, threads and event loops may use it at the same time. While a breaker is closed, one
    call a second looks whether another process has opened it; the others touch memory only. One that opens is told to the other processes, and a probe is agreed with them in one
    transaction, so that there is exactly one.

    Args:
        shared: where the processes of the user meet; None leaves this process alone.
        wall_clock: seconds since the epoch: processes compare them, and messages name them.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        shared: BreakerStates | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._policy = policy or BreakerPolicy()
        self._shared = shared
        self._wall_clock = wall_clock
        # Protects the states; held for some instructions, never across an await or a disk.
        self._lock = threading.Lock()
        self._states: dict[str, BreakerState] = {}
        self._looked_at: dict[str, float] = {}
        # When an attempt last showed that the service is there.
        self._alive_at: dict[str, float] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._probes = 0
        # Why sharing failed; the breakers then work for this process alone.
        self.sharing_failure: str | None = None

    def guard(self, origin: str, model: str) -> Guard:
        """The guard of one attempt. Entering raises `CircuitOpenError` while the service is taken to be down.

        An attempt that succeeds, or fails by its own fault, shows that the service is there; faults of the service
        and of the connection count against it; a cancelled one says nothing.
        """
        key = self._keys.get((origin, model))
        if key is None:
            key = self._keys[origin, model] = f"{model} at {origin}"
        return Guard(self, key)

    def states(self) -> dict[str, BreakerState]:
        """Every breaker of this process that is not at rest, by model and origin."""
        with self._lock:
            return dict(self._states)

    # The rest is called by guards.

    def passes(self, key: str) -> bool:
        """True when an attempt may go and nobody has to be asked: the usual case."""
        if key in self._states:
            return False
        return self._shared is None or (
            self._wall_clock() - self._looked_at.get(key, 0.0) <= _FRESH_SECONDS
        )

    async def enter(self, key: str) -> str | None:
        """Let an attempt through; returns who it probes for, or None for an ordinary one."""
        now = self._wall_clock()
        with self._lock:
            state = self._states.get(key, CLOSED)
            stale = now - self._looked_at.get(key, 0.0) > _FRESH_SECONDS
            if stale:
                # Set before the look, so that of many calls at once only one looks.
                self._looked_at[key] = now
            self._probes += 1
            prober = f"{id(self):x}-{self._probes}"
        if self._shared is None:
            return self._decide(key, now, prober)
        if not stale and (
            state.opened_at is None
            or state.probe_by is not None
            or now < state.next_probe_at(self._policy)
        ):
            # Nobody has to be asked: it is closed, or no probe is due.
            return self._decide(key, now, prober)
        return await asyncio.to_thread(self._decide_together, key, now, prober)

    def is_news(self, key: str, prober: str | None, outcome: Outcome) -> bool:
        """True when the end of an attempt changes anything: not for a success while all is well."""
        if outcome is Outcome.ALIVE:
            self._alive_at[key] = self._wall_clock()
        return prober is not None or outcome is Outcome.DOWN or key in self._states

    def leave(self, key: str, prober: str | None, outcome: Outcome, message: str) -> bool:
        """An attempt ended; True if the other processes have to be told."""
        now = self._wall_clock()
        with self._lock:
            state = self._states.get(key, CLOSED)
            if prober is None:
                alive_at = self._alive_at.get(key)
                after = passed(
                    state, self._policy, now, outcome, message=message, alive_at=alive_at
                )
            else:
                after = probed(state, outcome, by=prober, message=message)
            self._keep(key, after)
            opened = after.opened_at is not None and state.opened_at is None
            return self._shared is not None and (opened or prober is not None)

    def tell(self, key: str, prober: str | None, outcome: Outcome, message: str) -> None:
        """Tell the other processes how an attempt ended; may wait for a disk."""
        with self._lock:
            mine = self._states.get(key, CLOSED)

        def change(theirs: BreakerState) -> BreakerState:
            if prober is not None:
                return probed(theirs, outcome, by=prober, message=message)
            return mine if theirs.opened_at is None else theirs

        self._share(key, change)

    def _decide(self, key: str, now: float, prober: str) -> str | None:
        with self._lock:
            state, verdict = admit(self._states.get(key, CLOSED), self._policy, now, by=prober)
            self._keep(key, state)
        return self._judged(key, state, verdict, now, prober)

    def _decide_together(self, key: str, now: float, prober: str) -> str | None:
        """Decide on what all processes know."""
        with self._lock:
            mine = self._states.get(key, CLOSED)
        verdict = Verdict.PASS

        def change(theirs: BreakerState) -> BreakerState:
            nonlocal verdict
            after, verdict = admit(theirs, self._policy, now, by=prober)
            return after

        shared = self._share(key, change)
        if shared is None:
            return self._decide(key, now, prober)
        if shared.opened_at is None and mine.opened_at is None:
            shared = mine
        with self._lock:
            self._keep(key, shared)
        return self._judged(key, shared, verdict, now, prober)

    def _share(
        self, key: str, change: Callable[[BreakerState], BreakerState]
    ) -> BreakerState | None:
        """Change the common state; None when there is none any more."""
        shared = self._shared
        if shared is None:
            return None
        try:
            return shared.change(key, change)
        except StorageError as error:
            self.sharing_failure, self._shared = str(error), None
            return None

    def _keep(self, key: str, state: BreakerState) -> None:
        if state == CLOSED:
            self._states.pop(key, None)
        else:
            self._states[key] = state

    def _judged(
        self, key: str, state: BreakerState, verdict: Verdict, now: float, prober: str
    ) -> str | None:
        if verdict is Verdict.REFUSE:
            raise _refusal(key, state, self._policy, now)
        return prober if verdict is Verdict.PROBE else None


class Guard:
    """See `CircuitBreakers.guard`. Used once."""

    __slots__ = ("_breakers", "_key", "_prober")

    def __init__(self, breakers: CircuitBreakers, key: str) -> None:
        self._breakers = breakers
        self._key = key
        self._prober: str | None = None

    async def __aenter__(self) -> Self:
        if not self._breakers.passes(self._key):
            self._prober = await self._breakers.enter(self._key)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        outcome = Outcome.ALIVE
        if error is not None:
            outcome = outcome_of(error) if isinstance(error, CallError) else Outcome.UNKNOWN
        if not self._breakers.is_news(self._key, self._prober, outcome):
            return
        message = str(error) if outcome is Outcome.DOWN else ""
        if self._breakers.leave(self._key, self._prober, outcome, message):
            telling = asyncio.get_running_loop().run_in_executor(
                None, self._breakers.tell, self._key, self._prober, outcome, message
            )
            # Told even if this task is cancelled meanwhile: otherwise nobody would probe again.
            await asyncio.shield(telling)


def _refusal(key: str, state: BreakerState, policy: BreakerPolicy, now: float) -> CircuitOpenError:
    opened_at, next_probe_at = state.opened_at or now, state.next_probe_at(policy)
    seconds = max(0.0, next_probe_at - now)
    due = f"the next probe is due at {_time(next_probe_at)}, in {seconds:.0f} s"
    if state.probe_by is not None:
        due = f"a probe is under way since {_time(state.probed_at or now)}"
    latest = f" The last error was: {state.errors[-1]}" if state.errors else ""
    return CircuitOpenError(
        f"Nothing is sent to {key}: it has failed {state.failures} times in a row, the circuit breaker is open since "
        f"{_time(opened_at)}, and {due}.{latest}",
        retry_after_seconds=seconds,
        attempts=0,
    )


def _time(epoch_seconds: float) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415 - only for a message

    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%H:%M:%S UTC")
