"""Which calls of a run are made together, so that those that begin alike can share what the provider keeps."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from claude_force.domain.companions import Companions

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from claude_force.agents.calls import AgentCall
    from claude_force.domain.companions import Seat
    from claude_force.workflows.definition import Workflow


def look_ahead(calls: Iterable[AgentCall], count: int) -> tuple[Companions, Iterator[AgentCall]]:
    """All calls, of which the first ``count`` are read now and expected to arrive together."""
    rest = iter(calls)
    first = list(islice(rest, count))
    companions = Companions()
    companions.expect(len(first))
    return companions, chain(first, rest)


def seats_of(
    workflow: Workflow, beginnings: Mapping[str, Iterable[Hashable]], *, sequential: bool
) -> dict[str, Seat]:
    """A seat for each step.

    Args:
        workflow: what is run.
        beginnings: of each step, what its prompt is known to begin with before the run.
        sequential: one step at a time, so that only the first is on its way.
    """
    companions = Companions()
    seats: dict[str, Seat] = {}
    for step in workflow.steps:
        starts = not step.dependencies and not (sequential and seats)
        step_id = step.step_id
        seats[step_id] = (
            companions.seat() if starts else companions.later_seat(beginnings.get(step_id, ()))
        )
    return seats
