"""Pinned answers outlive their lifetime and eviction, within a bound, and nobody can pin by editing the file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_force.cache.disk_tier import DATABASE_FILE
from claude_force.cache.entries import CacheEntry
from claude_force.cache.fingerprint import CacheKey
from claude_force.cache.policy import Freshness, Lifetimes
from claude_force.cache.store import open_store
from claude_force.domain.errors import InputError
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from claude_force.cache.store import CacheStore

    MakeEntry = Callable[..., CacheEntry]
    OpenStore = Callable[..., CacheStore]

MEGABYTE = 1024 * 1024
HOUR = 3600.0
SECRET = "a secret of the tests"


def key(number: int) -> CacheKey:
    return CacheKey(f"{number:032x}")


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[OpenStore]:
    """Opens stores on one folder whose clocks say what the test says; answers live for an hour."""
    opened: list[CacheStore] = []

    def make(
        *,
        now: float = 1000.0,
        max_bytes: int = 4 * MEGABYTE,
        pinned_share: float = 0.5,
        secret: str = SECRET,
        stale_seconds: float = 0.0,
    ) -> CacheStore:
        store = open_store(
            tmp_path,
            lifetimes=Lifetimes(ttl_seconds=HOUR, stale_while_revalidate_seconds=stale_seconds),
            max_bytes=max_bytes,
            pinned_share=pinned_share,
            secret=secret,
            wall_clock=lambda: now,
        )
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


def pin(store: CacheStore, run_id: str, *numbers: int) -> tuple[int, int]:
    assert store.pins is not None
    report = store.pins.pin(run_id, map(key, numbers))
    return report.pinned, report.missing


def pinned(store: CacheStore) -> dict[str, int]:
    assert store.pins is not None
    return {run.run_id: run.entries for run in store.pins.runs()}


def held(store: CacheStore, *numbers: int) -> list[int]:
    return [number for number in numbers if store.lookup(key(number)) is not None]


def fill(store: CacheStore, make_entry: MakeEntry, first: int, count: int, size: int) -> None:
    for number in range(first, first + count):
        store.put(make_entry(number, body_bytes=size))
    store.flush()


def test_pinned_answer_is_served_past_its_lifetime_and_another_is_not(
    stores: OpenStore, make_entry: MakeEntry
) -> None:
    store = stores()
    fill(store, make_entry, 1, 3, 100)
    assert pin(store, "run1", 1, 2, 77) == (2, 1)
    later = stores(now=1000.0 + 30 * HOUR)
    found = later.lookup(key(1))
    assert found is not None
    assert (found.freshness, found.tier, found.age_seconds) == (
        Freshness.FRESH,
        "disk",
        30 * HOUR,
    )
    assert held(later, 1, 2, 3) == [1, 2]
    # Again, and after what is expired has been swept.
    fill(
        later,
        lambda number, **more: make_entry(number, created_at=1000.0 + 30 * HOUR, **more),
        50,
        3,
        100,
    )
    assert held(stores(now=1000.0 + 31 * HOUR), 1, 2, 3, 50) == [1, 2]


def test_caller_who_wants_a_younger_answer_gets_no_pinned_one(
    stores: OpenStore, make_entry: MakeEntry
) -> None:
    store = stores()
    fill(store, make_entry, 1, 1, 100)
    pin(store, "run1", 1)
    later = stores(now=1000.0 + 5 * HOUR)
    assert later.lookup(key(1), max_age_seconds=4 * HOUR) is None
    assert later.lookup(key(1), max_age_seconds=6 * HOUR) is not None


def test_pinned_answer_is_not_stale(stores: OpenStore, make_entry: MakeEntry) -> None:
    store = stores()
    fill(store, make_entry, 1, 2, 100)
    pin(store, "run1", 1)
    later = stores(now=1000.0 + 2 * HOUR, stale_seconds=9 * HOUR)
    for _ in range(2):
        assert [found.stale for found in map(later.lookup, (key(1), key(2))) if found] == [
            False,
            True,
        ]


def test_pinned_answers_outlive_any_number_of_others_and_bytes_stay_within_the_bound(
    stores: OpenStore, make_entry: MakeEntry, tmp_path: Path
) -> None:
    store = stores(max_bytes=MEGABYTE)
    fill(store, make_entry, 1, 20, 10_000)
    assert pin(store, "run1", *range(1, 21)) == (20, 0)
    largest = 0
    for start in range(100, 700, 50):
        fill(store, make_entry, start, 50, 10_000)
        files = tmp_path.glob(f"{DATABASE_FILE}*")
        # What maps the log into memory is no store of bytes, and is gone when the file is closed.
        sizes = [file.stat().st_size for file in files if not file.name.endswith("-shm")]
        largest = max(largest, sum(sizes))
    assert largest <= MEGABYTE
    other = stores(max_bytes=MEGABYTE)
    assert held(other, *range(1, 21)) == list(range(1, 21))
    assert held(other, 699) == [699]
    assert held(other, 100) == []


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "put", "put", "pin", "unpin"]),
            st.integers(0, 3),
            st.integers(100, 30_000),
        ),
        max_size=40,
    )
)
def test_whatever_is_done_pins_hold_and_neither_bound_is_exceeded(
    steps: list[tuple[str, int, int]],
) -> None:
    max_bytes = 512 * 1024
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_store(
            folder,
            lifetimes=Lifetimes(ttl_seconds=HOUR),
            max_bytes=max_bytes,
            pinned_share=0.3,
            secret=SECRET,
            wall_clock=lambda: 1000.0,
        )
        assert store.pins is not None
        tier = store.pins.tier
        kept: dict[str, set[CacheKey]] = {}
        put: list[CacheKey] = []
        for number, (what, run, size) in enumerate(steps):
            run_id = f"run{run}"
            if what == "put":
                put.append(key(number))
                store.put(an_entry(put[-1], size))
                store.flush()
            elif what == "pin":
                wanted = [one for one in put[-3:] if tier.get(one) is not None]
                with suppress(InputError):
                    store.pins.pin(run_id, wanted)
                    kept.setdefault(run_id, set()).update(wanted)
            else:
                store.pins.unpin(run_id)
                kept.pop(run_id, None)
            sizes = [
                file.stat().st_size
                for file in folder.glob(f"{DATABASE_FILE}*")
                if not file.name.endswith("-shm")
            ]
            assert sum(sizes) <= max_bytes
        assert {run.run_id: run.entries for run in store.pins.runs()} == {
            run_id: len(keys) for run_id, keys in kept.items() if keys
        }
        held_keys = set().union(*kept.values())
        assert all(tier.get(one) is not None for one in held_keys)
        assert sum(run.size_bytes for run in store.pins.runs()) <= 4 * 0.3 * max_bytes
        store.close()


def an_entry(entry_key: CacheKey, size: int) -> CacheEntry:
    return CacheEntry(
        key=entry_key, agent_name="writer", model="m", created_at=1000.0, body=bytes(size)
    )


def test_pin_that_does_not_fit_is_refused_whole_and_says_so(
    stores: OpenStore, make_entry: MakeEntry
) -> None:
    store = stores(max_bytes=MEGABYTE, pinned_share=0.2)
    fill(store, make_entry, 1, 30, 10_000)
    pin(store, "small", 1, 2)
    with pytest.raises(
        InputError,
        match=r"run 'large' need 0\.27 MB, and of the 0\.20 MB that pins may take, 0\.18 MB are left",
    ):
        pin(store, "large", *range(3, 31))
    assert pinned(store) == {"small": 2}
    # What is pinned already takes no room a second time.
    assert pin(store, "again", 1, 2) == (2, 0)


def test_unpinned_answers_live_as_long_as_others(stores: OpenStore, make_entry: MakeEntry) -> None:
    store = stores()
    fill(store, make_entry, 1, 3, 100)
    pin(store, "run1", 1, 2)
    pin(store, "run2", 2, 3)
    assert pinned(store) == {"run1": 2, "run2": 2}
    assert store.pins is not None
    assert store.pins.unpin("run1") == 2
    assert store.pins.unpin("run1") == 0
    # Another run keeps the second.
    assert held(stores(now=1000.0 + 2 * HOUR), 1, 2, 3) == [2, 3]


def test_newer_answer_takes_over_the_pin(stores: OpenStore, make_entry: MakeEntry) -> None:
    store = stores()
    fill(store, make_entry, 1, 1, 100)
    pin(store, "run1", 1)
    store.put(make_entry(1, body_bytes=200, created_at=2000.0))
    store.flush()
    found = stores(now=2000.0 + 5 * HOUR).lookup(key(1))
    assert found is not None
    assert len(found.entry.body) == 200


def test_newer_answer_that_is_too_large_for_the_pins_is_not_pinned(
    stores: OpenStore, make_entry: MakeEntry
) -> None:
    store = stores(max_bytes=MEGABYTE, pinned_share=0.1)
    fill(store, make_entry, 1, 1, 100)
    pin(store, "run1", 1)
    store.put(make_entry(1, body_bytes=200_000))
    store.flush()
    assert held(stores(), 1) == [1]
    assert pinned(store) == {}


def test_clearing_takes_pinned_answers_too(stores: OpenStore, make_entry: MakeEntry) -> None:
    store = stores()
    fill(store, make_entry, 1, 3, 100)
    pin(store, "run1", 1, 2)
    assert store.clear() == 3
    assert pinned(store) == {}


def test_smaller_bound_is_kept_even_if_pinned_answers_have_to_go(
    stores: OpenStore, make_entry: MakeEntry, tmp_path: Path
) -> None:
    store = stores(max_bytes=4 * MEGABYTE)
    fill(store, make_entry, 1, 150, 10_000)
    pin(store, "run1", *range(1, 151))
    store.close()
    smaller = stores(max_bytes=MEGABYTE)
    fill(smaller, make_entry, 500, 1, 100)
    assert (tmp_path / DATABASE_FILE).stat().st_size <= MEGABYTE
    left = held(smaller, *range(1, 151))
    assert 0 < len(left) < 150
    assert held(smaller, 500) == [500]


def test_pin_that_was_written_with_an_editor_keeps_nothing(
    stores: OpenStore, make_entry: MakeEntry, tmp_path: Path
) -> None:
    store = stores()
    fill(store, make_entry, 1, 2, 100)
    pin(store, "run1", 1)
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)) as editor:
        # The signed pin of one answer, put beside another one.
        editor.execute(
            "INSERT INTO pins SELECT ?, run, mark, pinned_at FROM pins", (bytes.fromhex(key(2)),)
        )
    assert held(stores(now=1000.0 + 2 * HOUR), 1, 2) == [1]


def test_pin_of_another_secret_keeps_nothing(stores: OpenStore, make_entry: MakeEntry) -> None:
    store = stores()
    fill(store, make_entry, 1, 1, 100)
    pin(store, "run1", 1)
    other = stores(secret="another")
    assert held(other, 1) == []
    assert pin(other, "run2", 1) == (0, 1)


def test_pinned_answer_that_was_edited_is_not_served(
    stores: OpenStore, make_entry: MakeEntry, tmp_path: Path
) -> None:
    store = stores()
    fill(store, make_entry, 1, 1, 100)
    pin(store, "run1", 1)
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)) as editor:
        (record,) = editor.execute("SELECT record FROM bodies").fetchone()
        editor.execute("UPDATE bodies SET record = ?", (record[:-1] + bytes([record[-1] ^ 1]),))
    assert held(stores(), 1) == []


_PINNER = """
import sys
from pathlib import Path
from claude_force.cache.fingerprint import CacheKey
from claude_force.cache.policy import Lifetimes
from claude_force.cache.store import open_store
from claude_force.domain.errors import InputError

