"""Strict YAML for untrusted frontmatter: text, numbers, lists and mappings, bounded in what it can cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from yaml import YAMLError
    from yaml.events import Event

MAX_DEPTH: Final = 32


class StrictYamlError(Exception):
    """The text is not YAML that is accepted here; the message is one line."""


def read_strict_yaml(header: str) -> dict[str, object]:
    """The mapping that ``header`` is.

    Repeated keys, aliases (a few lines of which can stand for billions of nodes) and nesting deeper than 32 are
    refused, and so is everything that would construct a Python object.

    Raises:
        StrictYamlError: it is not valid, not accepted, or not a mapping with text keys.
    """
    import yaml  # noqa: PLC0415  27 ms: paid only for the frontmatters that need it

    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        _check_events(yaml.parse(header, Loader=loader))
        value = yaml.load(header, Loader=loader)  # noqa: S506  a safe loader, in C where it is built
    except yaml.YAMLError as error:
        raise StrictYamlError(_one_line(error)) from error
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        # PyYAML's constructors raise these for `2026-99-99`, `!!int x`, `!!bool maybe` and their like.
        raise StrictYamlError(f"a value cannot be read: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise StrictYamlError("the frontmatter is not a list of `key: value` lines")
    return value


def _check_events(events: Iterable[Event]) -> None:
    """Looks at the flat stream of events, where an alias is still one event and depth is a counter."""
    from yaml.events import (  # noqa: PLC0415  with PyYAML, above
        AliasEvent,
        CollectionEndEvent,
        CollectionStartEvent,
        ScalarEvent,
    )

    depth = 0
    top_level_keys: set[str] = set()
    # At depth 1 keys and values alternate; a collection counts as the value when it closes.
    expects_key = True
    for event in events:
        if isinstance(event, AliasEvent):
            raise StrictYamlError("anchors and aliases (`&`, `*`) are not accepted")
        if isinstance(event, CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise StrictYamlError(f"nested deeper than {MAX_DEPTH} levels")
            continue
        if isinstance(event, CollectionEndEvent):
            depth -= 1
        elif not isinstance(event, ScalarEvent):
            continue
        if depth != 1:
            continue
        if expects_key and isinstance(event, ScalarEvent):
            if event.value in top_level_keys:
                raise StrictYamlError(f"the key {event.value!r} stands there twice")
            top_level_keys.add(event.value)
        expects_key = not expects_key


def _one_line(error: YAMLError) -> str:
    problem = getattr(error, "problem", None) or str(error)
    mark = getattr(error, "problem_mark", None)
    # The frontmatter starts on the second line of its file, and marks count from 0.
    place = f"line {mark.line + 2}: " if mark is not None else ""
    return place + " ".join(str(problem).split())
