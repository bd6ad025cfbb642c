"""Reads how calls go out, of a step or of a workflow: at once or in batches, and whether cut answers are continued."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.agents.calls import DEFAULT_CONTINUATIONS, MAX_CONTINUATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_batch(entry: Mapping[str, object], problems: list[str], *, place: str = "") -> bool | None:
    """``batch``; None where nothing is said, or not so that it can be used."""
    value = entry.get("batch")
    if value is None or isinstance(value, bool):
        return value
    problems.append(f"{place}batch: expected true or false, found {value!r}")
    return None


def read_continuations(
    entry: Mapping[str, object], problems: list[str], *, place: str = ""
) -> int | None:
    """``continue_truncated`` as a number: ``true`` is as many as usual, ``false`` is none."""
    value = entry.get("continue_truncated")
    if value is None:
        return None
    if value is True:
        return DEFAULT_CONTINUATIONS
    if isinstance(value, int) and 0 <= value <= MAX_CONTINUATIONS:
        return int(value)
    problems.append(
        f"{place}continue_truncated: expected true, false or a number from 0 to {MAX_CONTINUATIONS}, found {value!r}"
    )
    return None
