"""``MEMORY.md``: what an agent noted in earlier sessions, in the folders that Claude Code keeps for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

NOTES_FILE: Final = "MEMORY.md"
MAX_LINES: Final = 200
MAX_BYTES: Final = 25 * 1024

# Below the user's home, or below the project.
_FOLDERS: Final = {
    "user": "agent-memory",
    "project": "agent-memory",
    "local": "agent-memory-local",
}


def notes_path(kind: str, agent_name: str, *, home: Path, project: Path) -> Path:
    """Where the notes of an agent are, whose file says ``memory: user``, ``project`` or ``local``."""
    base = home if kind == "user" else project
    return base / ".claude" / _FOLDERS[kind] / agent_name / NOTES_FILE


def read_notes(kind: str, agent_name: str, *, home: Path, project: Path) -> str:
    """The first 200 lines of the notes, 25 KB at most; nothing where there are none, or they cannot be read.

    Notes of a project have to stay inside of it after links are resolved: a project cannot send files of its user.
    """
    path = notes_path(kind, agent_name, home=home, project=project)
    try:
        if kind != "user" and not path.resolve().is_relative_to(project.resolve()):
            return ""
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            data = file.read(MAX_BYTES)
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # links in a circle: RuntimeError before Python 3.13
        return ""
    # A character that the bound has cut in two is left out.
    text = data.decode("utf-8", "ignore")
    return "".join(text.splitlines(keepends=True)[:MAX_LINES]).strip()
