"""The tier on disk: tampering, foreign files, faults of the disk, expiry, restart, fork."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from claude_force.cache.disk_tier import DATABASE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from claude_force.cache.disk_tier import DiskTier
    from claude_force.cache.entries import CacheEntry

MEGABYTE = 1024 * 1024


def _fill(tier: DiskTier, make_entry: Callable[..., CacheEntry], numbers: range) -> None:
    for number in numbers:
        tier.put(make_entry(number, body_bytes=2000))
    tier.flush()


def _execute(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / DATABASE_FILE)) as connection, connection:
        connection.execute(statement, values)


def _record(folder: Path, key: str) -> bytes:
    with closing(sqlite3.connect(folder / DATABASE_FILE)) as connection:
        (record,) = connection.execute(
            "SELECT record FROM bodies WHERE key = ?", (bytes.fromhex(key),)
        ).fetchone()
    return bytes(record)


def test_entries_survive_a_restart(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry]
) -> None:
    first = open_tier()
    first.put(make_entry(1))
    first.close()
    assert open_tier().get(make_entry(1).key) == make_entry(1)


def test_two_tiers_of_a_process_see_each_other_before_the_disk_does(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry]
) -> None:
    one, other, stranger = open_tier(), open_tier(), open_tier(secret=b"another")
    one.put(make_entry(1))
    assert other.get(make_entry(1).key) == make_entry(1)
    assert stranger.get(make_entry(1).key) is None


def test_an_entry_is_durable_without_being_asked_for(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry], tmp_path: Path
) -> None:
    tier = open_tier()
    tier.put(make_entry(1))
    deadline = time.monotonic() + 10
    while not (tmp_path / DATABASE_FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as connection:
        while time.monotonic() < deadline:
            try:
                if connection.execute("SELECT count(*) FROM bodies").fetchone() == (1,):
                    return
            except sqlite3.OperationalError:
                pass
            time.sleep(0.01)
    pytest.fail("nothing was written")


def test_any_flipped_byte_of_a_record_is_a_miss(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry], tmp_path: Path
) -> None:
    writer = open_tier()
    entry = make_entry(1, body_bytes=20)
    writer.put(entry)
    writer.close()
    record = _record(tmp_path, entry.key)
    tier = open_tier()
    for position in range(len(record)):
        edited = bytearray(record)
        edited[position] ^= 1
        _execute(tmp_path, "UPDATE bodies SET record = ?", bytes(edited))
        assert tier.get(entry.key) is None
    assert tier.stats().integrity_failures == len(record)
    _execute(tmp_path, "UPDATE bodies SET record = ?", record)
    assert tier.get(entry.key) == entry


@pytest.mark.parametrize("replacement", [b"", b"short", bytes(100), 7, "text"])
def test_a_record_of_another_kind_is_a_miss(
    open_tier: Callable[..., DiskTier],
    make_entry: Callable[..., CacheEntry],
    tmp_path: Path,
    replacement: object,
) -> None:
    writer = open_tier()
    writer.put(make_entry(1))
    writer.close()
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as connection, connection:
        connection.execute("UPDATE bodies SET record = ?", (replacement,))
    tier = open_tier()
    assert tier.get(make_entry(1).key) is None
    assert tier.stats().integrity_failures == 1


def test_swapped_records_are_misses(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry], tmp_path: Path
) -> None:
    writer = open_tier()
    _fill(writer, make_entry, range(1, 3))
    writer.close()
    first, second = make_entry(1).key, make_entry(2).key
    record_1, record_2 = _record(tmp_path, first), _record(tmp_path, second)
    _execute(tmp_path, "UPDATE bodies SET record = ? WHERE key = ?", record_2, bytes.fromhex(first))
    _execute(
        tmp_path, "UPDATE bodies SET record = ? WHERE key = ?", record_1, bytes.fromhex(second)
    )
    tier = open_tier()
    assert tier.get(first) is None
    assert tier.get(second) is None
    assert tier.stats().integrity_failures == 2


def test_an_edited_creation_time_changes_nothing_that_is_served(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry], tmp_path: Path
) -> None:
    writer = open_tier()
    writer.put(make_entry(1, created_at=500.0))
    writer.close()
    _execute(tmp_path, "UPDATE entries SET created = 99999999999")
    found = open_tier().get(make_entry(1).key)
    assert found is not None
    assert found.created_at == 500.0


def test_another_secret_means_misses_and_the_entries_stay(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry]
) -> None:
    mine = open_tier()
    mine.put(make_entry(1))
    mine.flush()
    stranger = open_tier(secret=b"rotated")
    assert stranger.get(make_entry(1).key) is None
    assert list(stranger.records()) == [None]
    assert stranger.stats().integrity_failures == 1
    stranger.close()
    assert open_tier().get(make_entry(1).key) == make_entry(1)


def test_without_the_integrity_check_an_edit_goes_unnoticed_and_that_is_said(
    open_tier: Callable[..., DiskTier],
    make_entry: Callable[..., CacheEntry],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = open_tier()
    entry = make_entry(1)
    writer.put(entry)
    writer.close()
    record = _record(tmp_path, entry.key)
    _execute(tmp_path, "UPDATE bodies SET record = ?", b"\0" * 32 + record[32:])
    with caplog.at_level(logging.WARNING):
        assert open_tier(use_integrity_check=False).get(entry.key) == entry
    assert "without integrity checks" in caplog.text
    assert open_tier().get(entry.key) is None


@pytest.mark.parametrize("content", [b"my thesis " * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_not_ours_is_left_alone_and_reported_once(
    open_tier: Callable[..., DiskTier],
    make_entry: Callable[..., CacheEntry],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(content)
    tier = open_tier()
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            tier.put(make_entry(number))
            tier.flush()
            assert tier.get(make_entry(number).key) is None
        assert tier.clear() == 0
        assert list(tier.records()) == []
        tier.close()
    assert (tmp_path / DATABASE_FILE).read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE_FILE]
    assert len(caplog.records) == 1
    assert tier.stats().integrity_failures >= 1


@pytest.mark.parametrize("kept_bytes", [0, 1, 100, 4096, 10_000, 30_000])
def test_a_truncated_file_is_a_miss_and_never_a_wrong_answer(
    open_tier: Callable[..., DiskTier],
    make_entry: Callable[..., CacheEntry],
    tmp_path: Path,
    kept_bytes: int,
) -> None:
    writer = open_tier()
    _fill(writer, make_entry, range(40))
    writer.close()
    os.truncate(tmp_path / DATABASE_FILE, kept_bytes)
    tier = open_tier()
    for number in range(40):
        found = tier.get(make_entry(number).key)
        assert found is None or found == make_entry(number, body_bytes=2000)
    tier.put(make_entry(50))
    tier.flush()
    tier.close()


def test_a_file_damaged_anywhere_never_gives_a_wrong_answer(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry], tmp_path: Path
) -> None:
    writer = open_tier()
    _fill(writer, make_entry, range(20))
    writer.close()
    path = tmp_path / DATABASE_FILE
    whole = path.read_bytes()
    for page in range(len(whole) // 4096):
        path.write_bytes(whole[: page * 4096] + b"\x5a" * 4096 + whole[(page + 1) * 4096 :])
        tier = open_tier()
        for number in range(20):
            found = tier.get(make_entry(number).key)
            assert found is None or found == make_entry(number, body_bytes=2000)
        tier.close()


def test_a_locked_file_costs_nothing_but_the_hit(
    open_tier: Callable[..., DiskTier],
    make_entry: Callable[..., CacheEntry],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("claude_force.cache.disk_tier._BUSY_SECONDS", 0.05)
    tier = open_tier()
    _fill(tier, make_entry, range(1))
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        tier = open_tier()
        tier.put(make_entry(1))
        tier.flush()
        assert tier.get(make_entry(0).key) is not None
        assert tier.stats().failures >= 1
        holder.execute("ROLLBACK")
    tier.put(make_entry(2))
    tier.flush()
    assert tier.get(make_entry(2).key) == make_entry(2)


def test_a_folder_that_cannot_be_made_costs_nothing_but_the_hit(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a file")
    tier = open_tier(folder=tmp_path / "file" / "cache")
    tier.put(make_entry(1))
    tier.flush()
    assert tier.get(make_entry(1).key) is None
    assert tier.stats().failures >= 1
    assert (tmp_path / "file").read_text() == "a file"


def test_a_folder_removed_in_between_costs_nothing_but_the_hit(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry], tmp_path: Path
) -> None:
    tier = open_tier(folder=tmp_path / "cache")
    _fill(tier, make_entry, range(3))
    shutil.rmtree(tmp_path / "cache")
    tier.put(make_entry(5))
    tier.flush()
    tier.get(make_entry(5).key)
    tier.close()


def test_a_lookup_makes_no_file(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry], tmp_path: Path
) -> None:
    tier = open_tier(folder=tmp_path / "cache")
    assert tier.get(make_entry(1).key) is None
    assert tier.stats().entries == 0
    tier.close()
    assert not (tmp_path / "cache").exists()


def test_expired_entries_are_swept_when_something_is_written(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry]
) -> None:
    first = open_tier(keep_seconds=100.0, now=1000.0)
    for number in range(10):
        first.put(make_entry(number, created_at=1000.0))
    first.close()
    later = open_tier(keep_seconds=100.0, now=1101.0)
    later.put(make_entry(99, created_at=1101.0))
    later.flush()
    assert later.stats().entries == 1
    assert later.stats().expired == 10


def test_the_order_of_use_survives_a_restart(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry]
) -> None:
    first = open_tier(max_bytes=MEGABYTE)
    for number in range(4):
        first.put(make_entry(number, body_bytes=170_000))
    first.flush()
    assert first.get(make_entry(0).key) is not None
    first.close()
    second = open_tier(max_bytes=MEGABYTE)
    second.put(make_entry(4, body_bytes=170_000))
    second.close()
    third = open_tier(max_bytes=MEGABYTE)
    kept = [number for number in range(5) if third.get(make_entry(number).key) is not None]
    assert kept == [0, 2, 3, 4]


def test_a_store_opened_with_a_smaller_limit_shrinks_to_it(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry], tmp_path: Path
) -> None:
    large = open_tier(max_bytes=16 * MEGABYTE)
    for number in range(200):
        large.put(make_entry(number, body_bytes=40_000))
    large.close()
    assert (tmp_path / DATABASE_FILE).stat().st_size > 7 * MEGABYTE
    small = open_tier(max_bytes=MEGABYTE)
    small.put(make_entry(200, body_bytes=40_000))
    small.flush()
    on_disk = sum(
        path.stat().st_size
        for path in tmp_path.glob(f"{DATABASE_FILE}*")
        if not path.name.endswith("-shm")
    )
    assert on_disk <= MEGABYTE
    assert small.get(make_entry(200).key) is not None
    assert small.get(make_entry(199).key) is not None
    assert small.get(make_entry(0).key) is None


def test_a_tiny_bound_holds_nothing_and_makes_no_file(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry], tmp_path: Path
) -> None:
    tier = open_tier(folder=tmp_path / "cache", max_bytes=1000)
    tier.put(make_entry(1))
    tier.flush()
    assert tier.stats().refused == 1
    assert not (tmp_path / "cache" / DATABASE_FILE).exists()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_reads_and_writes_on_its_own(
    open_tier: Callable[..., DiskTier], make_entry: Callable[..., CacheEntry]
) -> None:
    tier = open_tier()
    _fill(tier, make_entry, range(1))
    assert tier.get(make_entry(0).key) is not None
    child = os.fork()
    if child == 0:
        code = 1
        try:
            tier.put(make_entry(7))
            tier.flush()
            if tier.get(make_entry(0).key) is not None and tier.get(make_entry(7).key) is not None:
                code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert tier.get(make_entry(7).key) == make_entry(7)
    tier.put(make_entry(8))
    tier.flush()
    assert tier.stats().entries == 3
