"""`MEMORY.md` is read from the folder that the agent's `memory:` line means, within its bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_force.memory.notes import read_notes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "project"


def write(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def test_each_kind_has_its_folder(home: Path, project: Path) -> None:
    write(home / ".claude/agent-memory/writer/MEMORY.md", "of the user")
    write(project / ".claude/agent-memory/writer/MEMORY.md", "of the project")
    write(project / ".claude/agent-memory-local/writer/MEMORY.md", "of this machine")
    assert [
        read_notes(kind, "writer", home=home, project=project)
        for kind in ("user", "project", "local")
    ] == ["of the user", "of the project", "of this machine"]
    assert read_notes("user", "other", home=home, project=project) == ""


def test_only_the_first_200_lines_count(home: Path, project: Path) -> None:
    lines = [f"line {number}" for number in range(1, 301)]
    write(home / ".claude/agent-memory/writer/MEMORY.md", "\n".join(lines))
    found = read_notes("user", "writer", home=home, project=project)
    assert found.splitlines() == lines[:200]


def test_only_the_first_25_kilobytes_count_and_no_half_character(home: Path, project: Path) -> None:
    write(home / ".claude/agent-memory/writer/MEMORY.md", "x" + "ü" * 20_000)
    found = read_notes("user", "writer", home=home, project=project)
    assert found == "x" + "ü" * (25 * 1024 // 2 - 1)


@pytest.mark.parametrize("kind", ["project", "local"])
def test_notes_of_a_project_cannot_be_a_link_out_of_it(
    home: Path, project: Path, tmp_path: Path, kind: str
) -> None:
    write(tmp_path / "secret", "a key")
    folder = {"project": "agent-memory", "local": "agent-memory-local"}[kind]
    path = project / ".claude" / folder / "writer" / "MEMORY.md"
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "secret")
    assert read_notes(kind, "writer", home=home, project=project) == ""
    path.unlink()
    write(project / "docs" / "notes.md", "inside")
    path.symlink_to(project / "docs" / "notes.md")
    assert read_notes(kind, "writer", home=home, project=project) == "inside"


def test_a_folder_of_links_out_of_the_project_is_not_followed(
    home: Path, project: Path, tmp_path: Path
) -> None:
    write(tmp_path / "elsewhere" / "MEMORY.md", "a key")
    (project / ".claude" / "agent-memory").mkdir(parents=True)
    (project / ".claude" / "agent-memory" / "writer").symlink_to(tmp_path / "elsewhere")
    assert read_notes("project", "writer", home=home, project=project) == ""


def test_what_cannot_be_read_is_nothing(home: Path, project: Path) -> None:
    path = home / ".claude/agent-memory/writer/MEMORY.md"
    path.mkdir(parents=True)
    assert read_notes("user", "writer", home=home, project=project) == ""
    path.rmdir()
    path.symlink_to(path)
    assert read_notes("user", "writer", home=home, project=project) == ""
    path.unlink()
    write(path, b"\xff\xfe bad \x80bytes")
    assert read_notes("user", "writer", home=home, project=project) == "bad bytes"
