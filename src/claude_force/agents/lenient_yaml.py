r"""Reads frontmatter that is not YAML, as people write it.

The rule: only the 16 known keys at column 0 start a value, the first occurrence of a key wins, every other line
continues the value before it, and a literal ``\n`` in a description becomes a line break. What cannot be used is
told in notes, never dropped in silence.
"""

from __future__ import annotations

import re
from typing import Final

from claude_force.agents.plain_yaml import KNOWN_KEYS

# A value that is a word or a line: what stands below it belongs to no key.
_ONE_LINE_KEYS: Final = frozenset(
    {
        "name",
        "model",
        "permissionMode",
        "maxTurns",
        "memory",
        "background",
        "effort",
        "isolation",
        "color",
    }
)
_LIST_KEYS: Final = frozenset({"tools", "disallowedTools", "skills"})
_BLOCK_MARK: Final = r"[|>][+-]?[0-9]?[ \t]*(?:#.*)?\Z"
_FIRST_LINE_OF_HEADER: Final = 2


# The number of the line on which a value starts, and its lines.
_Value = tuple[int, list[str]]


def read_lenient_yaml(header: str) -> tuple[dict[str, object], tuple[str, ...]]:
    r"""The fields that can be found in ``header`` (``\n`` line ends), and a note for everything left out."""
    values, notes = _split(header)
    fields: dict[str, object] = {}
    for key, value in values.items():
        text, left_out = _text(key, value)
        notes.extend(left_out)
        if text:
            fields[key] = _as_list(text) if key in _LIST_KEYS else text
    return fields, tuple(notes)


def _split(header: str) -> tuple[dict[str, _Value], list[str]]:
    values: dict[str, _Value] = {}
    notes: list[str] = []
    current: _Value | None = None
    for number, line in enumerate(header.split("\n"), start=_FIRST_LINE_OF_HEADER):
        key, colon, rest = line.partition(":")
        if not colon or key not in KNOWN_KEYS or rest[:1] not in {"", " ", "\t"}:
            if current is not None:
                current[1].append(line)
            elif line.strip() and not line.lstrip().startswith("#"):
                notes.append(f"line {number} stands before the first known key and is left out")
            continue
        current = (number, [rest])
        if key in values:
            notes.append(f"line {number}: `{key}` stands there again; its first value is used")
        else:
            values[key] = current
    return values, notes


def _text(key: str, value: _Value) -> tuple[str, list[str]]:
    line_number, (first, *rest) = value
    notes: list[str] = []
    if key in _ONE_LINE_KEYS and first.strip():
        ends = [line_number + at for at, line in enumerate(rest, start=1) if line.strip()]
        if ends:
            notes.append(
                f"line {ends[0]}: does not belong to `{key}`, which is one line, and is left out"
            )
        rest = []
    if rest and re.match(_BLOCK_MARK, first.strip()):
        first = ""
    text = _unquote("\n".join([first, *(line.strip() for line in rest)]).strip())
    if key == "description":
        text = text.replace("\\n", "\n").strip()
    return text, notes


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        inner = text[1:-1]
        return inner.replace('\\"', '"') if text[0] == '"' else inner.replace("''", "'")
    return text


def _as_list(text: str) -> object:
    """Items of a dashed or bracketed list; any other text as it is."""
    lines = [line for line in text.split("\n") if line]
    if all(line.startswith("- ") for line in lines):
        return [_unquote(line[2:].strip()) for line in lines]
    if text.startswith("[") and text.endswith("]"):
        return text[1:-1].replace('"', "").replace("'", "")
    return text
