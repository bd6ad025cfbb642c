"""An event loop in a thread of its own, for code that blocks."""

from __future__ import annotations

import asyncio
import threading
import weakref
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from anyio.from_thread import start_blocking_portal

from claude_force.domain.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractContextManager

    from anyio.from_thread import BlockingPortal

T = TypeVar("T")


class LoopThread:
    """The thread starts with the first coroutine and ends with `close`, at the latest with the process.

    Args:
        at_close: run on the loop before it ends.
    """

    def __init__(self, at_close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._at_close = at_close
        # Protects the start and the end of the portal against callers in several threads.
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._portal_context: AbstractContextManager[BlockingPortal] | None = None
        self._closed = False

    def wait(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine and block until it ends."""
        result: T = self._running_portal().call(start)
        return result

    async def awaited(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine there, and wait for it on the caller's own loop."""
        return await asyncio.wrap_future(self._running_portal().start_task_soon(start))

    def close(self) -> None:
        """Stop the thread; a second call does nothing."""
        with self._lock:
            self._closed = True
            portal, self._portal = self._portal, None
            context, self._portal_context = self._portal_context, None
        if portal is not None and context is not None:
            try:
                portal.call(self._at_close)
            finally:
                context.__exit__(None, None, None)

    def _running_portal(self) -> BlockingPortal:
        with self._lock:
            if self._closed:
                raise ClosedError("This orchestrator is closed; make a new one.")
            if self._portal is None:
                self._portal_context = start_blocking_portal(name="claude-force")
                self._portal = self._portal_context.__enter__()
                _at_exit(partial(_close, weakref.ref(self)))
            return self._portal


def _at_exit(close: Callable[[], None]) -> None:
    """Have ``close`` called at the end of the process, while threads still run.

    Otherwise the end of the interpreter waits for ever for the portal's thread, which does not run any more by then.
    `atexit` comes too late: `concurrent.futures` has stopped lending threads, which closing may need. It makes its own
    arrangements in the way that is used here, and what is registered last is called first.
    """
    import_module("concurrent.futures.thread")
    threading._register_atexit(close)  # type: ignore[attr-defined] # noqa: SLF001 - see above; in all Pythons since 3.9


def _close(reference: weakref.ref[LoopThread]) -> None:
    # Weak, so that an orchestrator that is dropped goes, and its thread with it.
    thread = reference()
    if thread is not None:
        thread.close()
