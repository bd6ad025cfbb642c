"""What is remembered is found again, by its words and by how recent it is, and by nobody else."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.memory.conftest import DAY, NOW, PROJECT, experience

from claude_force.memory.schema import SCHEMA
from claude_force.memory.store import MemoryStore
from claude_force.memory.writing import RecordWriter
from claude_force.storage.database import open_database
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.memory.conftest import Remember


def tasks(store: MemoryStore, query: str, agent: str = "writer", **options: int) -> list[str]:
    return [one.record.task for one in store.search(agent, query, **options).value]


def test_a_store_that_is_not_there_answers_with_nothing_and_is_not_made(
    store: MemoryStore, path: Path
) -> None:
    assert store.search("writer", "anything").value == ()
    assert store.latest().value == ()
    assert list(store.records()) == []
    assert (store.get(1), store.last_id(), store.version()) == (None, 0, None)
    assert (store.forget(1), store.forget_all(), store.forget_agent("writer")) == (False, 0, 0)
    assert not path.parent.exists()


def test_the_best_by_words_comes_first(store: MemoryStore, remember: Remember) -> None:
    remember(
        experience("Fix the retry loop of the payments client"),
        experience("Write the release notes", "Retries of payments are mentioned."),
        experience("Translate the greeting"),
    )
    assert tasks(store, "payments: retrying loops") == [
        "Fix the retry loop of the payments client",
        "Write the release notes",
    ]


def test_of_equals_the_newest_comes_first(store: MemoryStore, remember: Remember) -> None:
    remember(
        experience("Check cache A", recorded_at=NOW - 200 * DAY),
        experience("Check cache B", recorded_at=NOW - DAY),
        experience("Check cache C", recorded_at=NOW - 20 * DAY),
    )
    assert tasks(store, "cache") == ["Check cache B", "Check cache C", "Check cache A"]


def test_a_better_match_of_long_ago_stays_ahead_of_a_worse_one_of_today(
    store: MemoryStore, remember: Remember
) -> None:
    remember(
        experience("Tune the garbage collector of the scheduler", recorded_at=NOW - 300 * DAY),
        experience("Tune the piano"),
    )
    assert tasks(store, "tune garbage collector")[0].startswith("Tune the garbage")


def test_agents_and_projects_do_not_see_each_other(store: MemoryStore, remember: Remember) -> None:
    remember(
        experience("Mine, about caching"),
        experience("Another agent's, about caching", agent_name="planner"),
        experience("Another project's, about caching", project="/projects/blog"),
    )
    assert tasks(store, "caching") == ["Mine, about caching"]
    assert tasks(store, "caching", agent="planner") == ["Another agent's, about caching"]
    assert tasks(store, "caching", agent="nobody") == []


def test_a_question_that_is_asked_again_takes_the_place_of_its_older_self(
    store: MemoryStore, remember: Remember
) -> None:
    remember(experience("Count the stars", "Three hundred.", recorded_at=NOW - DAY))
    remember(experience("Count the stars", "Four hundred."))
    (found,) = store.latest().value
    assert (found.id, found.outcome, found.recorded_at.timestamp()) == (2, "Four hundred.", NOW)
    assert tasks(store, "stars") == ["Count the stars"]
    assert store.search("writer", "three").value == ()


def test_a_cached_answer_says_nothing_new(store: MemoryStore, remember: Remember) -> None:
    assert remember(experience("Count the stars", recorded_at=NOW - DAY)) == 1
    assert remember(experience("Count the stars", cached=True)) == 0
    assert remember(experience("Count the moons", cached=True)) == 1
    assert [one.task for one in store.latest().value] == ["Count the moons", "Count the stars"]


@pytest.mark.parametrize(
    "query",
    ["", "   ", "the of and", '"', "NEAR(a, b)", "a OR", "*", "task_terms:x", "'; DROP TABLE x", "^-", "x" * 200_000],
)  # fmt: skip
def test_a_query_has_no_syntax(store: MemoryStore, remember: Remember, query: str) -> None:
    remember(experience("Say something"))
    assert store.search("writer", query).value == ()


@pytest.mark.parametrize(
    ("task", "query"),
    [
        ("Rename getUserNames in the API", "get_user_names"),
        ("Crème brûlée recipe", "creme brulee"),
        ("Prüfe die Übersetzung", "UBERSETZUNG"),
        ("データベースの移行を計画する", "移行の計画"),
        ("Retries were retried while retrying", "retry"),
        ("caches and caching", "cached"),
        ("Validate the migration", "validation of migrations"),
        ("src/app/HTTPServer.py hangs", "http server"),
    ],
)
def test_forms_of_the_same_word_find_each_other(
    store: MemoryStore, remember: Remember, task: str, query: str
) -> None:
    remember(experience(task), experience("Something else entirely"))
    assert tasks(store, query) == [task]


def test_common_words_alone_find_the_newest_that_have_them_all(
    store: MemoryStore, remember: Remember
) -> None:
    many = [
        experience(f"Review module {number}", recorded_at=NOW - (3000 - number))
        for number in range(2000)
    ]
    remember(*many, experience("Review the module and the tests of module 7"))
    found = tasks(store, "review tests of the module", limit=3)
    assert found[0] == "Review the module and the tests of module 7"
    assert found[1:] == ["Review module 1999", "Review module 1998"]


def test_records_beyond_a_number_and_of_a_key_can_be_left_out(
    store: MemoryStore, remember: Remember
) -> None:
    first, second, third = (experience(f"Draw a cat, take {n}") for n in "abc")
    remember(first, second)
    last = store.last_id()
    remember(third)
    found = store.search("writer", "cat", up_to_id=last, except_key=first.key).value
    assert [one.record.task for one in found] == ["Draw a cat, take b"]


def test_the_same_question_is_answered_from_the_query_cache_until_anybody_writes(
    store: MemoryStore, remember: Remember
) -> None:
    remember(experience("Sort the books"))
    assert not store.search("writer", "books").explanation.hit
    assert store.search("writer", "books").explanation.hit
    assert not store.search("writer", "books", limit=3).explanation.hit
    remember(experience("Sort more books"))
    answer = store.search("writer", "books")
    assert not answer.explanation.hit
    assert len(answer.value) == 2
    assert "2 candidates of 2 records" in answer.explanation.read


def test_a_write_of_another_process_is_seen(
    store: MemoryStore, remember: Remember, path: Path
) -> None:
    remember(experience("Sort the books"))
    assert len(store.search("writer", "books").value) == 1
    assert store.search("writer", "books").explanation.hit
    other = multiprocessing.get_context("spawn").Process(target=_write_one, args=(path,))
    other.start()
    other.join(60)
    assert other.exitcode == 0
    answer = store.search("writer", "books")
    assert (answer.explanation.hit, len(answer.value)) == (False, 2)


def _write_one(path: Path) -> None:
    with closing(open_database(path, SCHEMA)) as connection:
        RecordWriter(connection).write([experience("Burn the books")])


def test_the_cache_keeps_the_128_queries_that_were_used_last(
    store: MemoryStore, remember: Remember
) -> None:
    remember(experience("Sort the books"))
    for number in range(129):
        store.search("writer", f"query {number}")
    assert not store.search("writer", "query 0").explanation.hit
    assert store.search("writer", "query 128").explanation.hit


def test_forgetting_empties_the_query_cache(store: MemoryStore, remember: Remember) -> None:
    remember(experience("Sort the books"))
    (found,) = store.search("writer", "books").value
    assert store.forget(found.record.id)
    assert store.search("writer", "books").value == ()


def test_any_thread_may_ask(store: MemoryStore, remember: Remember) -> None:
    remember(*(experience(f"Sort shelf {number}") for number in range(20)))
    found: list[int] = []
    threads = [
        threading.Thread(
            target=lambda n=n: found.append(len(tasks(store, f"shelf {n}", limit=5)))  # type: ignore[misc] # a default binds the loop's value
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [5] * 8


def test_pages_of_an_export_have_every_record_once(store: MemoryStore, remember: Remember) -> None:
    remember(*(experience(f"Task number {number}") for number in range(1203)))
    found = [record.task for record in store.records()]
    assert found == [f"Task number {number}" for number in range(1203)]


def test_scopes_tell_how_much_each_agent_remembers(store: MemoryStore, remember: Remember) -> None:
    remember(experience("One"), experience("Two"), experience("Three", agent_name="planner"))
    assert [(s.project, s.agent_name, s.records) for s in store.scopes().value] == [
        (PROJECT, "planner", 1),
        (PROJECT, "writer", 2),
    ]


def test_a_store_that_cannot_be_read_is_a_storage_error(path: Path, remember: Remember) -> None:
    remember(experience("One"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE terms")
    with (
        MemoryStore(path, project=PROJECT) as store,
        pytest.raises(StorageError, match="move the file away to start anew"),
    ):
        store.search("writer", "one")
