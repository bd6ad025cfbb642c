"""What is forgotten can be read by nobody any more, not even from the bytes of the files."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.memory.conftest import DAY, NOW, PROJECT, experience

from claude_force.memory.schema import SCHEMA
from claude_force.memory.store import MemoryStore
from claude_force.memory.writing import RecordWriter
from claude_force.storage.database import open_database

if TYPE_CHECKING:
    from pathlib import Path

    from tests.memory.conftest import Remember

    from claude_force.memory.records import Experience

MB = 1_048_576


def stored_bytes(path: Path) -> bytes:
    """Of the database and of its log."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def texts(count: int, *, of: str = "writer") -> list[Experience]:
    draw = random.Random(3)  # noqa: S311 - words, not keys
    words = [f"w{number}" for number in range(3000)]
    return [
        experience(
            f"Task {number} {' '.join(draw.choices(words, k=10))}",
            " ".join(draw.choices(words, k=80)),
            agent_name=of,
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("around", [0, 1, 120])
def test_no_byte_of_a_forgotten_record_is_left(
    store: MemoryStore, remember: Remember, path: Path, around: int
) -> None:
    remember(*texts(around))
    remember(experience("Meet Zanzibarquux at noon", "Xylophonist is the answer to Zanzibarquux."))
    remember(*texts(around, of="planner"))
    (found,) = store.search("writer", "zanzibarquux").value
    assert b"anzibarquux" in stored_bytes(path)
    assert store.forget(found.record.id)
    left = stored_bytes(path).lower()
    assert b"zanzibarquux" not in left
    assert b"xylophonist" not in left
    assert store.search("writer", "zanzibarquux").value == ()
    assert len(list(store.records(all_projects=True))) == 2 * around


def test_an_answer_that_was_replaced_is_gone_after_the_next_purge(
    store: MemoryStore, remember: Remember, path: Path
) -> None:
    remember(experience("Count the stars", "Zanzibarquux of them."), experience("Sing"))
    remember(experience("Count the stars", "Two."))
    (other,) = store.search("writer", "sing").value
    store.forget(other.record.id)
    assert b"anzibarquux" not in stored_bytes(path)


def test_an_agent_is_forgotten_in_one_project_only(store: MemoryStore, remember: Remember) -> None:
    remember(
        experience("Keep one", agent_name="planner"),
        experience("Lose one"),
        experience("Lose two"),
        experience("Keep two", project="/projects/blog"),
    )
    assert store.forget_agent("writer") == 2
    left = [record.task for record in store.records(all_projects=True)]
    assert left == ["Keep one", "Keep two"]
    assert store.forget_agent("writer", all_projects=True) == 1


def test_everything_is_forgotten(store: MemoryStore, remember: Remember, path: Path) -> None:
    remember(experience("Zanzibarquux"), experience("Keep", project="/projects/blog"))
    assert store.forget_all() == 1
    assert store.forget_all(all_projects=True) == 1
    assert list(store.records(all_projects=True)) == []
    assert b"anzibarquux" not in stored_bytes(path)
    with closing(sqlite3.connect(path)) as connection:
        for table in ("records", "scopes", "terms"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)  # noqa: S608 - names from above


def test_a_number_is_never_given_twice(store: MemoryStore, remember: Remember) -> None:
    remember(experience("One"))
    store.forget(1)
    remember(experience("Two"))
    assert [record.id for record in store.records()] == [2]
    assert store.get(1) is None


def test_what_is_too_old_goes_once_a_day(
    store: MemoryStore, remember: Remember, path: Path
) -> None:
    remember(experience("Old", recorded_at=NOW - 40 * DAY), experience("New"))
    with closing(open_database(path, SCHEMA)) as connection:
        writer = RecordWriter(connection)
        assert writer.sweep(now=NOW, retention_days=30, max_bytes=MB) == 1
        writer.write([experience("Old", recorded_at=NOW - 40 * DAY)])
        assert writer.sweep(now=NOW + 60, retention_days=30, max_bytes=MB) == 0
        assert writer.sweep(now=NOW + DAY, retention_days=30, max_bytes=MB) == 1
    assert [record.task for record in store.records()] == ["New"]


def test_the_oldest_make_room_when_the_store_is_full(
    store: MemoryStore, remember: Remember, path: Path
) -> None:
    many = [
        experience(f"Task {n}", one.answer, recorded_at=NOW - (400 - n))
        for n, one in enumerate(texts(400))
    ]
    remember(*many)
    with closing(open_database(path, SCHEMA)) as connection:
        writer = RecordWriter(connection)
        assert writer.size_bytes() > MB // 2
        removed = writer.sweep(now=NOW, retention_days=365, max_bytes=MB // 2)
        assert writer.size_bytes() <= MB // 2
    left = [record.task for record in store.records()]
    assert len(left) == 400 - removed
    assert left == [f"Task {n}" for n in range(removed, 400)]
    assert path.stat().st_size <= 0.6 * MB


def test_files_are_readable_by_their_owner_only(remember: Remember, path: Path) -> None:
    remember(experience("Private"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "forget"]), st.integers(0, 7), st.text("ab c", max_size=12)
        ),
        max_size=20,
    )
)
def test_index_and_counts_are_those_of_a_store_that_was_written_fresh(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, str]]
) -> None:
    lived = tmp_path_factory.mktemp("lived") / "memory.db"
    kept: dict[int, Experience] = {}
    with closing(open_database(lived, SCHEMA)) as connection:
        writer = RecordWriter(connection)
        for what, number, words in steps:
            one = experience(f"Task{number} {words}", words, key=f"{number:032x}")
            if what == "write":
                writer.write([one])
                kept.pop(number, None)
                kept[number] = one
            else:
                row = connection.execute(
                    "SELECT id FROM records WHERE key = ?", (bytes.fromhex(one.key),)
                ).fetchone()
                assert writer.forget(row[0] if row else 0) == (number in kept)
                kept.pop(number, None)
        terms = dict(connection.execute("SELECT term, records FROM terms"))
        connection.execute("INSERT INTO search (search, rank) VALUES ('integrity-check', 0)")
    fresh = tmp_path_factory.mktemp("fresh") / "memory.db"
    with closing(open_database(fresh, SCHEMA)) as connection:
        RecordWriter(connection).write(list(kept.values()))
        scopes = [n for (n,) in connection.execute("SELECT id FROM scopes")]
        expected = dict(connection.execute("SELECT term, records FROM terms"))
    assert {_bare(term): count for term, count in terms.items()} == {
        _bare(term): count for term, count in expected.items()
    }
    assert len(scopes) <= 1
    with MemoryStore(lived, project=PROJECT) as store:
        assert [one.task for one in store.records()] == [one.task.strip() for one in kept.values()]


def _bare(term: str) -> str:
    return term.partition("x")[2]
