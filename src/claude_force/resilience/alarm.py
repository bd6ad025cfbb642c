"""A thread that does one piece of work at given times, and ends when there is nothing to wait for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_NEVER: Final = float("inf")
# Long enough that a steady trickle of work does not start a thread each time.
_IDLE_SECONDS: Final = 2.0


class Alarm:
    """Calls ``work`` on a thread of its own when it is due. Any thread may `ring_by`.

    An event loop's timer would end with its loop, while others still wait; a thread serves several loops.

    Args:
        work: does what is due and returns when to call it again, or infinity.
        clock: monotonic seconds.
    """

    def __init__(self, work: Callable[[], float], clock: Callable[[], float]) -> None:
        self._work = work
        self._clock = clock
        # Protects the fields below, and wakes the thread when an earlier time is set.
        self._condition = threading.Condition()
        self._due = _NEVER
        self._stopped = False
        self._thread: threading.Thread | None = None

    def ring_by(self, at: float) -> None:
        """Have the work done at ``at`` or earlier."""
        # Read without the lock: most calls ask for nothing earlier than what is set, and this is on the way of
        # every request. The thread resets it before it looks at what there is to do.
        if at >= self._due:
            return
        with self._condition:
            if at >= self._due or self._stopped:
                return
            self._due = at
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="claude-force-governor", daemon=True
                )
                self._thread.start()
            else:
                self._condition.notify()

    def stop(self) -> None:
        """End the thread once its current work is done, and wait for that."""
        with self._condition:
            self._stopped = True
            thread = self._thread
            self._condition.notify()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        try:
            while self._wait():
                self.ring_by(self._work())
        except BaseException:
            # A fault of ours; the next one who waits starts another thread, instead of waiting for this one forever.
            with self._condition:
                self._thread, self._due = None, _NEVER
            raise

    def _wait(self) -> bool:
        """Wait until work is due; False when the thread should end."""
        with self._condition:
            while not self._stopped:
                seconds = self._due - self._clock()
                if seconds <= 0.0:
                    self._due = _NEVER
                    return True
                in_time = self._condition.wait(min(seconds, _IDLE_SECONDS))
                if not in_time and self._due == _NEVER:
                    break
            self._thread = None
            return False
