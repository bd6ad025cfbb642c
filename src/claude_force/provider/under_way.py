"""One call under way, and one attempt of it: their clocks, and what a failure has to tell."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from claude_force.domain.errors import CallError, CallTimeoutError
from claude_force.domain.events import (
    AnswerStarted,
    AttemptFailed,
    AttemptStarted,
    LimitsSeen,
    TextDelta,
)
from claude_force.domain.tokens import estimate_piece

if TYPE_CHECKING:
    from types import TracebackType

    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.halting import Halt
    from claude_force.domain.messages import MessageResponse
    from claude_force.domain.usage import Usage
    from claude_force.resilience.slot import Slot


class Attempt:
    """Listens to one attempt: passes events on, and remembers what a failure has to tell."""

    __slots__ = (
        "_call_id",
        "_has_failed",
        "_listener",
        "_slot",
        "_text_tokens",
        "number",
        "on_wire",
        "sent",
        "usages",
    )

    def __init__(self, call_id: str, number: int, listener: EventListener | None) -> None:
        self._call_id = call_id
        self._listener = listener
        self._slot: Slot | None = None
        # About how long the text is that has come so far.
        self._text_tokens = 0.0
        self._has_failed = False
        self.number = number
        # The request went out, or was about to.
        self.sent = False
        # It went out, and how it ends is not known yet.
        self.on_wire = False
        # What the API had counted when the answer began; empty before.
        self.usages: tuple[Usage, ...] = ()

    def __call__(self, event: Event) -> None:
        """Hear what the client says."""
        if type(event) is TextDelta:
            self._text_tokens += estimate_piece(event.text)
        elif type(event) is AnswerStarted:
            self.usages = (event.usage,)
        elif type(event) is LimitsSeen and self._slot is not None:
            self._slot.observe(event.snapshot)
        if self._listener is not None:
            self._listener(event)

    def started(self, slot: Slot) -> None:
        """It goes out now."""
        self._slot = slot
        # A listener may refuse the attempt, which is then not sent.
        if self._listener is not None:
            self._listener(AttemptStarted(self._call_id, self.number))
        self.sent = self.on_wire = True

    def billable(self, usages: tuple[Usage, ...]) -> tuple[Usage, ...]:
        """What an attempt that broke off is likely to be billed for.

        The API counts an answer when it ends. Of one that did not end it had reported a token or so, and the text that
        came is an estimate of the rest; without it, broken answers would cost next to nothing in every budget.
        """
        written = round(self._text_tokens)
        if len(usages) != 1 or usages[0].output_tokens >= written:
            return usages
        return (replace(usages[0], output_tokens=written),)

    def failed(self, error: CallError, retry_in_seconds: float | None) -> None:
        """It came to nothing; told once, and only if it was sent."""
        self.on_wire = False
        if self._listener is None or not self.sent or self._has_failed:
            return
        self._has_failed = True
        self._listener(
            AttemptFailed(
                call_id=self._call_id,
                attempt=self.number,
                error_kind=error.kind,
                message=str(error),
                retry_in_seconds=retry_in_seconds,
                text_was_sent=self._text_tokens > 0,
            )
        )


class CallUnderWay:
    """A call from its first place in the queue to its end. Belongs to one event loop; `wake` may come from any thread.

    A context manager that ends every wait in it with a `TimeoutError` once the deadline has passed, or the run was
    stopped; ``expired`` then tells it from a `TimeoutError` of somebody else. It is `asyncio.timeout` without what
    every call would pay for and none needs: two coroutines, and a scope that is moved.

    Args:
        timeout_seconds: its deadline, from the moment of its first place on.
        halt: says when the run that it belongs to is stopped.
    """

    __slots__ = (
        "_at",
        "_cancelling",
        "_ended",
        "_halt",
        "_halted",
        "_loop",
        "_task",
        "_timer",
        "attempt",
        "expired",
        "lost",
        "timeout_seconds",
    )

    attempt: Attempt

    def __init__(self, timeout_seconds: float, halt: Halt | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._halt = halt
        self._ended = False
        # Its run was stopped, and the call ends for that.
        self._halted = False
        # The deadline by the loop's clock; None before the first place.
        self._at: float | None = None
        self.timeout_seconds = timeout_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        # Requests to cancel the task that came before, from others.
        self._cancelling = 0
        # Its waits were ended from here.
        self.expired = False
        # What attempts that came to nothing used.
        self.lost: tuple[Usage, ...] = ()

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._task, self._cancelling = task, task.cancelling()
        if self._halt is not None:
            self._halt.watch(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._halt is not None:
            self._halt.unwatch(self)
        # Somebody else may have cancelled the task beside us: that goes on.
        if (
            self.expired
            and self._task is not None
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    @property
    def remaining_seconds(self) -> float:
        """Until its deadline."""
        return self.timeout_seconds if self._at is None else self._at - self._loop.time()

    def start(self) -> None:
        """Start the clock, if it is not running."""
        if self._at is None:
            self._at = self._loop.time() + self.timeout_seconds
            if not self.expired:
                self._timer = self._loop.call_at(self._at, self._expire)

    def wake(self, *, cut: bool) -> None:
        """See `Halted.wake`."""
        # A loop that is closed has nobody who waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop, cut)

    def check(self) -> None:
        """Let the call go on.

        Raises:
            CallError: its run was stopped.
        """
        if self._halt is not None and self._halt.stopped:
            raise self._halt.refusal(sent=False)

    def answered(self, response: MessageResponse) -> MessageResponse:
        """The answer of a later attempt, with what came before it."""
        return replace(response, attempts=self.attempt.number, lost_usages=self.lost)

    def timed_out(self) -> CallError:
        """The error of a call whose time is over, or whose run was stopped."""
        attempt = self.attempt
        usages = attempt.billable(attempt.usages) if attempt.on_wire else ()
        if self._halt is not None and self._halted:
            error = self._halt.refusal(sent=attempt.on_wire)
            assert isinstance(error, CallError)  # noqa: S101 - the contract
            error.usages = usages
            return error
        last = (
            f"attempt {attempt.number}"
            if attempt.sent
            else f"attempt {attempt.number} was not sent"
        )
        return CallTimeoutError(
            f"No complete answer within {self.timeout_seconds:g} s ({last}).{billed(usages)} "
            "Allow more time (--timeout, timeout_seconds) or ask for less (--max-tokens).",
            usages=usages,
        )

    def close(self, error: CallError) -> None:
        """Put into the error of the call what all attempts took, and tell the run of it."""
        attempt = self.attempt
        error.usages = self.lost
        error.attempts = attempt.number if attempt.sent else attempt.number - 1
        if self._halt is not None:
            self._halt.consider(error)

    def _stop(self, cut: bool) -> None:  # noqa: FBT001 - an argument of call_soon
        if not self._ended and not self.expired and (cut or not self.attempt.on_wire):
            self._halted = True
            self._expire()

    def _expire(self) -> None:
        if not self._ended and not self.expired and self._task is not None:
            self.expired = True
            self._task.cancel()


def billed(usages: tuple[Usage, ...]) -> str:
    """A sentence for a message."""
    return " The prompt is billed all the same." if usages else ""
