"""The secret of the cache."""

from __future__ import annotations

import logging
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from claude_force.cache.entries import EntrySigner
from claude_force.cache.secret import given_secret, kept_secret
from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_secret_is_made_once_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    secret = kept_secret(folder)
    assert len(secret) == 32
    assert kept_secret(folder) == secret
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [file.name for file in folder.iterdir()] == ["secret"]


def test_sixteen_processes_agree_on_one_secret(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from claude_force.cache.secret import kept_secret;"
        "sys.stdin.read(1); print(kept_secret(Path(sys.argv[1])).hex())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "shared")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(16)
    ]
    # All wait for their line, so that they start together.
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go")
        process.stdin.flush()
    secrets = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(secrets) == 1
    assert [file.name for file in (tmp_path / "shared").iterdir()] == ["secret"]


@pytest.mark.parametrize("content", ["", "my notes", "x" * 64, "ab" * 40])
def test_another_file_in_its_place_is_left_alone(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "secret").write_text(content)
    (tmp_path / "secret").chmod(0o600)
    with caplog.at_level(logging.WARNING):
        first, second = kept_secret(tmp_path), kept_secret(tmp_path)
    assert len(first) == len(second) == 32
    assert first != second
    assert (tmp_path / "secret").read_text() == content
    assert "cannot be used" in caplog.text


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    known = "ab" * 32
    (tmp_path / "known").write_text(known)
    (tmp_path / "secret").symlink_to(tmp_path / "known")
    assert kept_secret(tmp_path).hex() != known


def test_a_readable_secret_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = kept_secret(tmp_path)
    (tmp_path / "secret").chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert kept_secret(tmp_path) == secret
    assert "can be read by others" in caplog.text


def test_a_folder_that_cannot_be_made_gives_a_secret_for_this_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    assert len(kept_secret(tmp_path / "file" / "folder")) == 32


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match="the cache secret is empty"):
        given_secret("")


def test_a_secret_never_shows(tmp_path: Path) -> None:
    assert "hunter2" not in repr(EntrySigner(given_secret("hunter2")))
