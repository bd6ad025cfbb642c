"""What only a tier behind a network can do: be gone, be slow, be shared, be written by others."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from claude_force.cache.entries import EntrySigner
from claude_force.cache.machine_lock import MachineLock
from claude_force.cache.policy import Freshness, Lifetimes
from claude_force.cache.redis_leases import RedisLeases
from claude_force.cache.single_flight import SingleFlight
from claude_force.cache.store import open_store
from claude_force.domain.errors import ConfigError
from claude_force.storage.redis_link import Patience, RedisLink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import RedisServer

    from claude_force.cache.entries import CacheEntry
    from claude_force.cache.fingerprint import CacheKey
    from claude_force.cache.redis_tier import RedisTier
    from claude_force.cache.store import CacheStore

SECRET = b"a secret of the tests"


def machine(folder: Path, url: str, *, secret: bytes = SECRET) -> CacheStore:
    """The store of one machine: a folder of its own, the server of all."""
    return open_store(
        folder,
        lifetimes=Lifetimes(ttl_seconds=1e9),
        max_bytes=4 * 1024 * 1024,
        secret=secret,
        redis_url=url,
        wall_clock=lambda: 2000.0,
    )


def test_what_one_machine_stored_another_finds_and_keeps_on_its_own_disk(
    redis_server: RedisServer, tmp_path: Path, make_entry: Callable[..., CacheEntry]
) -> None:
    one, two = (machine(tmp_path / name, redis_server.url) for name in ("one", "two"))
    settled = threading.Event()
    one.put(make_entry(1), settled.set)
    assert settled.wait(10)
    found = two.lookup(make_entry(1).key)
    assert found is not None
    assert (found.entry, found.tier, found.freshness) == (make_entry(1), "redis", Freshness.FRESH)
    asyncio.run(two.aclose())
    redis_server.stop()
    again = machine(tmp_path / "two", redis_server.url)
    kept = again.lookup(make_entry(1).key)
    asyncio.run(again.aclose())
    assert kept is not None
    assert kept.tier == "disk"
    asyncio.run(one.aclose())


def test_bytes_that_others_wrote_are_misses(
    redis_server: RedisServer,
    open_redis_tier: Callable[..., RedisTier],
    make_entry: Callable[..., CacheEntry],
) -> None:
    stranger, tier = open_redis_tier(secret=b"another secret"), open_redis_tier()
    for number in range(3):
        stranger.put(make_entry(number))
    stranger.flush()
    assert tier.get(make_entry(0).key) is None
    # An entry of ours under the key of another one.
    tier.put(make_entry(7))
    tier.flush()
    with socket.create_connection(("127.0.0.1", redis_server.port), timeout=5) as connection:
        names = [f"claude-force:cache:1:{make_entry(n).key}" for n in (7, 1)]
        connection.sendall(f"RENAME {names[0]} {names[1]}\r\n".encode())
        assert connection.recv(5) == b"+OK\r\n"
    assert tier.get(make_entry(1).key) is None
    assert tier.stats().integrity_failures == 2
    assert [entry for entry in tier.records() if entry is not None] == [make_entry(7)]


def test_the_server_drops_what_is_past_its_life(
    open_redis_tier: Callable[..., RedisTier], make_entry: Callable[..., CacheEntry]
) -> None:
    tier = open_redis_tier(keep_seconds=10.0, now=1009.8)
    tier.put(make_entry(1, created_at=1000.0))
    tier.put(make_entry(2, created_at=900.0))
    tier.flush()
    assert tier.get(make_entry(1).key) is not None
    assert tier.get(make_entry(2).key) is None
    assert tier.stats().expired == 1
    deadline = time.monotonic() + 10
    while tier.get(make_entry(1).key) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_that_is_killed_costs_hits_and_is_found_again_when_it_is_back(
    redis_server: RedisServer,
    make_entry: Callable[..., CacheEntry],
    caplog: pytest.LogCaptureFixture,
) -> None:
    from claude_force.cache.redis_tier import RedisTier

    now = [0.0]
    link = RedisLink(
        redis_server.url.replace("redis://", "redis://:hunter2@"), monotonic=lambda: now[0]
    )
    link_without_password = RedisLink(redis_server.url, monotonic=lambda: now[0])
    tier = RedisTier(link_without_password, signer=EntrySigner(SECRET), max_entry_bytes=10_000)
    tier.put(make_entry(1))
    tier.flush()
    assert tier.get(make_entry(1).key) is not None
    redis_server.stop()
    with caplog.at_level(logging.WARNING):
        for number in range(20):
            assert tier.get(make_entry(number).key) is None
            tier.put(make_entry(number))
        tier.flush()
        assert link.call(lambda client: client.ping()) is None
    # One failure opened the circuit; the other 39 operations did not wait for the server.
    assert tier.stats().failures == 1
    assert [record.name for record in caplog.records] == ["claude_force.storage.redis_link"] * 2
    assert "hunter2" not in caplog.text
    redis_server.start()
    now[0] += 2.1
    tier.put(make_entry(3))
    tier.flush()
    assert tier.get(make_entry(3).key) == make_entry(3)
    tier.close()
    link.close()


def test_each_further_failure_doubles_the_pause_up_to_a_minute(redis_server: RedisServer) -> None:
    redis_server.stop()
    now, asked = [0.0], []
    link = RedisLink(redis_server.url, monotonic=lambda: now[0])

    def ask(client: object) -> bool:
        asked.append(now[0])
        raise ConnectionError

    for _ in range(600):
        link.call(ask)
        now[0] += 0.5
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert gaps == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_who_needs_the_server_more_is_more_patient_with_it(redis_server: RedisServer) -> None:
    now, asked = [0.0], []
    patience = Patience(
        slow_seconds=float("inf"), first_pause_seconds=0.5, longest_pause_seconds=1.5
    )
    link = RedisLink(redis_server.url, patience=patience, monotonic=lambda: now[0])

    def slow(client: object) -> bool:
        now[0] += 10.0
        return True

    def fail(client: object) -> bool:
        asked.append(now[0])
        raise ConnectionError

    assert [link.call(slow) for _ in range(10)] == [True] * 10
    for _ in range(60):
        link.call(fail)
        now[0] += 0.125
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert gaps == [0.5, 1.0, 1.5, 1.5, 1.5]


def test_a_server_that_never_answers_holds_a_lookup_up_once(
    make_entry: Callable[..., CacheEntry], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = machine(tmp_path, f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        began = time.monotonic()
        for number in range(50):
            assert store.lookup(make_entry(number).key) is None
        # One wait of a quarter of a second, not fifty.
        assert time.monotonic() - began < 5
        asyncio.run(store.aclose())


def test_an_answer_that_takes_long_several_times_in_a_row_opens_the_circuit(
    redis_server: RedisServer,
) -> None:
    now = [0.0]
    link = RedisLink(redis_server.url, monotonic=lambda: now[0])

    def slow(client: object) -> bool:
        now[0] += 0.1
        return True

    assert [link.call(slow) for _ in range(7)] == [True] * 5 + [None] * 2
    assert link.failures == 0


def test_an_address_of_another_kind_is_refused_before_anything_is_dialled() -> None:
    with pytest.raises(ConfigError, match="redis://"):
        RedisLink("http://127.0.0.1:6379")


def test_machines_that_ask_the_same_at_once_make_one_call(
    redis_server: RedisServer, tmp_path: Path, make_entry: Callable[..., CacheEntry]
) -> None:
    calls: list[str] = []
    key = make_entry(1).key

    async def ask(name: str) -> str:
        store = machine(tmp_path / name, redis_server.url)
        flights: SingleFlight[str] = SingleFlight(
            machine_lock=MachineLock(tmp_path / name / "flights"),
            leases=RedisLeases(RedisLink(redis_server.url)),
        )

        async def find() -> str | None:
            found = await store.lookup_async(key)
            return None if found is None else f"found by {name}"

        async def fetch() -> str:
            calls.append(name)
            await asyncio.sleep(0.2)
            return f"fetched by {name}"

        def keep(_: str, settled: Callable[[], None]) -> None:
            store.put(make_entry(1), settled)

        landing = await flights.run(key, find=find, fetch=fetch, keep=keep)
        await store.aclose()
        await flights.aclose()
        return landing.value

    async def all_at_once() -> list[str]:
        return await asyncio.gather(*(ask(f"machine-{number}") for number in range(4)))

    values = asyncio.run(all_at_once())
    assert len(calls) == 1
    assert sorted(value.split()[0] for value in values) == ["fetched", "found", "found", "found"]


def test_a_lease_excludes_until_it_is_released_or_its_holder_is_gone(
    redis_server: RedisServer, make_entry: Callable[..., CacheEntry]
) -> None:
    one, two = (RedisLeases(RedisLink(redis_server.url)) for _ in range(2))
    key: CacheKey = make_entry(1).key
    assert one.acquire(key)
    assert not two.acquire(key)
    one.release(key)
    deadline = time.monotonic() + 10
    while not two.acquire(key):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not one.acquire(key)
    # Closing gives back what is held; releasing what another holds changes nothing.
    one.release(key)
    two.close()
    assert one.acquire(key)
    one.close()


def test_without_a_server_every_lease_is_granted(
    redis_server: RedisServer, make_entry: Callable[..., CacheEntry]
) -> None:
    redis_server.stop()
    leases = RedisLeases(RedisLink(redis_server.url))
    assert leases.acquire(make_entry(1).key)
    assert leases.acquire(make_entry(1).key)
    leases.close()


def test_a_caller_that_is_cancelled_while_it_waits_for_the_lease_leaves_no_lease_behind(
    redis_server: RedisServer, tmp_path: Path, make_entry: Callable[..., CacheEntry]
) -> None:
    key = make_entry(1).key
    other = RedisLeases(RedisLink(redis_server.url))
    assert other.acquire(key)

    async def main() -> None:
        flights: SingleFlight[str] = SingleFlight(
            machine_lock=MachineLock(tmp_path / "flights"),
            leases=RedisLeases(RedisLink(redis_server.url)),
        )

        async def nothing() -> str | None:
            return None

        async def fetch() -> str:
            return "fetched"

        waiting = asyncio.create_task(
            flights.run(key, find=nothing, fetch=fetch, keep=lambda _, settled: settled())
        )
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        other.close()
        landing = await asyncio.wait_for(
            flights.run(key, find=nothing, fetch=fetch, keep=lambda _, settled: settled()), 20
        )
        assert landing.value == "fetched"
        await flights.aclose()

    asyncio.run(main())


def test_the_disk_is_asked_before_the_network(tmp_path: Path, redis_server: RedisServer) -> None:
    store = machine(tmp_path, redis_server.url)
    assert [numbers.name for numbers in store.stats()] == ["memory", "disk", "redis"]
    asyncio.run(store.aclose())