store = open_store(
    Path(sys.argv[1]), lifetimes=Lifetimes(ttl_seconds=3600.0), max_bytes=1024 * 1024, pinned_share=0.2,
    secret="a secret of the tests", wall_clock=lambda: 1000.0,
)
number = int(sys.argv[2])
try:
    store.pins.pin(f"run{number}", [CacheKey(f"{number * 10 + one:032x}") for one in range(5)])
    print("pinned")
except InputError:
    print("refused")
store.close()
"""


def test_processes_that_pin_at_once_keep_the_bound_together(
    stores: OpenStore, make_entry: MakeEntry, tmp_path: Path
) -> None:
    store = stores(max_bytes=MEGABYTE, pinned_share=0.2)
    for number in range(1, 7):
        fill(store, make_entry, number * 10, 5, 10_000)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _PINNER, str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(1, 7)
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in started]
    # A run takes 52 kB of the 210 kB that pins may take.
    assert sorted(said) == ["pinned"] * 4 + ["refused"] * 2
    assert set(pinned(store).values()) == {5}
    assert len(pinned(store)) == 4


def test_store_without_a_file_has_no_pins_and_makes_none(stores: OpenStore, tmp_path: Path) -> None:
    store = stores()
    assert pinned(store) == {}
    assert pin(store, "run1", 1) == (0, 1)
    assert not (tmp_path / DATABASE_FILE).exists()


def test_file_that_cannot_be_used_is_an_error_for_who_pins(
    stores: OpenStore, tmp_path: Path
) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(b"the file of another program" * 100)
    store = stores()
    assert store.pins is not None
    with pytest.raises(StorageError, match="its pins cannot be changed or read"):
        store.pins.runs()
