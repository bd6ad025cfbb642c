"""The results of a map: one JSON object a line, written the moment an item ends, and the memory of a rerun."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from claude_force.domain.errors import ItemsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import TextIOWrapper
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResults:
    """What an earlier run left."""

    # Finished items that are still asked in the same way, by id.
    done: frozenset[str]
    # Lines that were dropped: failed, asked in another way since, no longer asked, or cut off by a kill.
    dropped: int


class ResultsFile:
    """An append-only file of results, used by one process at a time.

    A line is handed to the operating system before the next item counts as finished, so it survives the end of this
    process however it comes; ``close`` also waits for the disk. Opening it reads what an earlier run finished and
    drops the rest, in one atomic replacement: afterwards the file has one line for each finished item.

    Args:
        path: the file; it may not exist yet.
        keys: for each item id, the content key of what is asked now. A line with another key is not reused.

    Raises:
        ItemsError: the file is in use, cannot be written, or holds something else than results.
    """

    def __init__(self, path: Path, keys: Mapping[str, str]) -> None:
        self._path = path
        # A file of its own: the results are replaced when they are opened, and a lock would stay with the old ones.
        self._lock_path = path.with_name(f".{path.name}.lock")
        try:
            self._lock = _lock(self._lock_path, path)
            self.kept = self._keep(keys)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise ItemsError(
                f"The results cannot be written to {str(path)!r}: {error.strerror}."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one line.

        Raises:
            ItemsError: it could not be written; the message says so before more is paid.
        """
        try:
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise ItemsError(
                f"A result could not be written to {str(self._path)!r} ({error.strerror}); the map was stopped "
                "before more was spent. Make room and run the same command again."
            ) from error

    def close(self) -> None:
        """Wait for the disk, and let others use the file; a second call does nothing."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()
            self._lock_path.unlink(missing_ok=True)
            self._lock.close()

    def _keep(self, keys: Mapping[str, str]) -> KeptResults:
        if not self._path.exists():
            return KeptResults(done=frozenset(), dropped=0)
        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        kept: dict[str, str] = {}
        for number, line in enumerate(lines, start=1):
            entry = self._entry(line, number, is_last=number == len(lines))
            if (
                entry is not None
                and entry.get("ok") is True
                and keys.get(str(entry["id"])) == entry.get("key")
            ):
                kept[str(entry["id"])] = line
        if len(kept) < len(lines):
            self._replace("".join(kept.values()))
        return KeptResults(done=frozenset(kept), dropped=len(lines) - len(kept))

    def _entry(self, line: str, number: int, *, is_last: bool) -> dict[str, Any] | None:
        """One line, or None for one that a kill cut off."""
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and "id" in entry and "ok" in entry:
            return entry if line.endswith("\n") else None
        if is_last and not line.endswith("\n"):
            return None
        raise ItemsError(
            f"{str(self._path)!r} is not a file of results (line {number}); it was left as it is. Name another --out."
        )

    def _replace(self, text: str) -> None:
        temporary = self._path.with_name(f".{self._path.name}.new")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)


def _lock(lock_path: Path, path: Path) -> TextIOWrapper:
    lock = lock_path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ItemsError(
            f"Another process is writing to {str(path)!r}. Wait for it, or name another --out."
        ) from None
    return lock
