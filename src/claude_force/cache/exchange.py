"""Entries as a file that can be carried to another machine: JSON Lines, one signed record a line."""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Final

import msgspec

from claude_force.domain.errors import InputError
from claude_force.storage.private_files import FILE_MODE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from claude_force.cache.entries import CacheEntry, EntrySigner

# Four times the largest answer that a model can give today, as base64.
_MAX_LINE_BYTES: Final = 64 * 1024 * 1024


class _Line(msgspec.Struct):
    """What stands beside the record is for people; only the signed record is read back."""

    record: str
    agent_name: str = ""
    model: str = ""
    created_at: float = 0.0


def export_entries(path: Path, entries: Iterable[CacheEntry], signer: EntrySigner) -> int:
    """Write ``entries`` to a new file that only its owner can read; how many.

    Raises:
        InputError: the file exists already, or cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        message = f"cannot make {str(path)!r}: {error.strerror or error}; name a new file"
        raise InputError(message) from error
    count = 0
    with os.fdopen(descriptor, "wb") as file:
        for entry in entries:
            line = _Line(
                record=base64.b64encode(signer.seal(entry)).decode("ascii"),
                agent_name=entry.agent_name,
                model=entry.model,
                created_at=entry.created_at,
            )
            file.write(msgspec.json.encode(line) + b"\n")
            count += 1
    return count


def imported_entries(path: Path, signer: EntrySigner) -> Iterator[CacheEntry | None]:
    """The entry of every line; None for a line that is damaged or signed with another secret.

    Raises:
        InputError: the file cannot be read.
    """
    decode = msgspec.json.Decoder(_Line).decode
    try:
        with path.open("rb") as file:
            while line := file.readline(_MAX_LINE_BYTES):
                try:
                    record = base64.b64decode(decode(line).record, validate=True)
                except (msgspec.MsgspecError, binascii.Error):
                    yield None
                    continue
                yield signer.unseal(record)
    except OSError as error:
        message = f"cannot read {str(path)!r}: {error.strerror or error}"
        raise InputError(message) from error
