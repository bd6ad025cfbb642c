"""Brings an older claude.json up to date without losing anything of it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        backup = _backup(path)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(
            json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}. It is as it was."
        ) from error
    return Migration(tuple(added), backup)


def _backup(path: Path) -> Path:
    original = path.read_bytes()
    number = 0
    while True:
        backup = path.with_name(f"{path.name}.bak{f'.{number}' if number else ''}")
        try:
            descriptor = os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            number += 1
            continue
        with os.fdopen(descriptor, "wb") as file:
            file.write(original)
        return backup
