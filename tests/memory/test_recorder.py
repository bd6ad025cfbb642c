"""What was told is written: at the end of a process, by several at once, after a fork; and never at a call's cost."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.memory.conftest import DAY, NOW, experience

from claude_force.memory.recorder import MemoryRecorder

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.memory.store import MemoryStore

MB = 1_048_576


def recorder(path: Path, **options: int) -> MemoryRecorder:
    return MemoryRecorder(
        path,
        **{"retention_days": 365, "max_bytes": 50 * MB, **options},
        wall_clock=lambda: NOW,
    )


def test_what_was_told_is_there_after_a_flush(path: Path, store: MemoryStore) -> None:
    told = recorder(path)
    for number in range(250):
        told.record(experience(f"Task {number}"))
    told.flush()
    assert len(list(store.records())) == 250
    assert (told.written, told.lost) == (250, 0)
    told.close()


def test_closing_writes_what_waits_and_what_comes_later_is_lost(
    path: Path, store: MemoryStore
) -> None:
    told = recorder(path)
    told.record(experience("Before"))
    told.close()
    told.record(experience("After"))
    told.flush()
    told.close()
    assert [record.task for record in store.records()] == ["Before"]
    assert (told.written, told.lost) == (1, 1)


def test_many_threads_may_tell_it(path: Path, store: MemoryStore) -> None:
    told = recorder(path)
    threads = [
        threading.Thread(
            target=lambda n=n: [told.record(experience(f"Task {n} {k}")) for k in range(50)]  # type: ignore[misc] # a default binds the loop's value
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    told.close()
    assert len(list(store.records())) == 400


def test_a_store_that_cannot_be_used_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database")
    told = recorder(path)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            told.record(experience(f"Task {number}"))
            told.flush()
    told.close()
    assert (told.written, told.lost) == (0, 3)
    assert len(caplog.records) == 1
    assert path.read_bytes() == b"not a database"


def test_what_is_too_old_goes_as_it_is_written(path: Path, store: MemoryStore) -> None:
    told = recorder(path, retention_days=10)
    told.record(experience("Old", recorded_at=NOW - 11 * DAY))
    told.record(experience("New"))
    told.close()
    assert [record.task for record in store.records()] == ["New"]


def test_the_bound_on_disk_holds_as_it_is_written(path: Path) -> None:
    told = recorder(path, max_bytes=MB // 2)
    for number in range(600):
        words = " ".join(f"w{number}n{k}" for k in range(60))
        told.record(experience(f"Task {number}", words, recorded_at=NOW + number))
        if not number % 150:
            told.flush()
    told.close()
    assert told.written == 600
    assert path.stat().st_size <= 0.7 * MB
    with closing(sqlite3.connect(path)) as connection:
        (oldest,) = connection.execute("SELECT task FROM records ORDER BY id LIMIT 1").fetchone()
    assert oldest != "Task 0"


def test_several_processes_write_at_once(path: Path, store: MemoryStore) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(path, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(list(store.records())) == 150


def _write_many(path: Path, process: int) -> None:
    told = recorder(path)
    for number in range(50):
        told.record(experience(f"Task {number} of {process}"))
    told.close()
    assert told.lost == 0


def test_a_program_that_closes_nothing_loses_nothing(path: Path, store: MemoryStore) -> None:
    code = f"""
from pathlib import Path
from tests.memory.test_recorder import experience, recorder
told = recorder(Path({str(path)!r}))
for number in range(30):
    told.record(experience(f"Task {{number}}"))
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, env={**os.environ, "PYTHONPATH": "."}
    )
    assert len(list(store.records())) == 30


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_writes_its_own_and_leaves_the_parents_alone(
    path: Path, store: MemoryStore
) -> None:
    told = recorder(path)
    told.record(experience("Of the parent"))
    told.flush()
    child = os.fork()
    if child == 0:
        told.record(experience("Of the child"))
        told.flush()
        os._exit(told.lost)
    assert os.waitpid(child, 0)[1] == 0
    told.record(experience("Of the parent again"))
    told.close()
    assert sorted(record.task for record in store.records()) == [
        "Of the child",
        "Of the parent",
        "Of the parent again",
    ]
