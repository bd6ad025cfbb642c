"""Reads the simplest YAML without a YAML parser.

Importing PyYAML costs more time than reading a whole folder of agents, and most frontmatters are single lines of
``key: words`` or ``key: "words"``. This module reads those and declines everything else. For what it accepts it
gives exactly what strict YAML gives, and what it calls broken strict YAML refuses: a property test compares both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

KNOWN_KEYS: Final = (
    "name",
    "description",
    "tools",
    "disallowedTools",
    "model",
    "permissionMode",
    "maxTurns",
    "skills",
    "mcpServers",
    "hooks",
    "memory",
    "background",
    "effort",
    "isolation",
    "color",
    "initialPrompt",
)

# Plain values start with a letter, so they cannot be numbers, dates, collections, anchors, tags or block scalars,
# and hold neither `#` nor a colon that a space or the line's end follows, so they cannot be comments or mappings.
# The patterns name ASCII characters only: compiling a class of wide ones takes milliseconds.
_KEY: Final = "|".join(KNOWN_KEYS)
_WORDS: Final = r"[A-Za-z][^#:]*(?::(?! )[^#:]+)*"
_LINE: Final = re.compile(rf"""({_KEY}): +(?:({_WORDS})|"([^"\\]*)" *|'([^']*)' *)\Z""")

# A plain value with a colon and a space in it: the one mistake that strict YAML refuses whatever stands around it.
_COLON: Final = re.compile(rf"({_KEY}): +{_WORDS}: ")

# Words that YAML 1.1 reads as a truth value or as nothing.
_NOT_TEXT: Final = frozenset({"yes", "no", "true", "false", "on", "off", "null"})


@dataclass(frozen=True, slots=True)
class BrokenPlainYaml:
    """A frontmatter that strict YAML refuses, and why."""

    # In words for the person who wrote the file.
    problem: str


def read_plain_yaml(header: str) -> dict[str, str] | BrokenPlainYaml | None:
    r"""The fields of a frontmatter of simple lines; what is broken about it; or None for "ask a YAML parser".

    ``header`` has ``\n`` line ends and no document marks.
    """
    fields: dict[str, str] = {}
    for number, line in enumerate(header.split("\n"), start=2):
        # Not printable is what YAML refuses (controls, surrogates, a byte order mark) or takes for a line break.
        if not line.isprintable():
            return None
        match = _LINE.match(line)
        if match is None:
            return _broken(line, number)
        key, value = match[1], _value(match)
        if value is None or key in fields:
            return None
        fields[key] = value
    return fields


def _value(match: re.Match[str]) -> str | None:
    plain = match[2]
    if plain is None:
        quoted = match[3]
        return match[4] if quoted is None else quoted
    plain = plain.rstrip(" ")
    return None if plain.lower() in _NOT_TEXT else plain


def _broken(line: str, number: int) -> BrokenPlainYaml | None:
    match = _COLON.match(line)
    if match is None:
        return None
    return BrokenPlainYaml(
        f"line {number}: the value of `{match[1]}` holds a colon followed by a space and is not in quotes"
    )
