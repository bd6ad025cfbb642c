"""The chain of steps that a run could not have been faster than."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def topological_order(dependencies: Mapping[str, Sequence[str]]) -> list[str]:
    """Steps so that each stands behind those it depends on; unknown dependencies count for nothing.

    What stands in a cycle, or behind one, comes last as given: a record that is damaged can still be looked at.
    """
    waiting = {
        name: {needed for needed in needs if needed in dependencies and needed != name}
        for name, needs in dependencies.items()
    }
    behind: dict[str, list[str]] = {name: [] for name in dependencies}
    for name, needs in waiting.items():
        for needed in needs:
            behind[needed].append(name)
    missing = {name: len(needs) for name, needs in waiting.items()}
    ready = deque(name for name, count in missing.items() if not count)
    order: list[str] = []
    while ready:
        name = ready.popleft()
        order.append(name)
        for later in behind[name]:
            missing[later] -= 1
            if not missing[later]:
                ready.append(later)
    placed = set(order)
    return order + [name for name in dependencies if name not in placed]


def critical_path(
    dependencies: Mapping[str, Sequence[str]], seconds: Mapping[str, float]
) -> tuple[tuple[str, ...], float]:
    """The path along dependencies whose steps took longest together, and how long that is.

    However many steps run beside each other, a run of these steps takes at least so long. Of equal paths, the one
    whose steps come first wins. Steps without a time were not run: they are on no path, and no path leads over them.

    Args:
        dependencies: of every step, in the order of the definition.
        seconds: how long each step that ran took.
    """
    longest: dict[str, float] = {}
    before: dict[str, str | None] = {}
    position = {name: number for number, name in enumerate(dependencies)}
    for name in topological_order(dependencies):
        if name not in seconds:
            continue
        known = [needed for needed in dependencies[name] if needed in longest]
        last = max(known, key=lambda needed: (longest[needed], -position[needed]), default=None)
        before[name] = last
        longest[name] = seconds[name] + (0.0 if last is None else longest[last])
    if not longest:
        return (), 0.0
    end: str | None = max(longest, key=lambda name: (longest[name], -position[name]))
    total = longest[end] if end is not None else 0.0
    path: list[str] = []
    while end is not None:
        path.append(end)
        end = before[end]
    return tuple(reversed(path)), total
