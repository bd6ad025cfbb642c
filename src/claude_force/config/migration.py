"""Brings an older claude.json up to date without losing anything of it."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from claude_force.config.claude_json import read_document
from claude_force.config.fields import FIELDS
from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Migration:
    """What was done."""

    # Fields that were written, such as `cache.enabled`.
    added: tuple[str, ...]
    # A copy of the file as it was.
    backup: Path


def migrate(path: Path) -> Migration | None:
    """Write every missing field of the known sections with its default; None when none is missing.

    Nothing that is there is changed. The file is replaced whole, after a copy ``claude.json.bak`` (or ``.bak.1``, …)
    was made, so it is never lost and never half written.

    Raises:
        ConfigError: the file cannot be read or written.
    """
    document = read_document(path)
    added = []
    for field in FIELDS:
        section = document.setdefault(field.section, {})
        if not isinstance(section, dict):
            raise ConfigError(f"{path}: {field.section} has to be an object. Correct it first.")
        if field.name not in section:
            default = field.default
            section[field.name] = list(default) if isinstance(default, tuple) else default
            added.append(field.path)
    if not added:
        return None
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        backup = _write_beside(path, "bak", path.read_bytes(), mode)
        _write_beside(path, "new", _encoded(document), mode).replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}. It is as it was."
        ) from error
    return Migration(tuple(added), backup)


def _encoded(document: dict[str, Any]) -> bytes:
    try:
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON can spell and UTF-8 cannot.
        return (json.dumps(document, indent=2) + "\n").encode()


def _write_beside(path: Path, ending: str, data: bytes, mode: int) -> Path:
    """Write a new file with the first free name; one that is there, or a link, is never written through."""
    for number in count():
        beside = path.with_name(f"{path.name}.{ending}{f'.{number}' if number else ''}")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        return beside
    raise AssertionError  # pragma: no cover - count() does not end
