"""Answers that have to be JSON of a given shape."""
# ruff: noqa: PLC0415 - the validator is imported by the first answer that needs it: 0.1 s

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

# Models like to put JSON into a fenced block, although they are asked for JSON alone.
_FENCES: Final = ("```json", "```")
_MOST_PROBLEMS: Final = 5


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer held against a schema."""

    # The parsed answer, where it is JSON.
    data: object = None
    # What is wrong with it, in words that a model can act on; None if nothing is.
    problem: str | None = None


def check_answer(text: str, schema: str) -> Checked:
    """Hold an answer against a JSON Schema, given as JSON text."""
    try:
        data = json.loads(unfenced(text))
    except (ValueError, RecursionError) as error:
        return Checked(problem=f"it is not JSON ({error})")
    errors = sorted(_validator(schema).iter_errors(data), key=lambda error: error.json_path)
    if not errors:
        return Checked(data)
    shown = [f"{error.json_path}: {error.message:.300}" for error in errors[:_MOST_PROBLEMS]]
    if len(errors) > _MOST_PROBLEMS:
        shown.append(f"and {len(errors) - _MOST_PROBLEMS} more")
    return Checked(data, "; ".join(shown))


def unfenced(text: str) -> str:
    """The inside of a fenced block that is all of ``text``, else ``text``."""
    stripped = text.strip()
    for fence in _FENCES:
        if (
            stripped.startswith(fence)
            and stripped.endswith("```")
            and len(stripped) > len(fence) + 3
        ):
            return stripped[len(fence) : -3].strip()
    return stripped


@lru_cache(maxsize=64)
def _validator(schema: str) -> Validator:
    from jsonschema import Draft202012Validator

    parsed: Any = json.loads(schema)
    return Draft202012Validator(parsed)
