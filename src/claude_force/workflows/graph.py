"""Which step may start when: a state machine without I/O, clock or randomness."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_force.workflows.definition import Workflow


@dataclass(slots=True)
class GraphState:
    """Progress of one run. Every method answers in time proportional to what it changes."""

    # Dependencies that have not ended, by step.
    _waiting_for: dict[str, int]
    # Steps that wait for a step.
    _dependants: dict[str, list[str]]
    # Why a step will not run: the step that failed.
    skipped: dict[str, str] = field(default_factory=dict)
    unfinished: int = 0

    @classmethod
    def of(cls, workflow: Workflow) -> GraphState:
        """The state before anything ran."""
        dependants: dict[str, list[str]] = {step.step_id: [] for step in workflow.steps}
        for step in workflow.steps:
            for dependency in set(step.dependencies):
                dependants[dependency].append(step.step_id)
        waiting = {step.step_id: len(set(step.dependencies)) for step in workflow.steps}
        return cls(_waiting_for=waiting, _dependants=dependants, unfinished=len(waiting))

    def first(self) -> list[str]:
        """Steps that wait for nothing, in the order of the definition."""
        return [step_id for step_id, count in self._waiting_for.items() if count == 0]

    def succeed(self, step_id: str) -> list[str]:
        """Record a step that ended well, and return the steps that may start now."""
        self.unfinished -= 1
        released = []
        for dependant in self._dependants[step_id]:
            self._waiting_for[dependant] -= 1
            if self._waiting_for[dependant] == 0 and dependant not in self.skipped:
                released.append(dependant)
        return released

    def fail(self, step_id: str) -> list[str]:
        """Record a step that failed, and return the steps that therefore never run."""
        self.unfinished -= 1
        lost: list[str] = []
        front = [step_id]
        while front:
            for dependant in self._dependants[front.pop()]:
                if dependant not in self.skipped:
                    self.skipped[dependant] = step_id
                    self.unfinished -= 1
                    lost.append(dependant)
                    front.append(dependant)
        return lost
