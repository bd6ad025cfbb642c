"""Which step may start when: a state machine without I/O, clock or randomness."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_force.workflows.definition import Step, Workflow


class Skip(NamedTuple):
    """A step that never starts, and the step on whose account."""

    position: int
    cause: int


class Released(NamedTuple):
    """What the end of one step means for others; steps by their position in the definition."""

    ready: list[int]
    skipped: list[Skip]


class StepGraph:
    """Who waits for whom, by position in the definition."""

    def __init__(self, workflow: Workflow) -> None:
        self.steps = steps = workflow.steps
        position = {step.step_id: number for number, step in enumerate(steps)}
        self.dependency_counts = [0] * len(steps)
        # Steps that wait for a step.
        self.dependants: list[list[int]] = [[] for _ in steps]
        for number, step in enumerate(steps):
            needs = step.dependencies
            if len(needs) > 1:
                needs = tuple(dict.fromkeys(needs))
            self.dependency_counts[number] = len(needs)
            for dependency in needs:
                self.dependants[position[dependency]].append(number)
        self.continues = [step.on_error == "continue" for step in steps]

    def in_order(self) -> Iterator[Step]:
        """Steps after those that they depend on, else in the order of the definition."""
        waiting_for = list(self.dependency_counts)
        front = [number for number, count in enumerate(waiting_for) if count == 0]
        while front:
            number = heapq.heappop(front)
            yield self.steps[number]
            for dependant in self.dependants[number]:
                waiting_for[dependant] -= 1
                if waiting_for[dependant] == 0:
                    heapq.heappush(front, dependant)


class GraphState:
    """Progress of one run. Every method answers in time proportional to what it changes.

    A step that ended well lets the steps behind it through, and so does one whose ``on_error`` is ``continue``,
    however it ended. Any other end skips them, except that a step with ``on_error: continue`` goes on without a
    dependency that was skipped. Skips spread by the same rule.
    """

    def __init__(self, graph: StepGraph) -> None:
        # Dependencies that have not ended, by position; -1 for a step that has ended itself.
        self._waiting_for = list(graph.dependency_counts)
        self._dependants = graph.dependants
        self._continues = graph.continues
        self.unfinished = len(self._waiting_for)

    def first(self) -> list[int]:
        """Steps that wait for nothing, in the order of the definition."""
        return [number for number, count in enumerate(self._waiting_for) if count == 0]

    def succeed(self, position: int) -> list[int]:
        """Record a step that ended well, and return the steps that may start now."""
        waiting_for = self._waiting_for
        waiting_for[position] = -1
        self.unfinished -= 1
        released = []
        for dependant in self._dependants[position]:
            if waiting_for[dependant] > 0:
                waiting_for[dependant] -= 1
                if waiting_for[dependant] == 0:
                    released.append(dependant)
        return released

    def fail(self, position: int) -> Released:
        """Record a step that failed."""
        return self._end(position, was_skipped=False)

    def skip(self, position: int) -> Released:
        """Record a step that was not to run."""
        return self._end(position, was_skipped=True)

    def _end(self, position: int, *, was_skipped: bool) -> Released:
        released = Released([], [])
        front = [(position, position, was_skipped)]
        while front:
            ended, cause, is_skip = front.pop()
            if self._continues[ended]:
                released.ready.extend(self.succeed(ended))
                continue
            self._waiting_for[ended] = -1
            self.unfinished -= 1
            for dependant in self._dependants[ended]:
                if self._waiting_for[dependant] < 0:
                    continue
                if is_skip and self._continues[dependant]:
                    self._waiting_for[dependant] -= 1
                    if self._waiting_for[dependant] == 0:
                        released.ready.append(dependant)
                    continue
                # Taken out at once: it may be behind several that end badly.
                self._waiting_for[dependant] = -1
                released.skipped.append(Skip(dependant, cause))
                front.append((dependant, cause, True))
        released.ready.sort()
        return released
