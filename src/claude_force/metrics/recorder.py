"""Listens to calls and keeps a row of each, off the event loop.

On the loop a finished call costs a few dictionary operations and one append. A thread of the recorder's own turns what
was heard into rows and writes them, many in one transaction; SQLite and everything behind it is imported there, so
that a program which has not finished a call has not paid for it.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections import deque
from dataclasses import dataclass
from threading import Event as Signal
from threading import Lock, Thread, current_thread
from typing import TYPE_CHECKING, Final

from claude_force.domain.events import (
    AttemptFailed,
    CallFailed,
    CallFinished,
    CallStarted,
    RunFinished,
    RunStarted,
    TextDelta,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from claude_force.domain.events import Event
    from claude_force.metrics.log import RowLog
    from claude_force.metrics.rows import Heard

# Long enough to gather a burst into one transaction; what a crash may lose.
_LINGER_SECONDS: Final = 0.05
# A thread without work ends, so that a recorder which nobody closed can be collected.
_IDLE_SECONDS: Final = 10.0
# A disk that hangs must not fill the memory: what exceeds this is counted and lost.
_MOST_WAITING: Final = 100_000
# Few enough for the caches of a processor, and for other processes to get their turn in between.
_ROWS_AT_ONCE: Final = 4000
# Calls that never told their end, because they were cancelled, are forgotten beyond this many.
_MOST_OPEN: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderStats:
    """What became of the calls that a recorder heard of."""

    written: int
    # Not written: the store could not be used, or too much was waiting for it.
    lost: int


class Recorder:
    """An `EventListener` that keeps a row of every call in the database at ``path``.

    Rows are on disk within a second, and when `close` returns. A store that cannot be used costs rows, never a call:
    they are counted, and the reason is logged once. Any thread and event loop may tell it of events.

    Args:
        path: of the database; it is made by the first row. Any number of processes may write to it.
        retention_days: how long rows are kept; what they were rolled up into stays.
        wall_clock: seconds since the epoch, the time of the rows.
        monotonic: seconds, for durations.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention_days: int = 30,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._retention_days = retention_days
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._heard: deque[Heard] = deque()
        # Of calls that have not ended, by their ids: when each began, and how long its first text took. Two plain
        # dictionaries, because an object of ours for each call would be a third of what the loop pays.
        self._began: dict[str, float] = {}
        self._first_text: dict[str, float] = {}
        self._dropped = 0
        self._closed = False
        self._told_lost = False
        self._log: RowLog | None = None
        self._thread: Thread | None = None
        self._start_threading()
        # A plain reference would keep every recorder alive until exit.
        reference = weakref.ref(self)
        self._at_exit = lambda: _close(reference)
        atexit.register(self._at_exit)
        os.register_at_fork(after_in_child=lambda: _start_over(reference))

    def __call__(self, event: Event) -> None:
        """Hear of one event; returns at once."""
        kind = type(event)
        if kind is TextDelta:
            call_id = event.call_id  # type: ignore[union-attr] # `kind` has decided
            if call_id not in self._first_text:
                began = self._began.get(call_id)
                if began is not None:
                    self._first_text[call_id] = self._monotonic() - began
        elif kind is CallFinished or kind is CallFailed:
            call_id = event.call_id  # type: ignore[union-attr] # as above
            self._began.pop(call_id, None)
            self._append((self._wall_clock(), event, self._first_text.pop(call_id, None)))
        elif kind is CallStarted:
            if len(self._began) >= _MOST_OPEN:
                self._forget_oldest()
            self._began[event.call_id] = self._monotonic()  # type: ignore[union-attr] # as above
        elif kind is RunStarted or kind is RunFinished:
            self._append((self._wall_clock(), event, None))
        elif kind is AttemptFailed and event.text_was_sent:  # type: ignore[union-attr] # as above
            # That text is void.
            self._first_text.pop(event.call_id, None)  # type: ignore[union-attr] # as above

    def flush(self) -> None:
        """Write on the calling thread whatever was heard so far."""
        with self._writing:
            self._drain()

    def close(self) -> None:
        """Write what was heard, and close. What comes later is lost; a second call does nothing.

        The thread has ended when it returns.
        """
        atexit.unregister(self._at_exit)
        self._closed = True
        self._ending.set()
        self._alarm.set()
        with self._writing:
            self._drain()
            if self._log is not None:
                self._log.close()
            self._tell_lost()
        with self._waking:
            thread = self._thread
        if thread is not None and thread is not current_thread():
            thread.join()

    async def aclose(self) -> None:
        """`close`, off the event loop."""
        if self._log is None and not self._heard:
            # Nothing was ever recorded: there is nothing to wait for.
            self.close()
            return
        import asyncio  # noqa: PLC0415 - a program without a loop needs none

        await asyncio.to_thread(self.close)

    def stats(self) -> RecorderStats:
        """What became of the calls so far."""
        log = self._log
        written, lost = (0, 0) if log is None else (log.written, log.lost)
        return RecorderStats(written=written, lost=lost + self._dropped)

    def _tell_lost(self) -> None:
        lost = self.stats().lost
        if lost and not self._told_lost:
            self._told_lost = True
            import logging  # noqa: PLC0415 - see the top of the module

            logging.getLogger(__name__).info("calls were not recorded", extra={"calls": lost})

    def _forget_oldest(self) -> None:
        call_id = next(iter(self._began))
        self._began.pop(call_id, None)
        self._first_text.pop(call_id, None)

    def _append(self, heard: Heard) -> None:
        if self._closed or len(self._heard) >= _MOST_WAITING:
            self._dropped += type(heard[1]) is CallFinished or type(heard[1]) is CallFailed
            return
        self._heard.append(heard)
        if self._asleep:
            self._rouse()

    def _rouse(self) -> None:
        with self._waking:
            self._asleep = False
            if self._thread is not None:
                self._alarm.set()
                return
            thread = Thread(target=self._run, name="claude-force-metrics-writer", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is shutting down: the exit handler writes the rest.
                return
            self._thread = thread

    def _run(self) -> None:
        while True:
            self._ending.wait(_LINGER_SECONDS)
            self.flush()
            if not self._heard and not self._wait_for_work():
                return

    def _wait_for_work(self) -> bool:
        """Sleep until something is heard; False when it is time to end."""
        self._alarm.clear()
        self._asleep = True
        # Looked at after the mark: whatever was appended before it did not rouse this thread.
        awake = bool(self._heard) or self._closed or self._alarm.wait(_IDLE_SECONDS)
        with self._waking:
            if self._closed or (not awake and not self._heard):
                self._thread = None
                return False
            self._asleep = False
            return True

    def _drain(self) -> None:
        count = len(self._heard)
        if not count:
            return
        if self._log is None:
            from claude_force.metrics.log import RowLog  # noqa: PLC0415 - see the top of the module

            self._log = RowLog(self._path, retention_days=self._retention_days)
        for start in range(0, count, _ROWS_AT_ONCE):
            heard = [self._heard.popleft() for _ in range(min(_ROWS_AT_ONCE, count - start))]
            self._log.append(heard, now=self._wall_clock())

    def _start_threading(self) -> None:
        # Guards the thread's coming and going.
        self._waking = Lock()
        # Serialises writing: the thread, `flush` and `close`.
        self._writing = Lock()
        self._alarm = Signal()
        # Ends the lingering at once: who closes waits for the thread.
        self._ending = Signal()
        self._thread = None
        # True while an append has to rouse the thread.
        self._asleep = True

    def _start_over_after_fork(self) -> None:
        """Leave to the parent process what it has heard, its locks and its connection."""
        self._heard.clear()
        self._began.clear()
        self._first_text.clear()
        if self._log is not None:
            self._log.abandon()
            self._log = None
        self._start_threading()


def _close(reference: weakref.ref[Recorder]) -> None:
    recorder = reference()
    if recorder is not None:
        recorder.close()


def _start_over(reference: weakref.ref[Recorder]) -> None:
    recorder = reference()
    if recorder is not None:
        recorder._start_over_after_fork()  # noqa: SLF001 - of this module
