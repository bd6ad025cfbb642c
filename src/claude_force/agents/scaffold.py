"""Writes the starter set: ten agents, a claude.json with two workflows, and three workflows in files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from claude_force.domain.errors import ConfigError

# The starter set as it is shipped: a folder like `.claude`.
STARTER_FOLDER: Final = Path(__file__).parent / "starter"

FileState = Literal["created", "overwritten", "kept", "unchanged"]


@dataclass(frozen=True, slots=True)
class ScaffoldReport:
    """What became of each file; paths are relative to the target, with forward slashes, in sorted order."""

    # The `.claude` folder.
    folder: Path
    created: tuple[str, ...] = ()
    # Replaced, because `force` was given.
    overwritten: tuple[str, ...] = ()
    # There already with other content, and left alone.
    kept: tuple[str, ...] = ()
    # There already with the same content.
    unchanged: tuple[str, ...] = ()


def starter_files() -> dict[str, bytes]:
    """The starter set: contents by path below ``.claude``."""
    return {
        file.relative_to(STARTER_FOLDER).as_posix(): file.read_bytes()
        for file in sorted(STARTER_FOLDER.rglob("*"))
        if file.suffix in {".md", ".json", ".yaml"}
    }


def write_starter(target: Path, *, force: bool = False) -> ScaffoldReport:
    """Puts the starter set into ``target/.claude``.

    A file that is there with other content is kept, unless ``force`` is given. Each file appears whole or not at all;
    after a failure a second call writes what is missing. Folders and files are left to the user's umask: they are
    meant to be shared with the project.

    Raises:
        ConfigError: a folder or file cannot be written, or ``.claude`` leads out of ``target`` by a link.
    """
    folder = target / ".claude"
    done: dict[FileState, list[str]] = {
        "created": [],
        "overwritten": [],
        "kept": [],
        "unchanged": [],
    }
    try:
        for name, content in starter_files().items():
            path = folder / name
            _check_inside(path, target)
            state = _state(path, content, force=force)
            if state in ("created", "overwritten"):
                _write(path, content)
            done[state].append(path.relative_to(target).as_posix())
    except OSError as error:
        raise ConfigError(
            f"The starter agents cannot be written to {str(folder)!r}: {error.strerror or error}. "
            "Check the folder and its rights, and run the command again: it goes on where it stopped."
        ) from error
    return ScaffoldReport(folder, **{state: tuple(names) for state, names in done.items()})


def _check_inside(path: Path, target: Path) -> None:
    """A cloned project could place a link where we write."""
    if not path.parent.resolve().is_relative_to(target.resolve()):
        raise ConfigError(
            f"{str(path.parent)!r} is a link that leads out of {str(target)!r}. Remove the link, or name its target."
        )


def _state(path: Path, content: bytes, *, force: bool) -> FileState:
    if not path.exists() and not path.is_symlink():
        return "created"
    if path.is_file() and path.read_bytes() == content:
        return "unchanged"
    return "overwritten" if force else "kept"


def _write(path: Path, content: bytes) -> None:
    """By a neighbour of another name, so that nobody ever reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with neighbour.open("xb") as file:
            file.write(content)
        neighbour.replace(path)
    except BaseException:
        neighbour.unlink(missing_ok=True)
        raise
