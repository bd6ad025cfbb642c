"""Splits a Markdown file into frontmatter and body, and reads the frontmatter.

Strict YAML first; what is not YAML is read by the lenient rule, and the result says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from claude_force.agents.plain_yaml import KNOWN_KEYS, BrokenPlainYaml, read_plain_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

_MARK: Final = "---"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitMarkdown:
    r"""A Markdown file in its two parts, with ``\n`` line ends and without a byte order mark."""

    # The lines between the marks; None where the file has no frontmatter.
    header: str | None
    body: str
    # The frontmatter is opened and never closed; ``header`` is then None and ``body`` the whole text.
    unterminated: bool = False
    # Blank lines stand before the opening mark, which Claude Code does not accept.
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontmatter:
    """What a frontmatter says."""

    fields: Mapping[str, object] = field(default_factory=dict)
    # It is not valid YAML; ``problem`` says why, and the lenient rule found ``fields``.
    problem: str | None = None
    # What was left out or changed on the way, one sentence each.
    notes: tuple[str, ...] = ()

    @property
    def lenient(self) -> bool:
        """True when the lenient rule had to read it."""
        return self.problem is not None


def split_markdown(text: str) -> SplitMarkdown:
    """The frontmatter and the body of a Markdown file.

    The frontmatter stands between a first line ``---`` and the next such line; later ones belong to the body.
    """
    text = text.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    start = _first_line_with_text(text)
    header_start = _after_mark(text, start)
    if header_start is None:
        return SplitMarkdown(header=None, body=text)
    line = header_start
    while 0 <= line < len(text):
        body_start = _after_mark(text, line)
        if body_start is not None:
            header = text[header_start : max(header_start, line - 1)]
            return SplitMarkdown(header=header, body=text[body_start:], late=start > 0)
        line = text.find("\n" + _MARK, line) + 1 or len(text)
    return SplitMarkdown(header=None, body=text, unterminated=True)


def _first_line_with_text(text: str) -> int:
    """Where it starts."""
    start = 0
    while (end := text.find("\n", start)) >= 0 and not text[start:end].strip(" \t"):
        start = end + 1
    return start


def _after_mark(text: str, line: int) -> int | None:
    """Where the line after the mark starts, if the line that starts at ``line`` is a mark."""
    if not text.startswith(_MARK, line):
        return None
    end = text.find("\n", line)
    end = len(text) if end < 0 else end
    return end + 1 if not text[line + len(_MARK) : end].strip(" \t") else None


def read_frontmatter(header: str) -> Frontmatter:
    """The fields of a frontmatter; never raises."""
    plain = read_plain_yaml(header)
    if isinstance(plain, dict):
        return Frontmatter(fields=plain)
    if isinstance(plain, BrokenPlainYaml):
        return _read_leniently(header, plain.problem)
    from claude_force.agents.strict_yaml import (  # noqa: PLC0415  imports PyYAML, which most files do not need
        StrictYamlError,
        read_strict_yaml,
    )

    try:
        fields = read_strict_yaml(header)
    except StrictYamlError as error:
        return _read_leniently(header, str(error))
    unknown = [key for key in fields if key not in KNOWN_KEYS]
    notes = tuple(f"the key {key!r} is unknown and is left out" for key in unknown)
    return Frontmatter(
        fields={key: value for key, value in fields.items() if key in KNOWN_KEYS}, notes=notes
    )


def _read_leniently(header: str, problem: str) -> Frontmatter:
    from claude_force.agents.lenient_yaml import read_lenient_yaml  # noqa: PLC0415  for few files

    fields, notes = read_lenient_yaml(header)
    return Frontmatter(fields=fields, problem=problem, notes=notes)
