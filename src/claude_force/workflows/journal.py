"""The journal of one run: every answer is on disk before anything is made of it."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

from claude_force.domain.errors import JournalError
from claude_force.domain.events import StepFinished, StepStarted
from claude_force.domain.runs import StepRecord
from claude_force.resilience.lease_files import LeaseFile
from claude_force.storage.database import open_database
from claude_force.storage.errors import StorageError
from claude_force.workflows.journal_layout import JOURNAL_FILE, SCHEMA
from claude_force.workflows.journal_tables import RunTables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from claude_force.domain.events import Event
    from claude_force.domain.results import AgentResult
    from claude_force.domain.runs import CallRecord
    from claude_force.workflows.journal_tables import RunHeader

EndState = Literal["succeeded", "failed", "stopped"]

LEASES: Final = "running"
# How soon a run notices that another process wants it to stop.
_CANCEL_NOTICED_SECONDS: Final = 0.4
_BUSY_SECONDS: Final = 10.0


class RunJournal:
    """The journal of one run, held by one process at a time; made by `start` or `resume`.

    An answer is handed on only when it is committed. The database is in WAL mode with ``synchronous=NORMAL``: what
    is committed survives ``kill -9`` at any point; a power cut may lose the last moments, whose answers the response
    cache has as well. One thread writes, all that is waiting in one transaction.

    Raises:
        JournalError: it cannot be opened or written, or another process holds the run.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self.run_id = run_id
        # Answers that the run has, by content key.
        self._answers: dict[str, AgentResult] = {}
        # Keys whose answers did not follow their step's schema: they are asked anew, past the response cache.
        self._anew: set[str] = set()
        # What is to be written, in order; None at the end.
        self._work: deque[_Write | None] = deque()
        # Wakes the writing thread. What nobody waits for does not: to wake a thread costs more than to put a write there.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._broken: JournalError | None = None
        self._on_cancel: Callable[[], None] | None = None
        self._began = time.monotonic()
        try:
            self._lease = LeaseFile(folder / LEASES, run_id)
        except OSError as error:
            raise JournalError(
                f"Another process works on run {run_id}. Wait for it, or stop it with: claude-force runs cancel {run_id}"
            ) from error
        try:
            self._database = open_database(
                folder / JOURNAL_FILE, SCHEMA, busy_timeout_seconds=_BUSY_SECONDS
            )
            self._database.execute("PRAGMA foreign_keys = ON")
            self._tables = RunTables(self._database, run_id)
        except (StorageError, sqlite3.Error) as error:
            self._lease.release()
            raise _unwritable(error) from error
        self._thread = threading.Thread(target=self._run, name="claude-force-journal", daemon=True)

    @classmethod
    def start(cls, folder: Path, header: RunHeader, *, now: float) -> Self:
        """The journal of a run that begins; waits for the disk."""
        journal = cls(folder, header.run_id)
        journal._begin(lambda: journal._tables.insert(header, now))
        return journal

    @classmethod
    def resume(cls, folder: Path, header: RunHeader) -> Self:
        """The journal of a run that goes on, with every answer that it has; waits for the disk."""
        journal = cls(folder, header.run_id)
        journal._begin(lambda: journal._reopen(header))
        return journal

    def answer(self, key: str) -> AgentResult | None:
        """What the run has been told before for exactly this request."""
        return self._answers.get(key)

    @property
    def answered_keys(self) -> Iterable[str]:
        """Content keys of the answers that the run has."""
        return self._answers.keys()

    def asks_anew(self, key: str) -> bool:
        """Whether the response cache is to be passed by: its answer is known to be of no use."""
        return key in self._anew

    @property
    def broken(self) -> bool:
        """Something of the run could not be kept."""
        return self._broken is not None

    def check(self) -> None:
        """Pass while the journal can be written.

        Raises:
            JournalError: it cannot; nothing more may be paid.
        """
        if self._broken is not None:
            raise self._broken

    def seconds(self) -> float:
        """Since this part of the run began."""
        return time.monotonic() - self._began

    async def record(
        self, key: str, describe: Callable[[], CallRecord], result: AgentResult | None
    ) -> None:
        """Keep a call; returns when it is committed.

        Args:
            key: its content key.
            describe: makes the record, on the writing thread.
            result: its answer; None for a call that failed.

        Raises:
            JournalError: it could not be written.
        """
        if result is not None:
            self._answers[key] = result
        await self._committed(lambda: self._tables.insert_call(describe(), result))

    def take(self, event: Event) -> None:
        """Keep the states of steps with the next answer, or soon; an event listener, which does not wait."""
        kind = type(event)
        if kind is StepStarted or kind is StepFinished:
            seconds = self.seconds()
            self._work.append(
                _Write(lambda: self._tables.update_step(_step_record(event, seconds)))
            )

    def watch(self, on_cancel: Callable[[], None]) -> None:
        """Call ``on_cancel``, on the writing thread, when another process wants the run to stop."""
        self._on_cancel = on_cancel

    async def finish(self, state: EndState, *, seconds: float, now: float) -> None:
        """Note how the run ended.

        Raises:
            JournalError: it could not be written.
        """
        statement = "UPDATE runs SET state = ?, ended_at = ?, seconds = ? WHERE run_id = ?"
        values = (state, now, seconds, self.run_id)
        await self._committed(lambda: self._database.execute(statement, values))

    def close(self) -> None:
        """Write what is waiting and let the run go; a second call does nothing. Waits for the disk."""
        if self._thread.is_alive():
            self._work.append(None)
            self._wake.put(None)
            self._thread.join()
        self._database.close()
        self._lease.release()

    async def _committed(self, work: Callable[[], object]) -> None:
        done = asyncio.get_running_loop().create_future()
        self._work.append(_Write(work, done))
        self._wake.put(None)
        await done

    def _begin(self, write: Callable[[], object]) -> None:
        try:
            self._transaction([_Write(write)])
        except sqlite3.Error as error:
            self._database.close()
            self._lease.release()
            raise _unwritable(error) from error
        except BaseException:
            self._database.close()
            self._lease.release()
            raise
        self._thread.start()

    def _reopen(self, header: RunHeader) -> None:
        kept = self._tables.reopen(header)
        self._answers |= kept.answers
        self._anew |= kept.anew

    def _run(self) -> None:
        looked = time.monotonic()
        open_ended = True
        while open_ended:
            batch = self._next_batch()
            open_ended = None not in batch
            writes = [write for write in batch if write is not None]
            if writes:
                self._write(writes)
            if time.monotonic() - looked >= _CANCEL_NOTICED_SECONDS:
                looked = time.monotonic()
                self._look_for_cancel()

    def _next_batch(self) -> list[_Write | None]:
        """All that is waiting, once it is wanted or a while has passed; may be empty."""
        with suppress(queue.Empty):
            self._wake.get(timeout=_CANCEL_NOTICED_SECONDS)
            # These are for writes that stand there already: each was put there before its call.
            while True:
                self._wake.get_nowait()
        return [self._work.popleft() for _ in range(len(self._work))]

    def _write(self, writes: list[_Write]) -> None:
        try:
            if self._broken is None:
                self._transaction(writes)
        except sqlite3.Error as error:
            self._broken = _unwritable(error)
        _settle(writes, self._broken)

    def _transaction(self, writes: list[_Write]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for write in writes:
                write.work()
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def _look_for_cancel(self) -> None:
        on_cancel = self._on_cancel
        if on_cancel is None:
            return
        try:
            row = self._database.execute(
                "SELECT cancel FROM runs WHERE run_id = ?", (self.run_id,)
            ).fetchone()
        except sqlite3.Error:
            # The next write says what is wrong.
            return
        if row is not None and row[0]:
            self._on_cancel = None
            on_cancel()


@dataclass(slots=True)
class _Write:
    """Something to write, and who waits for it."""

    work: Callable[[], object]
    done: asyncio.Future[None] | None = None


def _settle(writes: Iterable[_Write], error: JournalError | None) -> None:
    """Tell who waits, once for each event loop: to wake one costs more than all the rest."""
    waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for write in writes:
        if write.done is not None:
            waiting.setdefault(write.done.get_loop(), []).append(write.done)
    for loop, futures in waiting.items():
        # The loop may have ended, and with it whoever waited.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_tell, futures, error)


def _tell(futures: Iterable[asyncio.Future[None]], error: JournalError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _step_record(event: Event, seconds: float) -> StepRecord:
    """How far a step has got."""
    if isinstance(event, StepStarted):
        return StepRecord(
            step_id=event.step_id,
            agent_name=event.agent_name,
            state="running",
            started_seconds=seconds,
        )
    assert isinstance(event, StepFinished)  # noqa: S101 - nothing else is taken
    step = event.step
    return StepRecord(
        step_id=step.step_id,
        agent_name=step.agent_name,
        state=step.state,  # type: ignore[arg-type] # the scheduler sets one of three
        started_seconds=step.started_seconds,
        ended_seconds=step.ended_seconds,
        error_kind=None if step.error is None else step.error.kind,
        error_message=None if step.error is None else str(step.error),
        reason=step.reason,
        text=step.text,
    )


def _unwritable(error: Exception) -> JournalError:
    return JournalError(
        f"The journal of the run cannot be written ({error}), so nothing more is sent. Make room, or set the folder's "
        "rights, and resume the run; or leave the journal out with --no-journal."
    )
