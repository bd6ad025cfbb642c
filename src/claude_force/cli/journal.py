"""Where commands find the runs on record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.assembly.lookup import state_folder
from claude_force.config.environment import read_environment

if TYPE_CHECKING:
    from claude_force.workflows.run_store import RunStore


def open_store(simulated: bool) -> RunStore:
    """The runs on record; runs with the simulator lie apart."""
    from claude_force.workflows.run_store import RunStore

    return RunStore(state_folder(read_environment(), simulated=simulated))
