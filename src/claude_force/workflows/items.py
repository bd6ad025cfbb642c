"""The inputs of a map: one JSON object a line, all checked before the first is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from claude_force.domain.errors import ItemsError

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEYS: Final = frozenset({"task", "id", "agent", "files"})
_MAX_PROBLEMS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MapItem:
    """One line of an items file."""

    # From 1.
    line: int
    task: str
    # The `id` of the line, else its number.
    item_id: str | int
    # None takes the agent of the map.
    agent_name: str | None = None
    # Paths, folders or globs to attach.
    files: tuple[str, ...] = ()


def parse_items(lines: Iterable[str]) -> list[MapItem]:
    """Every item, in order; empty lines are passed over.

    Raises:
        ItemsError: with every line that cannot be used.
    """
    items: list[MapItem] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            item = _parse_line(number, line, problems)
            if item is not None:
                items.append(item)
    problems += _repeated_ids(items)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:_MAX_PROBLEMS_SHOWN])
        more = len(problems) - _MAX_PROBLEMS_SHOWN
        rest = f"\n  … and {more} more" if more > 0 else ""
        raise ItemsError(f"The items cannot be used; nothing was sent:\n{shown}{rest}")
    if not items:
        raise ItemsError(
            'There are no items. A line is a JSON object such as {"task": "Review this"}.'
        )
    return items


def _parse_line(number: int, line: str, problems: list[str]) -> MapItem | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        problems.append(f"line {number}: not valid JSON ({error})")
        return None
    found = _problems(entry)
    problems += [f"line {number}: {problem}" for problem in found]
    if found:
        return None
    return MapItem(
        line=number,
        task=entry["task"],
        item_id=entry.get("id", number),
        agent_name=entry.get("agent"),
        files=tuple(entry.get("files", ())),
    )


def _problems(entry: Any) -> list[str]:  # noqa: ANN401 - JSON of a user
    if not isinstance(entry, dict):
        return [f"expected an object, found {type(entry).__name__}"]
    problems = [f"nothing reads the key {key!r}" for key in entry if key not in _KEYS]
    if not isinstance(entry.get("task"), str):
        problems.append('"task" has to be text')
    if isinstance(entry.get("id", 0), bool) or not isinstance(entry.get("id", 0), (str, int)):
        problems.append('"id" has to be text or a whole number')
    if not isinstance(entry.get("agent", ""), str):
        problems.append('"agent" has to be the name of an agent')
    files = entry.get("files", [])
    if not isinstance(files, list) or not all(isinstance(path, str) for path in files):
        problems.append('"files" has to be a list of paths')
    return problems


def _repeated_ids(items: list[MapItem]) -> list[str]:
    first: dict[str, int] = {}
    problems = []
    for item in items:
        earlier = first.setdefault(str(item.item_id), item.line)
        if earlier != item.line:
            problems.append(
                f"line {item.line}: the id {item.item_id!r} stands in line {earlier} already"
            )
    return problems
