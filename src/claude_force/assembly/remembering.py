"""Gives calls what their agents remember, and remembers what comes of them."""
# ruff: noqa: PLC0415 - most calls have no memory: its parts are imported by the first that has one

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from claude_force.domain.errors import ClaudeForceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.agents.calls import AgentCall
    from claude_force.agents.reminding import Remembered
    from claude_force.config.environment import Environment
    from claude_force.config.settings import MemorySettings, Settings
    from claude_force.domain.agents import AgentDefinition
    from claude_force.domain.messages import MessageRequest
    from claude_force.domain.results import AgentResult
    from claude_force.memory.recorder import MemoryRecorder
    from claude_force.memory.store import MemoryStore
    from claude_force.workflows.run_stop import RunStop

_LOG: Final = logging.getLogger(__name__)

MEMORY_FILE: Final = "memory.db"
_BYTES_PER_MB: Final = 1_048_576
# A disk that hangs holds a call up for no longer than this, and after a failure nobody looks again for a while.
_PATIENCE_SECONDS: Final = 5.0
_REOPEN_SECONDS: Final = 30.0
# Of what is found, more than fits is weighed, because some of it is left out.
_FOUND: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Reminded:
    """A request with what its agent remembers."""

    request: MessageRequest
    # Content key of the request without it.
    key: str


