"""Why a request was a miss: the nearest earlier entry, and the fields in which it differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from claude_force.cache.entries import CacheEntry


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that is not what it was. Texts appear as digests; None where one side has no such field."""

    name: str
    before: str | None
    now: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How a request compares with the entry that is most like it."""

    entry: CacheEntry
    # Empty where the request is the entry's own: then it was a hit, or the entry is too old or too young.
    changes: tuple[FieldChange, ...]


def explain(fields: Mapping[str, str], entries: Iterable[CacheEntry]) -> Explanation | None:
    """The entry that differs from ``fields`` in the fewest; of several the first. None where there is no entry."""
    nearest: Explanation | None = None
    for entry in entries:
        changes = _changes(entry.fields, fields)
        if nearest is None or len(changes) < len(nearest.changes):
            nearest = Explanation(entry=entry, changes=changes)
    return nearest


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[FieldChange, ...]:
    names = [*now, *(name for name in before if name not in now)]
    return tuple(
        FieldChange(name, before.get(name), now.get(name))
        for name in names
        if before.get(name) != now.get(name)
    )
