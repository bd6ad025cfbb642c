"""The results of a map: one JSON object a line, written the moment an item ends, and the memory of a rerun."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from claude_force.domain.errors import ItemsError
from claude_force.workflows.json_lines import json_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import TextIOWrapper

# How the line of every result begins, written by `run map`: its id comes first.
_BEGINNING: Final = b'{"id":'


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResults:
    """What an earlier run left."""

    # Finished items that are still asked in the same way, by id.
    done: frozenset[str]
    # Lines that were dropped: failed, or cut off by a kill.
    dropped: int
    # Answers to what is asked in another way now, or no longer asked. They were paid, so they were set aside.
    outdated: int = 0


@dataclass(slots=True, kw_only=True)
class _Sorted:
    """The lines of a file by what becomes of them."""

    lines: int
    # The last one has no end.
    torn: bool
    kept: dict[str, bytes] = field(default_factory=dict)
    outdated: list[bytes] = field(default_factory=list)

    @property
    def untidy(self) -> bool:
        return len(self.kept) < self.lines or self.torn

    def summary(self) -> KeptResults:
        return KeptResults(
            done=frozenset(self.kept),
            dropped=self.lines - len(self.kept) - len(self.outdated),
            outdated=len(self.outdated),
        )


class ResultsFile:
    """An append-only file of results, used by one process at a time.

    A line is handed to the operating system before the next item counts as finished, so it survives the end of this
    process however it comes; ``close`` also waits for the disk. Opening it reads what an earlier run finished, moves
    outdated answers to a file beside it with ``.old`` at the end of its name, and drops the rest, in one atomic
    replacement: afterwards the file has one line for each finished item.

    Args:
        path: the file; it may not exist yet.
        keys: for each item id, the content key of what is asked now. A line with another key is not reused.

    Raises:
        ItemsError: the file is in use, cannot be written, or holds something else than results.
    """

    def __init__(self, path: Path, keys: Mapping[str, str]) -> None:
        self._shown = str(path)
        # Behind links: they stay, and every name of a file has the same lock.
        self._path = Path(os.path.realpath(path))
        self.outdated_path = self._path.with_name(self._path.name + ".old")
        # A file of its own: the results are replaced when they are opened, and a lock would stay with the old ones.
        self._lock_path = self._path.with_name(f".{self._path.name}.lock")
        try:
            self._lock = _lock(self._lock_path, self._shown)
            try:
                self.kept = self._keep(keys)
                # Unbuffered: what could not be written must not be tried again by `close`.
                self._file = self._path.open("ab", buffering=0)
            except BaseException:
                self._unlock()
                raise
        except OSError as error:
            raise ItemsError(
                f"The results cannot be written to {self._shown!r}: {error.strerror}."
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
        line = memoryview(json_line(entry).encode() + b"\n")
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise ItemsError(
                f"A result could not be written to {self._shown!r} ({error.strerror}); the map was stopped "
                "before more was spent. Make room and run the same command again."
            ) from error

    def close(self) -> None:
        """Wait for the disk, and let others use the file; a second call does nothing.

        Raises:
            ItemsError: the disk reports a fault; the last results may be lost.
        """
        if self._file.closed:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            # What is no file on a disk, such as a pipe, cannot be waited for.
            if error.errno != errno.EINVAL:
                raise ItemsError(
                    f"The last results may not have reached {self._shown!r} ({error.strerror})."
                ) from error
        finally:
            self._file.close()
            self._unlock()

    def _unlock(self) -> None:
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()

    def _keep(self, keys: Mapping[str, str]) -> KeptResults:
        if not self._path.exists():
            return KeptResults(done=frozenset(), dropped=0)
        found = _sort(self._path.read_bytes(), keys, self._shown)
        if found.untidy:
            self._set_aside(found.outdated)
            self._replace(b"".join(line + b"\n" for line in found.kept.values()))
        return found.summary()

    def _set_aside(self, lines: list[bytes]) -> None:
        if lines:
            with self.outdated_path.open("ab") as file:
                file.write(b"".join(line + b"\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())

    def _replace(self, content: bytes) -> None:
        temporary = self._path.with_name(f".{self._path.name}.new")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)


def look_into(path: Path, keys: Mapping[str, str]) -> KeptResults:
    """What `ResultsFile` would keep of a file, which is left as it is. Another process may be writing to it.

    Raises:
        ItemsError: the file cannot be read, or holds something else than results.
    """
    try:
        return _sort(path.read_bytes(), keys, str(path)).summary()
    except FileNotFoundError:
        return KeptResults(done=frozenset(), dropped=0)
    except OSError as error:
        raise ItemsError(
            f"The results cannot be read from {str(path)!r}: {error.strerror}."
        ) from error


def _sort(content: bytes, keys: Mapping[str, str], shown: str) -> _Sorted:
    """The lines of a file of results by what becomes of them.

    Raises:
        ItemsError: the file holds something else.
    """
    *lines, last = content.split(b"\n")
    read: list[tuple[bytes, dict[str, Any] | None]] = [
        (line, _entry(line, number, shown)) for number, line in enumerate(lines, start=1)
    ]
    if last:
        read.append((last, _last_entry(last, len(lines) + 1, shown)))
    found = _Sorted(lines=len(read), torn=bool(last))
    for line, entry in read:
        if entry is not None and entry["ok"] is True:
            item_id = str(entry["id"])
            if keys.get(item_id) == entry.get("key"):
                found.kept[item_id] = line
            else:
                found.outdated.append(line)
    return found


def _entry(line: bytes, number: int, shown: str) -> dict[str, Any]:
    entry = _parse(line)
    if entry is None:
        raise ItemsError(
            f"{shown!r} is not a file of results (line {number}); it was left as it is. Name another --out."
        )
    return entry


def _last_entry(line: bytes, number: int, shown: str) -> dict[str, Any] | None:
    """The last line of a file without a line end; None for a result that a kill cut off."""
    torn = line.startswith(_BEGINNING) or _BEGINNING.startswith(line)
    return _parse(line) if torn else _entry(line, number, shown)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and "id" in entry and "ok" in entry else None


def _lock(lock_path: Path, shown: str) -> TextIOWrapper:
    while True:
        lock = lock_path.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A process that ended in between has taken its lock file with it; a lock on that one excludes nobody.
            if lock_path.exists() and os.path.samestat(lock_path.stat(), os.fstat(lock.fileno())):
                return lock
        except BlockingIOError:
            lock.close()
            raise ItemsError(
                f"Another process is writing to {shown!r}. Wait for it, or name another --out."
            ) from None
        except BaseException:
            lock.close()
            raise
        lock.close()
