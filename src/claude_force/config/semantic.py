"""The section ``cache.semantic`` of claude.json: which agents may be answered with answers to similar tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.config.fields import shown
from claude_force.config.settings import SemanticSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def semantic_problems(section: object) -> Iterator[tuple[str, str, bool]]:
    """Place and message of everything in the section that cannot be used, and whether that stops a run."""
    if not isinstance(section, dict):
        yield "cache.semantic", f"expected an object, found {shown(section)}", True
        return
    for key in section:
        if key != "agents":
            yield f"cache.semantic.{key}", "nothing reads this key", False
    agents = section.get("agents", {})
    if not isinstance(agents, dict):
        yield (
            "cache.semantic.agents",
            f'expected agents by name, such as {{"faq": {{"threshold": 0.9}}}}, found {shown(agents)}',
            True,
        )
        return
    for name, entry in agents.items():
        yield from _agent_problems(f"cache.semantic.agents.{name}", entry)


def read_semantic(section: Mapping[str, Mapping[str, Mapping[str, float]]]) -> SemanticSettings:
    """The settings of a section without problems."""
    agents = section.get("agents", {})
    return SemanticSettings(agents={name: entry.get("threshold") for name, entry in agents.items()})


def _agent_problems(place: str, entry: object) -> Iterator[tuple[str, str, bool]]:
    if not isinstance(entry, dict):
        yield (
            place,
            f'expected an object, such as {{}} or {{"threshold": 0.9}}, found {shown(entry)}',
            True,
        )
        return
    for key in entry:
        if key != "threshold":
            yield f"{place}.{key}", "nothing reads this key", False
    threshold = entry.get("threshold")
    if threshold is None:
        return
    numeric = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if not numeric or not 0 < threshold <= 1:
        yield (
            f"{place}.threshold",
            f"expected a cosine above 0 and at most 1, found {shown(threshold)}",
            True,
        )
