"""Reads the simplest YAML without a YAML parser.

Importing PyYAML costs more time than reading a whole folder of agents, and most frontmatters are single lines of
``key: words`` or ``key: "words"``. This module reads those and declines everything else. For what it accepts it
gives exactly what strict YAML gives, and what it calls broken strict YAML refuses: a property test compares both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KNOWN_KEYS: Final = frozenset(
    (
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
)

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
        key, _, rest = line.partition(":")
        # Not printable is what YAML refuses (controls, surrogates, a byte order mark) or takes for a line break.
        if key not in KNOWN_KEYS or key in fields or rest[:1] != " " or not rest.isprintable():
            return None
        value = _value(rest.strip(" "))
        if value is None:
            return None
        if isinstance(value, BrokenPlainYaml):
            return BrokenPlainYaml(f"line {number}: the value of `{key}` {value.problem}")
        fields[key] = value
    return fields


def _value(written: str) -> str | BrokenPlainYaml | None:
    """The text that one value stands for.

    String methods and not a pattern: for some hundred files the difference is half of the time.
    """
    first = written[:1]
    if first in ('"', "'"):
        inner = written[1:-1]
        closed = len(written) > 1 and written[-1] == first
        return (
            inner if closed and first not in inner and (first == "'" or "\\" not in inner) else None
        )
    # Plain values start with a letter, so they cannot be numbers, dates, collections, anchors, tags or block scalars.
    # `#` may start a comment, and a colon at the end or before a space makes a mapping.
    if not (first.isascii() and first.isalpha()) or "#" in written:
        return None
    if ": " in written:
        # The one mistake that strict YAML refuses whatever stands around it.
        return BrokenPlainYaml("holds a colon followed by a space and is not in quotes")
    return None if written.endswith(":") or written.lower() in _NOT_TEXT else written
