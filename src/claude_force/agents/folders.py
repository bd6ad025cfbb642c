"""Finds the Markdown files of a folder of agents and reads each no more often than it changes."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from claude_force.agents.loading import (
    MAX_AGENT_FILE_BYTES,
    LoadedAgent,
    NotAnAgent,
    read_agent,
    too_large,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.agents import AgentScope

# File systems keep times in steps of up to some milliseconds, so a file that changed just before it was read can
# change again without a visible trace. Such a reading is not trusted the next time.
_SETTLED_AFTER_NS: Final = 50_000_000

_Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The Markdown files below a folder, and the folders that could not be read."""

    # Path and depth: 0 for a file that stands in the folder itself.
    files: tuple[tuple[str, int], ...]
    unreadable: tuple[NotAnAgent, ...] = ()


def list_folder(folder: Path) -> FolderListing:
    """Every ``*.md`` below ``folder``, links followed, each real folder entered once; empty if there is no folder."""
    files: list[tuple[str, int]] = []
    problems: list[NotAnAgent] = []
    seen: set[tuple[int, int]] = set()
    waiting = [(str(folder), 0)]
    while waiting:
        path, depth = waiting.pop()
        try:
            identity = os.stat(path)  # noqa: PTH116  a text path: a Path for each file doubles the time of a listing
            if (identity.st_dev, identity.st_ino) in seen:
                continue
            seen.add((identity.st_dev, identity.st_ino))
            found, below = _entries(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            problems.append(unreadable(Path(path), error))
            continue
        files.extend((file, depth) for file in found)
        # The last is taken first: sorted backwards, so that of two links to one folder the same one always counts.
        waiting.extend((name, depth + 1) for name in sorted(below, reverse=True))
    return FolderListing(tuple(files), tuple(problems))


def _entries(path: str) -> tuple[list[str], list[str]]:
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if _is_folder(entry):
                folders.append(entry.path)
            elif entry.name.lower().endswith(".md"):
                files.append(entry.path)
    return files, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.name != ".git" and entry.is_dir()
    except OSError:  # a link that leads round in a circle
        return False


class AgentFiles:
    """Agent files as they were last read, by path and scope.

    A reading is used again while the file's time, size and identity stay the same. Safe to use from several threads:
    the worst that happens is that a file is read twice.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._readings: dict[tuple[str, AgentScope], tuple[_Stamp, LoadedAgent | NotAnAgent]] = {}
        # Files opened so far.
        self.reads = 0

    def load(self, path: str, scope: AgentScope) -> LoadedAgent | NotAnAgent:
        """The agent in the file, or why there is none.

        Raises:
            FileNotFoundError: the file is gone, or is a link to nothing.
        """
        try:
            known = self._readings.get((path, scope))
            if known is not None and _stamp(os.stat(path)) == known[0]:  # noqa: PTH116  as above
                return known[1]
            return self._read(path, scope)
        except FileNotFoundError:
            self._readings.pop((path, scope), None)
            raise
        except OSError as error:
            return unreadable(Path(path), error)

    def _read(self, path: str, scope: AgentScope) -> LoadedAgent | NotAnAgent:
        # Not blocking, so that a named pipe cannot hold us; it is refused below.
        descriptor = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
        self.reads += 1
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return NotAnAgent(
                    Path(path), "unreadable", "not a regular file", "An agent is a Markdown file."
                )
            if status.st_size > MAX_AGENT_FILE_BYTES:
                loaded: LoadedAgent | NotAnAgent = too_large(Path(path), status.st_size)
            else:
                loaded = read_agent(_read_whole(descriptor, status.st_size), Path(path), scope)
        finally:
            os.close(descriptor)
        if self._now_ns() - status.st_mtime_ns > _SETTLED_AFTER_NS:
            self._readings[path, scope] = (_stamp(status), loaded)
        return loaded


def _read_whole(descriptor: int, size_bytes: int) -> bytes:
    """The bytes of the file, at most one more than are accepted: it may grow while it is read."""
    parts: list[bytes] = []
    left = MAX_AGENT_FILE_BYTES + 1
    # A read that gives less than it was asked for has come to the end: one more byte saves a second read.
    wanted = size_bytes + 1
    while left > 0:
        part = os.read(descriptor, min(left, wanted))
        parts.append(part)
        left -= len(part)
        if len(part) < wanted:
            break
        wanted = 65_536
    return b"".join(parts)


def _stamp(status: os.stat_result) -> _Stamp:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)
