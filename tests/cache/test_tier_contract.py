"""What holds for every tier. A new one is added to the fixture and to nothing else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from claude_force.cache.memory_tier import MemoryTier

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.cache.disk_tier import DiskTier
    from claude_force.cache.entries import CacheEntry
    from claude_force.cache.tier import Tier

MAX_BYTES = 1024 * 1024


@pytest.fixture(params=["memory", "disk", "redis"])
def tier(request: pytest.FixtureRequest, open_tier: Callable[..., DiskTier]) -> Tier:
    if request.param == "memory":
        return MemoryTier(MAX_BYTES)
    if request.param == "redis":
        open_redis_tier: Callable[..., Tier] = request.getfixturevalue("open_redis_tier")
        return open_redis_tier(max_entry_bytes=MAX_BYTES)
    return open_tier(max_bytes=MAX_BYTES)


@pytest.fixture
def own_tier(tier: Tier) -> Tier:
    """A tier that keeps the order of use and the bound itself; at Redis both are the server's."""
    if tier.name == "redis":
        pytest.skip("the order and the bound are those of the server")
    return tier


def test_what_was_put_is_found_at_once_and_after_settling(
    tier: Tier, make_entry: Callable[..., CacheEntry]
) -> None:
    entry = make_entry(1)
    tier.put(entry)
    assert tier.get(entry.key) == entry
    tier.flush()
    assert tier.get(entry.key) == entry
    assert (tier.stats().hits, tier.stats().misses, tier.stats().entries) == (2, 0, 1)


def test_an_unknown_key_is_a_counted_miss(
    tier: Tier, make_entry: Callable[..., CacheEntry]
) -> None:
    assert tier.get(make_entry(1).key) is None
    assert tier.stats().misses == 1


def test_the_last_one_put_wins(tier: Tier, make_entry: Callable[..., CacheEntry]) -> None:
    for size in (10, 20, 30):
        tier.put(make_entry(1, body_bytes=size))
        if size == 20:
            tier.flush()
    tier.flush()
    found = tier.get(make_entry(1).key)
    assert found is not None
    assert len(found.body) == 30
    assert tier.stats().entries == 1


def test_settling_is_told_also_when_the_entry_is_refused(
    tier: Tier, make_entry: Callable[..., CacheEntry]
) -> None:
    settled = [threading.Event(), threading.Event(), threading.Event()]
    tier.put(make_entry(1), settled[0].set)
    tier.put(make_entry(2, body_bytes=2 * MAX_BYTES), settled[1].set)
    assert settled[0].wait(10)
    assert settled[1].wait(10)
    tier.close()
    tier.put(make_entry(3), settled[2].set)
    assert settled[2].wait(10)


def test_an_entry_over_the_bound_is_refused_and_the_rest_stays(
    tier: Tier, make_entry: Callable[..., CacheEntry]
) -> None:
    tier.put(make_entry(1))
    tier.flush()
    tier.put(make_entry(2, body_bytes=2 * MAX_BYTES))
    tier.flush()
    assert tier.get(make_entry(1).key) is not None
    assert tier.get(make_entry(2).key) is None
    assert tier.stats().refused == 1


def test_the_least_recently_used_entry_makes_room(
    own_tier: Tier, make_entry: Callable[..., CacheEntry]
) -> None:
    # Four fit, five do not.
    for number in range(4):
        own_tier.put(make_entry(number, body_bytes=170_000))
    assert own_tier.get(make_entry(0).key) is not None
    own_tier.touch(make_entry(1).key)
    own_tier.flush()
    own_tier.put(make_entry(4, body_bytes=400_000))
    own_tier.flush()
    kept = [number for number in range(5) if own_tier.get(make_entry(number).key) is not None]
    assert 4 in kept
    assert 1 in kept
    assert 2 not in kept
    assert own_tier.stats().evictions >= 1
    assert own_tier.stats().size_bytes <= MAX_BYTES


def test_records_come_with_the_last_used_first(
    own_tier: Tier, make_entry: Callable[..., CacheEntry]
) -> None:
    for number in range(3):
        own_tier.put(make_entry(number))
    own_tier.get(make_entry(0).key)
    own_tier.flush()
    keys = [entry.key for entry in own_tier.records() if entry is not None]
    assert keys == [make_entry(number).key for number in (0, 2, 1)]


def test_clearing_can_be_by_agent_by_age_and_whole(
    tier: Tier, make_entry: Callable[..., CacheEntry]
) -> None:
    tier.put(make_entry(1, agent_name="a", created_at=100.0))
    tier.put(make_entry(2, agent_name="a", created_at=200.0))
    tier.put(make_entry(3, agent_name="b", created_at=100.0))
    tier.put(make_entry(4, agent_name="c", created_at=300.0))
    assert tier.clear(agent_name="a", created_before=150.0) == 1
    assert tier.clear(agent_name="b") == 1
    assert tier.clear(created_before=250.0) == 1
    assert tier.get(make_entry(4).key) is not None
    assert tier.clear() == 1
    assert tier.stats().entries == 0
    assert tier.get(make_entry(4).key) is None


def test_after_closing_every_lookup_is_a_miss(
    tier: Tier, make_entry: Callable[..., CacheEntry]
) -> None:
    tier.put(make_entry(1))
    tier.close()
    assert tier.get(make_entry(1).key) is None
    tier.put(make_entry(2))
    assert tier.get(make_entry(2).key) is None
    tier.close()


def test_eight_threads_find_only_what_was_put(
    tier: Tier, make_entry: Callable[..., CacheEntry]
) -> None:
    wrong: list[CacheEntry] = []

    def work(seed: int) -> None:
        for index in range(60):
            number = (seed * 13 + index * 7) % 40
            tier.put(make_entry(number))
            found = tier.get(make_entry((number + 1) % 40).key)
            if found is not None and found != make_entry((number + 1) % 40):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tier.flush()
    assert wrong == []
    assert tier.stats().entries == 40
