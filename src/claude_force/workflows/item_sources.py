"""What a step fans out over, once the steps before it have ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import ItemsError
from claude_force.workflows.definition import MAX_LITERAL_ITEMS
from claude_force.workflows.schemas import unfenced
from claude_force.workflows.templates import Names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from claude_force.agents.attachments import Attachment
    from claude_force.domain.results import StepResult
    from claude_force.workflows.definition import ForEach
    from claude_force.workflows.inputs import RunInputs

_MAX_FILE_BYTES: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Item:
    """One of the things that a step fans out over."""

    # As templates see it.
    value: object
    # As an agent sees it whose task does not say where; empty for a file, which it is given.
    text: str
    # Files for this item alone; None for those of the run.
    files: tuple[Attachment, ...] | None = None


def items_of(source: ForEach, inputs: RunInputs, ended: Mapping[str, StepResult]) -> list[Item]:
    """The items, in order. Reads a file for ``lines``, so it belongs on a thread then.

    Raises:
        ItemsError: there are none where there should be: no file, no list, too many.
    """
    if source.files:
        return [
            Item(Names({"path": f.name, "name": f.name.rpartition("/")[2]}, "the file"), "", (f,))
            for f in inputs.files
        ]
    if source.lines is not None:
        return [Item(line, line) for line in _lines(source.lines, inputs.root)]
    values = list(source.items) if source.items is not None else _answered(source, ended)
    if len(values) > MAX_LITERAL_ITEMS:
        raise ItemsError(f"for_each has {len(values):,} items, at most {MAX_LITERAL_ITEMS:,}.")
    return [
        Item(value, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for value in values
    ]


def _answered(source: ForEach, ended: Mapping[str, StepResult]) -> list[object]:
    step = ended.get(source.step or "")
    text = None if step is None else step.text
    if step is None or text is None:
        raise ItemsError(f"for_each needs the answer of step {source.step!r}, which has none.")
    data = step.data
    if data is None:
        try:
            data = json.loads(unfenced(text))
        except (ValueError, RecursionError) as error:
            raise ItemsError(
                f"for_each needs a JSON list from step {source.step!r}, and its answer is not JSON ({error}). "
                "Give that step an output_schema."
            ) from error
    if source.key is not None:
        data = data.get(source.key) if isinstance(data, dict) else None
    if not isinstance(data, list):
        where = f" under {source.key!r}" if source.key is not None else ""
        raise ItemsError(
            f"for_each needs a JSON list from step {source.step!r}{where}, and found {type(data).__name__}."
        )
    # A fan-out that went on without some of its items has nothing to say about those.
    return data if step.state == "succeeded" else [value for value in data if value is not None]


def _lines(name: str, root: Path) -> list[str]:
    folder = root.resolve()
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise ItemsError(f"for_each: {name!r} is outside the project; put the file into it.")
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ItemsError(f"for_each: {name!r} is larger than {_MAX_FILE_BYTES:,} bytes.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ItemsError(f"for_each: {name!r} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ItemsError(f"for_each: {name!r} is not UTF-8 text ({error.reason}).") from error
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if len(found) > MAX_LITERAL_ITEMS:
        raise ItemsError(
            f"for_each: {name!r} has {len(found):,} lines, at most {MAX_LITERAL_ITEMS:,}; use `run map` for more."
        )
    return found
