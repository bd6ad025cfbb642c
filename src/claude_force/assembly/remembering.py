"""Gives calls what their agents remember, and remembers what comes of them."""
# ruff: noqa: PLC0415 - most calls have no memory: its parts are imported by the first that has one

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from claude_force.domain.errors import ClaudeForceError

if TYPE_CHECKING:
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
# A disk that hangs holds a call up for no longer than this.
_PATIENCE_SECONDS: Final = 2.0
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
        project: the folder of the project.
        home: of the user, for notes that go from project to project.
    """

    def __init__(
        self, settings: MemorySettings, *, state_folder: Path, project: Path, home: Path
    ) -> None:
        from claude_force.memory.recorder import MemoryRecorder
        from claude_force.memory.store import MemoryStore

        path = state_folder / MEMORY_FILE
        self._settings = settings
        self._project = project
        self._home = home
        self._store: MemoryStore = MemoryStore(path, project=str(project))
        self._recorder: MemoryRecorder = MemoryRecorder(
            path,
            retention_days=settings.retention_days,
            max_bytes=int(settings.max_size_mb * _BYTES_PER_MB),
        )
        # The last record from before a run: what its own calls come to does not change the others, however they fall.
        self._last_before: WeakKeyDictionary[RunStop, int] = WeakKeyDictionary()
        self._warned = False

    async def remind(
        self,
        call: AgentCall,
        definition: AgentDefinition,
        request: MessageRequest,
        *,
        run: RunStop | None,
    ) -> Reminded:
        """``request`` with the notes of its agent, and with what it remembers of tasks like this one.

        Calls of one run remember what was there before the run began. An earlier answer to this very request is left
        out: asked again, the request is the same, and the response cache can have its answer.
        """
        from claude_force.agents.reminding import remind
        from claude_force.cache.fingerprint import request_key

        key = request_key(request, origin="")
        try:
            remembered = await asyncio.wait_for(
                asyncio.to_thread(self._remembered, call, definition, key, run), _PATIENCE_SECONDS
            )
        except (ClaudeForceError, OSError, TimeoutError) as error:
            self._warn(error)
            return Reminded(request=request, key=key)
        return Reminded(request=remind(request, remembered), key=key)

    def keep(self, call: AgentCall, key: str, result: AgentResult) -> None:
        """Remember a complete answer; returns at once."""
        from claude_force.memory.records import Experience

        self._recorder.record(
            Experience(
                project=str(self._project),
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
        self._store.close()

    def _remembered(
        self, call: AgentCall, definition: AgentDefinition, key: str, run: RunStop | None
    ) -> Remembered:
        from claude_force.agents.reminding import Remembered
        from claude_force.memory.notes import read_notes
        from claude_force.memory.recall import recalled_text, worth_recalling

        notes = ""
        if definition.memory is not None:
            notes = read_notes(
                definition.memory, definition.name, home=self._home, project=self._project
            )
        if not self._settings.max_tokens:
            return Remembered(notes=notes)
        found = self._store.search(
            call.agent_name,
            call.task,
            limit=_FOUND,
            up_to_id=None if run is None else self._before(run),
            except_key=key,
        )
        recalled, _ = recalled_text(worth_recalling(found.value), self._settings.max_tokens)
        return Remembered(notes=notes, recalled=recalled)

    def _before(self, run: RunStop) -> int:
        known = self._last_before.get(run)
        if known is None:
            known = self._last_before.setdefault(run, self._store.last_id())
        return known

    def _warn(self, error: Exception) -> None:
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
        project=project_root(settings, environment),
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