class Remembering:
    """The memory of one orchestrator's agents. Any number of tasks, threads and event loops may use it.

    Nothing that can wait for a disk runs on the event loop. A store that cannot be read or written costs memories and
    never a call; the reason is logged once.

    Args:
        settings: what holds for memories.
        state_folder: where the database is.
        find_project: the folder of the project; it looks at the disk.
        home: of the user, for notes that go from project to project.
    """

    def __init__(
        self,
        settings: MemorySettings,
        *,
        state_folder: Path,
        find_project: Callable[[], Path],
        home: Path,
    ) -> None:
        from claude_force.memory.recorder import MemoryRecorder

        self._settings = settings
        self._path = state_folder / MEMORY_FILE
        self._find_project = find_project
        self._home = home
        # Made by the first call that wants to remember, off the loop.
        self._store: MemoryStore | None = None
        self._opening = Lock()
        self._recorder: MemoryRecorder = MemoryRecorder(
            self._path,
            retention_days=settings.retention_days,
            max_bytes=int(settings.max_size_mb * _BYTES_PER_MB),
        )
        # The last record from before a run: what its own calls come to does not change the others, however they fall.
        self._last_before: WeakKeyDictionary[RunStop, int] = WeakKeyDictionary()
        self._unusable_until = 0.0
        self._warned = False

    async def remind(
        self,
        call: AgentCall,
        definition: AgentDefinition,
        request: MessageRequest,
        *,
        run: RunStop | None = None,
        recalls: bool = True,
    ) -> Reminded:
        """``request`` with the notes of its agent, and with what it remembers of tasks like this one.

        Calls of one run remember what was there before the run began. An earlier answer to this very request is left
        out: asked again, the request is the same, and the response cache can have its answer. Without ``recalls`` the
        request stays as it is, as that of a batch has to: it must be the same tomorrow, or it is paid twice.
        """
        from claude_force.agents.reminding import remind
        from claude_force.cache.fingerprint import request_key

        key = request_key(request, origin="")
        if time.monotonic() < self._unusable_until:
            return Reminded(request=request, key=key)
        try:
            remembered, numbers = await asyncio.wait_for(
                asyncio.to_thread(
                    lambda: (
                        self._remembered(call, definition, key, run) if recalls else self._none()
                    )
                ),
                _PATIENCE_SECONDS,
            )
        except (ClaudeForceError, OSError, TimeoutError) as error:
            self._give_up(error)
            return Reminded(request=request, key=key)
        reminded = remind(request, remembered)
        context = replace(request.context, recalled=numbers)
        return Reminded(request=replace(reminded, context=context), key=key)

    def keep(self, call: AgentCall, key: str, result: AgentResult) -> None:
        """Remember a complete answer; returns at once."""
        from claude_force.memory.records import Experience

        if self._store is None:
            # The disk did not even say which project this is.
            return
        self._recorder.record(
            Experience(
                project=self._store.project,
                agent_name=call.agent_name,
                task=call.task,
                answer=result.text,
                model=result.model,
                key=key,
                recorded_at=time.time(),
                cached=result.cached is not None,
            )
        )

    async def aclose(self) -> None:
        """Write what there is to remember, and close the database; a second call does nothing."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._recorder.close()
        if self._store is not None:
            self._store.close()

    def _none(self) -> tuple[Remembered, tuple[int, ...]]:
        """Nothing; the project is known afterwards."""
        from claude_force.agents.reminding import Remembered

        self._opened()
        return Remembered(), ()

    def _remembered(
        self, call: AgentCall, definition: AgentDefinition, key: str, run: RunStop | None
    ) -> tuple[Remembered, tuple[int, ...]]:
        """What is remembered, and the numbers of what is recalled of it."""
        from claude_force.agents.reminding import Remembered

        store = self._opened()
        recalled, numbers = self._recalled(call, key, run, store)
        notes = self._notes(definition, Path(store.project))
        return Remembered(notes=notes, recalled=recalled), numbers

    def _notes(self, definition: AgentDefinition, project: Path) -> str:
        from claude_force.memory.notes import read_notes

        if definition.memory is None:
            return ""
        return read_notes(definition.memory, definition.name, home=self._home, project=project)

    def _recalled(
        self, call: AgentCall, key: str, run: RunStop | None, store: MemoryStore
    ) -> tuple[str, tuple[int, ...]]:
        from claude_force.memory.recall import recalled_text, worth_recalling

        if not self._settings.max_tokens:
            return "", ()
        up_to_id = None
        if run is None:
            # What an earlier call of this process did may be on its way to the disk.
            self._recorder.flush()
        else:
            up_to_id = self._before(run, store)
        found = store.search(
            call.agent_name,
            call.task,
            limit=_FOUND,
            up_to_id=up_to_id,
            except_key=key,
        )
        return recalled_text(worth_recalling(found.value), self._settings.max_tokens)

    def _opened(self) -> MemoryStore:
        from claude_force.memory.store import MemoryStore

        with self._opening:
            if self._store is None:
                self._store = MemoryStore(self._path, project=str(self._find_project()))
            return self._store

    def _before(self, run: RunStop, store: MemoryStore) -> int:
        known = self._last_before.get(run)
        if known is None:
            self._recorder.flush()
            known = self._last_before.setdefault(run, store.last_id())
        return known

    def _give_up(self, error: Exception) -> None:
        """Warn once, and look again later."""
        self._unusable_until = time.monotonic() + _REOPEN_SECONDS
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "what agents remember cannot be read; calls go on without it",
                extra={"error": str(error) or type(error).__name__},
            )


def open_remembering(
    settings: Settings, environment: Environment, state_folder: Path
) -> Remembering:
    """The memory of the agents of a project. Nothing is opened before a call asks."""
    return Remembering(
        settings.memory,
        state_folder=state_folder,
        find_project=lambda: project_root(settings, environment),
        home=environment.home,
    )


def project_root(settings: Settings, environment: Environment) -> Path:
    """The folder that memories of a project belong to.

    Where its ``.claude`` with a ``claude.json`` is, else the nearest folder with ``.git`` or ``.claude`` from the
    working folder upwards, other than the home; else the working folder.
    """
    path = settings.path
    if path is not None:
        found = path.parent.parent if path.parent.name == ".claude" else path.parent
        return found.resolve()
    for folder in (environment.cwd, *environment.cwd.parents):
        own = (folder / ".claude").is_dir() and folder != environment.home
        if own or (folder / ".git").exists():
            return folder.resolve()
    return environment.cwd.resolve()


def open_memory(
    state_dir: str | Path | None = None, *, project: str | Path | None = None
) -> MemoryStore:
    """What agents remember: to search it, to look at it, and to forget.

    Args:
        state_dir: where it is kept; None takes the user's own state folder.
        project: the folder of the project that questions are about; None takes the one of the working folder.
    """
    from claude_force.assembly.lookup import find_settings
    from claude_force.config.environment import read_environment
    from claude_force.memory.store import MemoryStore

    environment = read_environment()
    folder = environment.state_home if state_dir is None else Path(state_dir)
    if project is None:
        root = project_root(find_settings(None, environment), environment)
    else:
        root = Path(project).resolve()
    return MemoryStore(folder / MEMORY_FILE, project=str(root))
