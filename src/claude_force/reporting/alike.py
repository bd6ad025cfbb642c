"""Puts steps together that have the same place in a graph, so that a large one can still be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.reporting.critical_path import topological_order

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence


def groups_of_alike(
    dependencies: Mapping[str, Sequence[str]], agents: Mapping[str, str]
) -> list[tuple[str, ...]]:
    """Steps in groups: those of one group have the same agent, and before and behind them stand the same groups.

    So a hundred chains of three agents come to three groups. The groups form a graph without cycles, if the steps do.
    Groups stand in the order of their first steps, steps in that of the definition.
    """
    order = topological_order(dependencies)
    behind: dict[str, list[str]] = {name: [] for name in dependencies}
    for name, needs in dependencies.items():
        for needed in needs:
            if needed in behind:
                behind[needed].append(name)
    numbers: dict[Hashable, int] = {}
    forward: dict[str, int] = {}
    for name in order:
        above = frozenset(forward[needed] for needed in dependencies[name] if needed in forward)
        forward[name] = numbers.setdefault(("before", agents[name], above), len(numbers))
    both: dict[str, int] = {}
    for name in reversed(order):
        below = frozenset(both[later] for later in behind[name] if later in both)
        both[name] = numbers.setdefault(("behind", forward[name], below), len(numbers))
    groups: dict[int, list[str]] = {}
    for name in dependencies:
        groups.setdefault(both[name], []).append(name)
    return [tuple(names) for names in groups.values()]
