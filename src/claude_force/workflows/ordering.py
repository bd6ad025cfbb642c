"""An order of the steps of a workflow that depends on its definition alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_force.workflows.definition import Step, Workflow


def in_order(workflow: Workflow) -> Iterator[Step]:
    """Steps after those that they depend on; there may be no cycle."""
    steps = {step.step_id: step for step in workflow.steps}
    waiting = {step.step_id: len(set(step.dependencies)) for step in workflow.steps}
    dependants: dict[str, list[str]] = {step.step_id: [] for step in workflow.steps}
    for step in workflow.steps:
        for dependency in set(step.dependencies):
            dependants[dependency].append(step.step_id)
    front = [step_id for step_id, count in waiting.items() if count == 0]
    for step_id in front:
        yield steps[step_id]
        for dependant in dependants[step_id]:
            waiting[dependant] -= 1
            if waiting[dependant] == 0:
                # The loop goes on through what it releases.
                front.append(dependant)
