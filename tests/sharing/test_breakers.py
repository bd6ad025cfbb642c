"""Circuit breakers of several machines: one probe over all of them, whatever their clocks say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from claude_force.domain.errors import CircuitOpenError, ServiceError
from claude_force.resilience.breaker import CLOSED, BreakerPolicy, BreakerState
from claude_force.resilience.circuit_breakers import CircuitBreakers
from claude_force.resilience.redis_breakers import RedisBreakers
from claude_force.resilience.redis_place import open_place
from claude_force.resilience.redis_view import read_redis_state
from claude_force.resilience.sharing import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import RedisServer
    from tests.sharing.conftest import MakeMachine

POLICY = BreakerPolicy(failures_to_open=3, interval_seconds=1.0)
KEY = "m at https://api"


def keep(state: BreakerState) -> BreakerState:
    return state


def put(state: BreakerState) -> Callable[[BreakerState], BreakerState]:
    return lambda _: state


async def fail(breakers: CircuitBreakers) -> str:
    try:
        async with breakers.guard("https://api", "m"):
            raise ServiceError("no luck", status=503)  # noqa: TRY301 - what the service does
    except CircuitOpenError:
        return "refused"
    except ServiceError:
        return "failed"


def test_a_hundred_at_once_on_four_machines_make_one_probe(make_machine: MakeMachine) -> None:
    async def main() -> None:
        machines = [
            CircuitBreakers(POLICY, shared=make_machine(f"machine-{n}").breakers) for n in range(4)
        ]
        assert [await fail(machines[0]) for _ in range(4)] == ["failed"] * 3 + ["refused"]
        # The others learn of it from the server.
        assert [await fail(breakers) for breakers in machines[1:]] == ["refused"] * 3
        await asyncio.sleep(1.1)
        gate = asyncio.Event()
        probes = 0

        async def probe(breakers: CircuitBreakers) -> str:
            nonlocal probes
            try:
                async with breakers.guard("https://api", "m"):
                    probes += 1
                    await gate.wait()
            except CircuitOpenError:
                return "refused"
            return "answered"

        tasks = [asyncio.create_task(probe(machines[n % 4])) for n in range(100)]
        async with asyncio.timeout(20):
            while sum(task.done() for task in tasks) < 99:  # noqa: ASYNC110 - tasks have no event
                await asyncio.sleep(0.005)
        assert probes == 1
        gate.set()
        assert sorted(await asyncio.gather(*tasks)) == ["answered", *["refused"] * 99]
        await asyncio.sleep(1.1)
        assert [await probe(breakers) for breakers in machines] == ["answered"] * 4

    asyncio.run(main())


def test_changes_at_the_same_time_are_made_one_after_the_other(make_machine: MakeMachine) -> None:
    machines = [make_machine(f"machine-{n}") for n in range(4)]

    def count(number: int) -> None:
        machines[number % 4].breakers.change(
            KEY, lambda state: replace(state, failures=state.failures + 1)
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(100)))
    assert machines[0].breakers.change(KEY, keep).failures == 100


def test_a_machine_whose_clock_is_an_hour_ahead_waits_as_long_as_the_others(
    make_machine: MakeMachine, redis_server: RedisServer
) -> None:
    place = open_place(redis_server.url, machine="ahead", host="ahead")
    ahead = RedisBreakers(place, wall_clock=lambda: time.time() + 3600)
    opened_at = time.time()
    make_machine("on-time").breakers.change(
        KEY, put(BreakerState(failures=3, opened_at=opened_at, errors=("no luck",)))
    )
    seen = ahead.change(KEY, keep)
    assert seen is not None
    assert seen.opened_at is not None
    assert abs(seen.opened_at - (opened_at + 3600)) < 5
    assert (seen.failures, seen.errors) == (3, ("no luck",))
    place.close()


def test_the_place_of_a_probe_is_kept_while_its_process_visits_and_given_up_when_it_is_killed(
    make_machine: MakeMachine, redis_server: RedisServer
) -> None:
    machine, other = make_machine("one"), make_machine("two")
    long_ago = BreakerState(failures=3, opened_at=1.0, probed_at=2.0, probe_by="mine")
    machine.limits.exchange(Report(in_flight=1, waiting=0, classes={}))
    assert machine.breakers.change(KEY, put(long_ago)).probe_by == "mine"
    assert machine.breakers.change(KEY, keep).probe_by == "mine"
    assert other.breakers.change(KEY, keep).probe_by == f"{machine.place.lease_id}/mine"

    script = (
        "import os, signal, sys\n"
        "from claude_force.resilience.breaker import BreakerState\n"
        "from claude_force.resilience.redis_breakers import RedisBreakers\n"
        "from claude_force.resilience.redis_place import open_place\n"
        "breakers = RedisBreakers(open_place(sys.argv[1], machine='m', host='h'))\n"
        "breakers.change('killed', lambda state: BreakerState(\n"
        "    failures=3, opened_at=1.0, probed_at=2.0, probe_by='mine'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, redis_server.url], timeout=60, check=False
    )
    assert killed.returncode == -9
    # Commands see the same.
    seen = read_redis_state(redis_server.url).breakers
    assert seen["killed"].probe_by is None
    assert seen[KEY].probe_by == f"{machine.place.lease_id}/mine"
    given_up = other.breakers.change("killed", keep)
    assert (given_up.failures, given_up.probe_by) == (3, None)


def test_what_was_open_stays_open_when_the_server_goes_and_when_it_comes_back_empty(
    make_machine: MakeMachine, redis_server: RedisServer
) -> None:
    one, two = make_machine("one"), make_machine("two")
    now = time.time()
    open_state = BreakerState(failures=3, opened_at=now, probed_at=now, probe_by="two's")
    two.breakers.change(KEY, put(open_state))
    assert one.breakers.change(KEY, keep).probe_by is not None
    redis_server.stop()
    # Nobody hears any more how the other machine's probe ends, so its place is free.
    alone = one.breakers.change(KEY, keep)
    assert (alone.failures, alone.probe_by) == (3, None)
    assert alone.opened_at is not None
    # What it finds out alone, it remembers alone.
    assert one.breakers.change(KEY, put(CLOSED)) == CLOSED
    assert one.breakers.change(KEY, keep) == CLOSED
    redis_server.start()
    deadline = time.monotonic() + 20
    three = make_machine("three")
    while three.breakers.change(KEY, keep) == CLOSED:
        # The second machine tells the server again as soon as it sees it.
        assert two.breakers.change(KEY, keep).failures == 3
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_breaker_that_is_closed_leaves_nothing_at_the_server(
    make_machine: MakeMachine, redis_server: RedisServer
) -> None:
    import redis

    machine = make_machine("one")
    machine.breakers.change(KEY, put(BreakerState(failures=1)))
    machine.breakers.change(KEY, put(CLOSED))
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.hlen("claude-force:{shared}:1:breakers") == 0
