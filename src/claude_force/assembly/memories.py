"""Whether a call has a memory, and the memory itself, which the first such call opens."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Protocol

from claude_force.domain.errors import ClosedError

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.agents.calls import AgentCall
    from claude_force.assembly.remembering import Remembering
    from claude_force.config.environment import Environment
    from claude_force.config.settings import Settings
    from claude_force.domain.agents import AgentDefinition


class Ground(Protocol):
    """What memories need to know of an orchestrator."""

    @property
    def settings(self) -> Settings:
        """What ``claude.json`` says."""

    @property
    def state_folder(self) -> Path:
        """Where memories lie."""

    @property
    def shares_state(self) -> bool:
        """Whether anything is kept unasked."""


class Memories:
    """What the agents of one orchestrator remember. Any thread and event loop may ask."""

    def __init__(self, ground: Ground, environment: Environment) -> None:
        self._ground = ground
        self._environment = environment
        self._remembering: Remembering | None = None
        self._closed = False
        # Threads may make the first call at the same time.
        self._opening = Lock()

    def of(self, call: AgentCall, definition: AgentDefinition) -> Remembering | None:
        """What the agent of this call remembers; None for a call without a memory.

        Raises:
            ClosedError: `aclose` was called.
        """
        wanted = call.use_memory
        if wanted is None:
            wanted = definition.memory is not None and self._ground.shares_state
        if not wanted or not self._ground.settings.memory.enabled:
            return None
        from claude_force.assembly.remembering import open_remembering  # noqa: PLC0415 - few calls have one

        with self._opening:
            if self._closed:
                raise ClosedError("This orchestrator is closed; make a new one.")
            if self._remembering is None:
                self._remembering = open_remembering(
                    self._ground.settings, self._environment, self._ground.state_folder
                )
            return self._remembering

    async def aclose(self) -> None:
        """Write what there is to remember; a second call does nothing."""
        with self._opening:
            self._closed = True
            remembering, self._remembering = self._remembering, None
        if remembering is not None:
            await remembering.aclose()
