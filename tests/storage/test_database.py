"""Opening SQLite databases."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from claude_force.storage.database import Schema, is_busy, is_damage, open_database
from claude_force.storage.errors import ForeignFileError, StorageError

if TYPE_CHECKING:
    from pathlib import Path

NOTES = Schema(
    application_id=0x6E6F7465,
    shrinkable=True,
    migrations=(("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",),),
)
NOTES_WITH_AUTHORS = Schema(
    application_id=NOTES.application_id,
    migrations=(*NOTES.migrations, ("ALTER TABLE notes ADD COLUMN author TEXT",)),
)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_new_database_is_private_and_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "made" / "here" / "notes.db"
    connection = open_database(path, NOTES)
    connection.execute("INSERT INTO notes (text) VALUES ('a')")
    assert _mode(path) == 0o600
    assert _mode(path.with_name("notes.db-wal")) == 0o600
    assert _mode(path.parent) == 0o700
    assert _mode(path.parent.parent) == 0o700
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    first = open_database(path, NOTES)
    first.execute("INSERT INTO notes (text) VALUES ('kept')")
    first.close()
    second = open_database(path, NOTES)
    assert second.execute("SELECT text FROM notes").fetchall() == [("kept",)]
    second.close()


def test_an_older_schema_is_migrated_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    old = open_database(path, NOTES)
    old.execute("INSERT INTO notes (text) VALUES ('old')")
    old.close()
    new = open_database(path, NOTES_WITH_AUTHORS)
    assert new.execute("SELECT text, author FROM notes").fetchall() == [("old", None)]
    assert new.execute("PRAGMA user_version").fetchone() == (2,)
    new.close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    open_database(path, NOTES_WITH_AUTHORS).close()
    before = _fingerprint(path)
    with pytest.raises(StorageError, match="has schema 2, this claude-force knows 1"):
        open_database(path, NOTES)
    assert _fingerprint(path) == before


def test_a_failing_migration_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    broken = Schema(
        application_id=NOTES.application_id,
        migrations=((*NOTES.migrations[0], "CREATE TABLE notes (twice TEXT)"),),
    )
    with pytest.raises(StorageError, match="already exists"):
        open_database(path, broken)
    connection = open_database(path, NOTES)
    assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    connection.close()


def test_a_text_file_in_the_place_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("my shopping list, " * 100)
    before = _fingerprint(path)
    with pytest.raises(ForeignFileError, match="was not written by claude-force"):
        open_database(path, NOTES)
    assert _fingerprint(path) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["notes.db"]


@pytest.mark.parametrize("application_id", [0, 7])
def test_a_database_of_another_program_is_refused_and_left_alone(
    tmp_path: Path, application_id: int
) -> None:
    path = tmp_path / "notes.db"
    foreign = sqlite3.connect(path)
    foreign.execute(f"PRAGMA application_id = {application_id}")
    foreign.execute("CREATE TABLE bookmarks (url TEXT)")
    foreign.commit()
    foreign.close()
    before = _fingerprint(path)
    with pytest.raises(ForeignFileError, match="move it away or name another folder"):
        open_database(path, NOTES)
    assert _fingerprint(path) == before


def test_a_folder_in_the_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.db").mkdir()
    with pytest.raises(ForeignFileError, match="is not a file"):
        open_database(tmp_path / "notes.db", NOTES)


def test_a_file_where_the_folder_should_be_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(StorageError, match="folder"):
        open_database(tmp_path / "folder" / "notes.db", NOTES)


def test_an_empty_file_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.touch()
    connection = open_database(path, NOTES)
    assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    connection.close()


def test_a_truncated_database_is_recognised_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    connection = open_database(path, NOTES)
    connection.executemany("INSERT INTO notes (text) VALUES (?)", [("x" * 3000,)] * 50)
    connection.close()
    os.truncate(path, 4096)
    try:
        reopened = open_database(path, NOTES)
        with pytest.raises(sqlite3.DatabaseError) as caught:
            reopened.execute("SELECT * FROM notes").fetchall()
        assert is_damage(caught.value)
        reopened.close()
    except ForeignFileError:
        # Newer SQLite versions notice when they open it.
        pass


def test_a_held_lock_is_recognised_as_busy(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    holder = open_database(path, NOTES)
    other = open_database(path, NOTES, busy_timeout_seconds=0)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as caught:
        other.execute("BEGIN IMMEDIATE")
    assert is_busy(caught.value)
    assert not is_damage(caught.value)
    holder.execute("ROLLBACK")
    holder.close()
    other.close()


def test_opening_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    holder = open_database(path, NOTES)
    holder.execute("BEGIN IMMEDIATE")
    reader = open_database(path, NOTES, busy_timeout_seconds=0)
    assert reader.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    holder.execute("ROLLBACK")
    holder.close()
    reader.close()


def test_eight_processes_can_make_the_same_database_at_once(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from claude_force.storage.database import Schema, open_database
schema = Schema(application_id=0x6E6F7465, shrinkable=True, migrations=(
    ("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)", "INSERT INTO notes (text) VALUES ('once')"),
))
connection = open_database(Path(sys.argv[1]), schema, busy_timeout_seconds=20)
connection.execute("INSERT INTO notes (text) VALUES (?)", (sys.argv[2],))
connection.close()
"""
    path = tmp_path / "notes.db"
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(path), str(index)])
        for index in range(8)
    ]
    assert [process.wait(60) for process in processes] == [0] * 8
    connection = open_database(path, NOTES)
    texts = sorted(text for (text,) in connection.execute("SELECT text FROM notes"))
    assert texts == ["0", "1", "2", "3", "4", "5", "6", "7", "once"]
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    connection.close()
