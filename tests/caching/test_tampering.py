"""Somebody edits the file of answers: a miss, counted, never an exception, never a wrong answer."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from claude_force import InvalidRequestError, ResponseCache
from claude_force.simulator import Fault, FaultKind, SimulatorThread

if TYPE_CHECKING:
    from pathlib import Path

    from tests.caching.conftest import AnswerFile, Ask
    from tests.conftest import Cli, MakeAsync, Project

Paid = Callable[[], int]
Tamper = Callable[["AnswerFile"], None]
TASKS = ("Look at this", "Look at that")


def edit_the_bodies(answers: AnswerFile) -> None:
    for index, record in enumerate(answers.records()):
        edited = record.replace(b"no model ran", b"rm -rf / now")
        assert edited != record
        answers.replace(index, edited)


def swap_the_bodies(answers: AnswerFile) -> None:
    first, second = answers.records()
    answers.replace(0, second)
    answers.replace(1, first)


def swap_the_keys(answers: AnswerFile) -> None:
    (first, one), (second, other) = answers.execute("SELECT id, key FROM bodies ORDER BY id")
    answers.execute("UPDATE bodies SET key = x'00' WHERE id = ?", first)
    answers.execute("UPDATE bodies SET key = ? WHERE id = ?", one, second)
    answers.execute("UPDATE bodies SET key = ? WHERE id = ?", other, first)


def make_the_creation_younger(answers: AnswerFile) -> None:
    """The signed one: a float of MessagePack, big-endian behind 0xcb, in the head of the record."""
    for index, record in enumerate(answers.records()):
        place = record.index(b"\xcb", 32)
        (created_at,) = struct.unpack(">d", record[place + 1 : place + 9])
        assert created_at > 1.5e9
        younger = struct.pack(">d", created_at + 1000)
        answers.replace(index, record[: place + 1] + younger + record[place + 9 :])


def clear_the_signatures(answers: AnswerFile) -> None:
    for index, record in enumerate(answers.records()):
        answers.replace(index, bytes(32) + record[32:])


def cut_the_records(answers: AnswerFile) -> None:
    for index, record in enumerate(answers.records()):
        answers.replace(index, record[: len(record) // 2])


def empty_the_records(answers: AnswerFile) -> None:
    for index in range(2):
        answers.replace(index, b"")


def put_text_in_place_of_the_records(answers: AnswerFile) -> None:
    answers.execute("UPDATE bodies SET record = 'a text'")


def put_a_number_in_place_of_the_records(answers: AnswerFile) -> None:
    answers.execute("UPDATE bodies SET record = 17")


def drop_the_table(answers: AnswerFile) -> None:
    answers.execute("DROP TABLE bodies")


def say_a_newer_version_wrote_it(answers: AnswerFile) -> None:
    answers.execute("PRAGMA user_version = 99")


def cut_the_file(kept_bytes: int) -> Tamper:
    def cut(answers: AnswerFile) -> None:
        answers.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.truncate(answers.path, kept_bytes)

    cut.__name__ = f"cut_the_file_to_{kept_bytes}"
    return cut


def _in_place_of_the_file(answers: AnswerFile) -> Path:
    for path in answers.folder.glob("responses.db*"):
        path.unlink()
    return answers.path


def put_a_thesis_in_its_place(answers: AnswerFile) -> None:
    _in_place_of_the_file(answers).write_bytes(b"my thesis, chapter one. " * 1000)


def put_another_database_in_its_place(answers: AnswerFile) -> None:
    _in_place_of_the_file(answers)
    answers.execute("CREATE TABLE recipes (name TEXT)")
    answers.execute("INSERT INTO recipes VALUES ('soup')")


def put_a_folder_in_its_place(answers: AnswerFile) -> None:
    _in_place_of_the_file(answers).mkdir()
    (answers.path / "thesis.txt").write_text("years of work")


def put_a_dangling_link_in_its_place(answers: AnswerFile) -> None:
    _in_place_of_the_file(answers).symlink_to(answers.folder / "nowhere" / "else")


RECORDS: list[Tamper] = [
    edit_the_bodies,
    swap_the_bodies,
    swap_the_keys,
    make_the_creation_younger,
    clear_the_signatures,
    cut_the_records,
    empty_the_records,
    put_text_in_place_of_the_records,
    put_a_number_in_place_of_the_records,
]
FILES: list[Tamper] = [
    drop_the_table,
    say_a_newer_version_wrote_it,
    *(cut_the_file(kept_bytes) for kept_bytes in (1, 50, 100, 4096, 9000)),
    put_a_thesis_in_its_place,
    put_another_database_in_its_place,
    put_a_folder_in_its_place,
    put_a_dangling_link_in_its_place,
]


@pytest.mark.parametrize("tamper", RECORDS)
def test_an_edited_record_is_a_miss_and_is_replaced_by_what_was_asked_for(
    ask: Ask, answers: AnswerFile, paid: Paid, tamper: Tamper
) -> None:
    before = [ask(task=task) for task in TASKS]
    tamper(answers)
    for task, true in zip(TASKS, before, strict=True):
        result = ask(task=task)
        assert result.cached is None
        assert result.text == true.text
    assert paid() == 4
    for task, true in zip(TASKS, before, strict=True):
        result = ask(task=task)
        assert result.cached is not None
        assert result.text == true.text
    assert paid() == 4


@pytest.mark.parametrize("tamper", FILES)
def test_a_damaged_file_is_a_miss_and_nothing_is_raised(
    ask: Ask, answers: AnswerFile, paid: Paid, tamper: Tamper
) -> None:
    before = [ask(task=task) for task in TASKS]
    tamper(answers)
    for task, true in zip(TASKS, before, strict=True):
        assert ask(task=task).text == true.text
    assert paid() == 4


@pytest.mark.parametrize(
    "tamper",
    [put_a_thesis_in_its_place, put_another_database_in_its_place, put_a_folder_in_its_place],
)
def test_what_is_not_ours_stays_as_it_is(
    ask: Ask, answers: AnswerFile, cli: Cli, tamper: Tamper
) -> None:
    ask()
    tamper(answers)
    before = _snapshot(answers.folder)
    ask()
    place = ("--dir", str(answers.folder))
    for command in (("stats",), ("clear",), ("verify",), ("clear", "--older-than", "0s")):
        assert cli("cache", *command, *place).code == 0
    assert _snapshot(answers.folder) == before


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_files_of_the_user_survive_in_whatever_folder_is_named(
    ask: Ask, cache_dir: Path, cli: Cli, paid: Paid
) -> None:
    for name in ("thesis.txt", "old.json", "secret", "flights", ".secret-draft", "0123abcd.cache"):
        path = cache_dir / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"the user's own {name}")
    mine = _snapshot(cache_dir)
    cache_dir.chmod(0o755)
    ask()
    ask()
    for command in (("clear",), ("verify",), ("stats",)):
        cli("cache", *command, "--dir", str(cache_dir))
    after = _snapshot(cache_dir)
    assert {name: after[name] for name in mine} == mine
    assert cache_dir.stat().st_mode & 0o777 == 0o755
    assert paid() >= 1


def test_an_edited_column_changes_neither_what_is_served_nor_its_age(
    ask: Ask, answers: AnswerFile, paid: Paid, later: Callable[[float], None]
) -> None:
    ask()
    answers.execute("UPDATE entries SET created = 99999999999, agent = 'beta', bytes = 1")
    later(3600)
    found = ask()
    assert found.cached is not None
    assert 3600 <= found.cached.age_seconds < 3700
    later(24 * 3600)
    assert ask().cached is None
    assert paid() == 2


@pytest.mark.parametrize("tamper", [*RECORDS, put_a_thesis_in_its_place, cut_the_file(100)])
def test_tampering_reaches_no_process_through_the_memory_of_another(  # noqa: PLR0917 - filled in by name
    make_force: MakeAsync,
    ask: Ask,
    answers: AnswerFile,
    cache_dir: Path,
    paid: Paid,
    tamper: Tamper,
) -> None:
    async def main() -> None:
        async with make_force(cache_dir=cache_dir) as hot:
            true = [await hot.run_agent("alpha", task) for task in TASKS]
        async with make_force(cache_dir=cache_dir) as hot:
            for task in TASKS:
                await hot.run_agent("alpha", task)
            tamper(answers)
            for task, expected in zip(TASKS, true, strict=True):
                result = await hot.run_agent("alpha", task)
                assert result.text == expected.text
                assert result.cached is not None
                assert result.cached.tier == "memory"
            assert paid() == 2
            for task, expected in zip(TASKS, true, strict=True):
                fresh = await asyncio.to_thread(ask, task=task)
                assert fresh.text == expected.text
                assert fresh.cached is None
            assert paid() == 4

    asyncio.run(main())


@pytest.mark.parametrize("tamper", [*RECORDS, *FILES])
def test_the_cache_alone_counts_what_does_not_hold(
    tmp_path: Path, answers: AnswerFile, tamper: Tamper
) -> None:
    with ResponseCache(answers.folder) as cache:
        for task in TASKS:
            cache.set("writer", task, "model", f"no model ran: {task} " * 200, 1, 1, 0.0)
    tamper(answers)
    with ResponseCache(answers.folder) as cache:
        for task in TASKS:
            assert cache.get("writer", task, "model") is None
        stats = cache.get_stats()
        assert stats["hits"] == 0
        assert stats["misses"] == 2
        if tamper in RECORDS:
            assert stats["integrity_failures"] == 2
        cache.set("writer", TASKS[0], "model", "fresh", 1, 1, 0.0)
        found = cache.get("writer", TASKS[0], "model")
        assert found is not None
        assert found["response"] == "fresh"


def test_verify_finds_what_was_edited(ask: Ask, answers: AnswerFile, cli: Cli) -> None:
    place = ("--dir", str(answers.folder))
    for task in TASKS:
        ask(task=task)
    assert cli("cache", "verify", *place).code == 0
    answers.replace(0, answers.records()[0][:-1] + b"?")
    run = cli("cache", "verify", *place)
    assert run.code == 1
    assert "1 answer intact, 1 not." in run.out
    assert "never served" in run.out
    shown = cli("cache", "verify", *place, "--json")
    assert shown.code == 1
    assert shown.json == {"folder": str(answers.folder), "valid": 1, "invalid": 1}


def test_a_secret_that_was_replaced_means_misses_and_nothing_deleted(
    ask: Ask, answers: AnswerFile, paid: Paid
) -> None:
    ask()
    (record,) = answers.records()
    secret = answers.folder / "secret"
    kept = secret.read_bytes()
    secret.write_text("00" * 32)
    assert ask(task="Something else").cached is None
    assert answers.records()[0] == record
    secret.write_bytes(kept)
    assert ask().cached is not None
    assert paid() == 2


def test_an_edit_that_makes_no_sense_is_a_miss_also_without_the_integrity_check(  # noqa: PLR0917 - filled in by name
    make_force: MakeAsync,
    project: Project,
    cache_dir: Path,
    ask: Ask,
    answers: AnswerFile,
    simulator: SimulatorThread,
) -> None:
    project.config(cache={"use_integrity_check": False}, performance={"max_retries": 0})
    cost = str(ask().cost_usd).encode()
    (record,) = answers.records()
    assert cost in record
    answers.replace(0, record.replace(cost, b"?" * len(cost)))

    async def main() -> None:
        async with make_force(cache_dir=cache_dir) as force:
            # Nothing comes in place of the edited one, so it is met again in memory.
            simulator.queue_fault(Fault(kind=FaultKind.INVALID_REQUEST))
            with pytest.raises(InvalidRequestError):
                await force.run_agent("alpha", "Look at this")
            assert (await force.run_agent("alpha", "Look at this")).cached is None
            assert (await force.run_agent("alpha", "Look at this")).cached is not None

    asyncio.run(main())
