"""The breakers around attempts: alone, and shared by several governors of one machine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from claude_force.domain.errors import (
    CircuitOpenError,
    RateLimitError,
    ServiceError,
    TransportError,
)
from claude_force.resilience.breaker import BreakerPolicy
from claude_force.resilience.circuit_breakers import CircuitBreakers
from claude_force.resilience.shared_breakers import SharedBreakers
from claude_force.resilience.shared_database import SharedDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICY = BreakerPolicy(failures_to_open=3, interval_seconds=60)
NOON = 1_795_348_800.0  # 2026-11-22T12:00:00Z


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Service:
    """A service that can be down, and counts who reached it."""

    def __init__(self) -> None:
        self.reached = 0
        self.error: Exception | None = ServiceError("no luck", status=503)

    async def attempt(self, breakers: CircuitBreakers) -> str:
        try:
            async with breakers.guard("https://api", "m"):
                self.reached += 1
                await asyncio.sleep(0)
                if self.error is not None:
                    raise self.error
        except CircuitOpenError:
            return "refused"
        except (ServiceError, TransportError, RateLimitError):
            return "failed"
        return "answered"


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[list[SharedDatabase]]:
    made = [SharedDatabase(tmp_path / "limits.db") for _ in range(4)]
    yield made
    for database in made:
        database.close()


def test_it_opens_after_three_failures_and_says_since_when_and_why() -> None:
    async def main() -> None:
        clock, service = Clock(), Service()
        breakers = CircuitBreakers(POLICY, wall_clock=clock)
        for _ in range(3):
            assert await service.attempt(breakers) == "failed"
        clock.now += 15
        with pytest.raises(CircuitOpenError) as caught:
            async with breakers.guard("https://api", "m"):
                pass
        assert str(caught.value) == (
            "Nothing is sent to m at https://api: it has failed 3 times in a row, the circuit breaker is open "
            "since 12:00:00 UTC, and the next probe is due at 12:01:00 UTC, in 45 s. The last error was: no luck"
        )
        assert caught.value.retry_after_seconds == 45
        assert service.reached == 3
        # Another model of the same origin is not concerned.
        async with breakers.guard("https://api", "n"):
            pass

    asyncio.run(main())


def test_rate_limits_and_refused_requests_do_not_open_it() -> None:
    async def main() -> None:
        service = Service()
        service.error = RateLimitError("slow", status=429)
        breakers = CircuitBreakers(POLICY)
        for _ in range(10):
            assert await service.attempt(breakers) == "failed"
        assert breakers.states() == {}

    asyncio.run(main())


def test_thirty_minutes_of_outage_cost_at_most_a_probe_a_minute_and_recovery_one_interval() -> None:
    async def main() -> None:
        clock, service = Clock(), Service()
        breakers = CircuitBreakers(POLICY, wall_clock=clock)
        for _ in range(1_800):
            await asyncio.gather(*(service.attempt(breakers) for _ in range(3)))
            clock.now += 1
        assert 3 + 25 <= service.reached <= 3 + 30
        service.error = None
        clock.now += 60
        assert await service.attempt(breakers) == "answered"
        assert breakers.states() == {}

    asyncio.run(main())


def test_a_hundred_at_once_make_one_probe(databases: list[SharedDatabase]) -> None:
    async def main() -> None:
        clock, service = Clock(), Service()
        all_breakers = [
            CircuitBreakers(POLICY, shared=SharedBreakers(database), wall_clock=clock)
            for database in databases
        ]
        for _ in range(3):
            await service.attempt(all_breakers[0])
        clock.now += 2
        # The others learn of it from the shared state.
        assert [await service.attempt(breakers) for breakers in all_breakers] == ["refused"] * 4
        clock.now += 60
        service.reached, service.error = 0, None
        gate = asyncio.Event()

        async def slow(breakers: CircuitBreakers) -> str:
            try:
                async with breakers.guard("https://api", "m"):
                    service.reached += 1
                    await gate.wait()
            except CircuitOpenError:
                return "refused"
            return "answered"

        tasks = [asyncio.create_task(slow(all_breakers[n % 4])) for n in range(100)]
        async with asyncio.timeout(20):
            while sum(task.done() for task in tasks) < 99:  # noqa: ASYNC110 - tasks have no event
                await asyncio.sleep(0.005)
        assert service.reached == 1
        gate.set()
        assert sorted(await asyncio.gather(*tasks)) == ["answered", *["refused"] * 99]
        clock.now += 2
        assert [await service.attempt(breakers) for breakers in all_breakers] == ["answered"] * 4

    asyncio.run(main())


def test_a_cancelled_probe_gives_its_place_up() -> None:
    async def main() -> None:
        clock, service = Clock(), Service()
        breakers = CircuitBreakers(POLICY, wall_clock=clock)
        for _ in range(3):
            await service.attempt(breakers)
        clock.now += 60

        async def hang() -> None:
            async with breakers.guard("https://api", "m"):
                await asyncio.sleep(60)

        probe = asyncio.create_task(hang())
        await asyncio.sleep(0)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        service.error = None
        assert await service.attempt(breakers) == "refused"
        clock.now += 60
        assert await service.attempt(breakers) == "answered"

    asyncio.run(main())


def test_an_unusable_shared_file_leaves_the_breakers_working_alone(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    path.write_bytes(b"no database" * 100)

    async def main() -> None:
        service = Service()
        breakers = CircuitBreakers(POLICY, shared=SharedBreakers(SharedDatabase(path)))
        for _ in range(3):
            assert await service.attempt(breakers) == "failed"
        assert await service.attempt(breakers) == "refused"
        assert breakers.sharing_failure is not None

    asyncio.run(main())
