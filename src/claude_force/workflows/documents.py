"""Reads a definition from a YAML or JSON file, with the line on which each part of it stands."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from claude_force.domain.errors import WorkflowDefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from yaml.nodes import Node

SUFFIXES: Final = (".yaml", ".yml", ".json")
# Ten thousand steps with a task of some lines each fit; what is larger is some other file.
MAX_DEFINITION_BYTES: Final = 4_000_000
MAX_DEPTH: Final = 32

_MERGE_KEY: Final = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says."""

    # JSON values only: text, numbers, truth values, null, lists, objects with text keys.
    value: object
    # Lines from 1 by place, such as `steps[0].agent`; empty for JSON.
    lines: Mapping[str, int] = field(default_factory=dict)


class _RefusedError(Exception):
    """Why a file is no definition; the message begins with the line where there is one."""


def read_document(path: Path, *, inside: Path | None = None) -> Document:
    """The definition in ``path``, not yet checked as a workflow.

    YAML is loaded without anything that would construct a Python object; repeated keys, aliases (a few lines of which
    can stand for billions of nodes) and nesting deeper than 32 are refused, in JSON too.

    Args:
        path: ends in ``.yaml``, ``.yml`` or ``.json``.
        inside: a folder out of which the file may not lead by links; None for a path that the user has named.

    Raises:
        WorkflowDefinitionError: it cannot be read, or is not what its name says.
    """
    try:
        text = _text(path, inside)
        return _read_json(text) if path.suffix == ".json" else _read_yaml(text)
    except _RefusedError as error:
        problem = str(error)
        raise WorkflowDefinitionError(
            f"The workflow file {str(path)!r} cannot be read: {problem}.", [problem]
        ) from error


def _text(path: Path, inside: Path | None) -> str:
    if path.suffix not in SUFFIXES:
        raise _RefusedError(f"its name ends in none of {', '.join(SUFFIXES)}")
    try:
        real = path.resolve(strict=True)
        if inside is not None and not real.is_relative_to(inside.resolve()):
            raise _RefusedError(
                f"it is a link that leads out of {str(inside)!r}; copy the file there, or name its own path"
            )
        data = _bytes(real)
    except OSError as error:
        raise _RefusedError(error.strerror or str(error)) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _RefusedError(f"it is not UTF-8 text (byte {error.start:,})") from error


def _bytes(path: Path) -> bytes:
    # Not blocking, so that a named pipe cannot hold us; it is refused below.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _RefusedError("it is not a regular file")
        data = file.read(MAX_DEFINITION_BYTES + 1)
    if len(data) > MAX_DEFINITION_BYTES:
        raise _RefusedError(f"it is larger than {MAX_DEFINITION_BYTES:,} bytes")
    return data


def _read_json(text: str) -> Document:
    import json  # noqa: PLC0415 - a run of a workflow in claude.json needs none of this

    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _RefusedError(f"line {error.lineno}: it is not valid JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise _RefusedError(f"it is not JSON that is accepted: {error}") from error
    _check_depth(value)
    return Document(value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RefusedError(f"the key {twice!r} stands twice in one object")
    return value


def _refuse_constant(name: str) -> object:
    raise _RefusedError(f"{name} is no JSON")


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (
                item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
            )
        ]
        if not level:
            return
    raise _RefusedError(f"it is nested deeper than {MAX_DEPTH} levels")


def _read_yaml(text: str) -> Document:
    import yaml  # noqa: PLC0415  27 ms: paid only for YAML

    kind = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        _check_events(text, kind)
        loader = kind(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise _RefusedError("it is empty")
            lines = dict(_lines(node))
            value = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise _RefusedError(_one_line(error)) from error
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        # PyYAML's constructors raise these for `2026-99-99`, `!!int x`, `!!bool maybe` and their like.
        raise _RefusedError(f"a value cannot be read: {error}") from error
    _check_values(value, lines)
    return Document(value, lines)


def _check_events(text: str, kind: Any) -> None:  # noqa: ANN401 - PyYAML's loaders share no type
    """Looks at the flat stream of events, where an alias is still one event and depth is a counter."""
    import yaml  # noqa: PLC0415  with PyYAML, above

    depth = 0
    for event in yaml.parse(text, Loader=kind):
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError(
                f"{_at_mark(event.start_mark)}anchors and aliases (`&`, `*`) are not accepted; "
                "write the value out"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _RefusedError(
                    f"{_at_mark(event.start_mark)}nested deeper than {MAX_DEPTH} levels"
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _lines(node: Node, place: str = "") -> Iterator[tuple[str, int]]:
    """Each place with its line. Nesting is bounded, so this may call itself."""
    from yaml.nodes import MappingNode, SequenceNode  # noqa: PLC0415  with PyYAML, above

    if isinstance(node, MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            name = str(key.value)
            if name in seen:
                raise _RefusedError(f"line {line}: the key {name!r} stands there twice")
            if key.tag == _MERGE_KEY:
                raise _RefusedError(f"line {line}: merge keys (`<<`) are not accepted")
            seen.add(name)
            below = f"{place}.{name}" if place else name
            yield below, line
            yield from _lines(value, below)
    elif isinstance(node, SequenceNode):
        for position, item in enumerate(node.value):
            below = f"{place}[{position}]"
            yield below, item.start_mark.line + 1
            yield from _lines(item, below)


def _check_values(value: object, lines: Mapping[str, int], place: str = "") -> None:
    """YAML knows dates, binary data and more that JSON has no word for, and reads `on` as a truth value."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _RefusedError(
                    f"{_at(lines, place)}the key {key!r} is no text; put it in quotes"
                )
            _check_values(item, lines, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _check_values(item, lines, f"{place}[{position}]")
    elif not (value is None or isinstance(value, (str, bool, int))) and not _is_finite(value):
        kind = type(value).__name__
        raise _RefusedError(
            f"{_at(lines, place)}{place}: {value!s:.40} is read as a {kind}; put it in quotes"
        )


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and value - value == 0


def _at(lines: Mapping[str, int], place: str) -> str:
    return f"line {lines[place]}: " if place in lines else ""


def _one_line(error: Exception) -> str:
    parts = [getattr(error, "context", None), getattr(error, "problem", None) or str(error)]
    return _at_mark(getattr(error, "problem_mark", None)) + ", ".join(
        " ".join(str(part).split()) for part in parts if part
    )


def _at_mark(mark: Any) -> str:  # noqa: ANN401 - one of two classes that share no type
    # Marks count from 0.
    return f"line {mark.line + 1}: " if mark is not None else ""
