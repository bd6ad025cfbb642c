"""Single flight in one process."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from claude_force.cache.fingerprint import CacheKey
from claude_force.cache.policy import shares_failure
from claude_force.cache.single_flight import Landing, SingleFlight
from claude_force.domain.errors import RateLimitError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = CacheKey("0" * 31 + "1")
OTHER = CacheKey("0" * 31 + "2")


class Provider:
    """Counts calls; each waits until it is let go, then answers or raises."""

    def __init__(self, *failures: BaseException) -> None:
        self.calls = 0
        self.kept: list[str] = []
        self.let_go = asyncio.Event()
        self.failures = list(failures)

    async def find(self) -> str | None:
        return self.kept[-1] if self.kept else None

    async def fetch(self) -> str:
        self.calls += 1
        await self.let_go.wait()
        if self.failures:
            raise self.failures.pop(0)
        return f"answer {self.calls}"

    def keep(self, value: str, settled: Callable[[], None]) -> None:
        self.kept.append(value)
        settled()

    async def ask(self, flight: SingleFlight[str], key: CacheKey = KEY) -> Landing[str]:
        return await flight.run(key, find=self.find, fetch=self.fetch, keep=self.keep)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - whatever the test looks at has no event
            await asyncio.sleep(0)


def _waiting(flight: SingleFlight[str], count: int) -> Callable[[], bool]:
    return lambda: flight.waiting(KEY) == count


def test_fifty_equal_calls_make_one_request() -> None:
    async def main() -> None:
        flight, provider = SingleFlight[str](), Provider()
        tasks = [asyncio.create_task(provider.ask(flight)) for _ in range(50)]
        await _until(_waiting(flight, 49))
        provider.let_go.set()
        landings = await asyncio.gather(*tasks)
        assert provider.calls == 1
        assert [landing.value for landing in landings] == ["answer 1"] * 50
        assert [landing.led for landing in landings].count(True) == 1
        assert flight.waiting(KEY) == 0

    asyncio.run(main())


def test_different_keys_fly_apart() -> None:
    async def main() -> None:
        flight, one, two = SingleFlight[str](), Provider(), Provider()
        tasks = [asyncio.create_task(one.ask(flight)), asyncio.create_task(two.ask(flight, OTHER))]
        await _until(lambda: one.calls == two.calls == 1)
        one.let_go.set()
        two.let_go.set()
        assert all(landing.led for landing in await asyncio.gather(*tasks))

    asyncio.run(main())


def test_what_is_found_by_then_is_not_fetched() -> None:
    async def main() -> None:
        flight, provider = SingleFlight[str](), Provider()
        provider.kept.append("found")
        landing = await provider.ask(flight)
        assert landing == Landing("found", led=False)
        assert provider.calls == 0

    asyncio.run(main())


def test_a_cancelled_waiter_leaves_the_flight() -> None:
    async def main() -> None:
        flight, provider = SingleFlight[str](), Provider()
        tasks = [asyncio.create_task(provider.ask(flight)) for _ in range(3)]
        await _until(_waiting(flight, 2))
        tasks[1].cancel()
        await _until(_waiting(flight, 1))
        provider.let_go.set()
        landings = await asyncio.gather(*tasks, return_exceptions=True)
        assert provider.calls == 1
        assert isinstance(landings[1], asyncio.CancelledError)
        assert [landings[index].value for index in (0, 2)] == ["answer 1"] * 2  # type: ignore[union-attr] # not cancelled

    asyncio.run(main())


def test_a_cancelled_leader_hands_over_to_one_waiter() -> None:
    async def main() -> None:
        flight, provider = SingleFlight[str](), Provider()
        tasks = [asyncio.create_task(provider.ask(flight)) for _ in range(3)]
        await _until(_waiting(flight, 2))
        tasks[0].cancel()
        await _until(lambda: provider.calls == 2)
        provider.let_go.set()
        landings = await asyncio.gather(*tasks[1:])
        assert provider.calls == 2
        assert [landing.led for landing in landings] == [True, False]

    asyncio.run(main())


def test_leadership_survives_an_heir_that_is_cancelled_in_the_same_moment() -> None:
    async def main() -> None:
        flight, provider = SingleFlight[str](), Provider()
        tasks = [asyncio.create_task(provider.ask(flight)) for _ in range(4)]
        await _until(_waiting(flight, 3))
        # Leader and first two heirs go together, before any of them runs again.
        for task in tasks[:3]:
            task.cancel()
        await _until(lambda: provider.calls == 2)
        provider.let_go.set()
        assert (await tasks[3]).led

    asyncio.run(main())


def test_a_shared_failure_reaches_all_that_wait_and_does_not_poison_the_next() -> None:
    async def main() -> None:
        flight = SingleFlight[str](shares_failure=shares_failure)
        provider = Provider(RateLimitError("slow down"))
        tasks = [asyncio.create_task(provider.ask(flight)) for _ in range(5)]
        await _until(_waiting(flight, 4))
        provider.let_go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [RateLimitError] * 5
        assert provider.calls == 1
        assert (await provider.ask(flight)).value == "answer 2"

    asyncio.run(main())


def test_a_leaders_own_failure_hands_over() -> None:
    async def main() -> None:
        flight = SingleFlight[str](shares_failure=shares_failure)
        provider = Provider(RuntimeError("a bug of one caller"))
        tasks = [asyncio.create_task(provider.ask(flight)) for _ in range(3)]
        await _until(_waiting(flight, 2))
        provider.let_go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], RuntimeError)
        assert [result.value for result in results[1:]] == ["answer 2"] * 2  # type: ignore[union-attr] # not failed
        assert provider.calls == 2

    asyncio.run(main())


def test_flights_are_shared_between_loops_of_several_threads() -> None:
    flight = SingleFlight[str]()
    calls: list[int] = []
    let_go = threading.Event()
    values: list[str] = []

    async def ask() -> None:
        async def find() -> str | None:
            return None

        async def fetch() -> str:
            calls.append(1)
            await asyncio.to_thread(let_go.wait, 20)
            return "answer"

        landing = await flight.run(KEY, find=find, fetch=fetch, keep=lambda _, settled: settled())
        values.append(landing.value)

    threads = [threading.Thread(target=lambda: asyncio.run(ask())) for _ in range(6)]
    for thread in threads:
        thread.start()
    while flight.waiting(KEY) < 5:
        threading.Event().wait(0.005)
    let_go.set()
    for thread in threads:
        thread.join(20)
    assert values == ["answer"] * 6
    assert len(calls) == 1


def test_a_leader_whose_loop_ends_hands_over_to_another_thread() -> None:
    flight = SingleFlight[str]()
    leading = threading.Event()
    values: list[str] = []

    async def find() -> str | None:
        return None

    async def stuck() -> str:
        leading.set()
        await asyncio.sleep(3600)
        return "never"

    async def answer() -> str:
        return "answer"

    def first() -> None:
        async def main() -> None:
            task = asyncio.create_task(
                flight.run(KEY, find=find, fetch=stuck, keep=lambda _, settled: settled())
            )
            while flight.waiting(KEY) < 1:  # noqa: ASYNC110 - another thread brings it about
                await asyncio.sleep(0.005)
            # asyncio.run cancels what is left behind.
            assert not task.done()

        asyncio.run(main())

    def second() -> None:
        async def main() -> None:
            landing = await flight.run(
                KEY, find=find, fetch=answer, keep=lambda _, settled: settled()
            )
            values.append(landing.value)

        asyncio.run(main())

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert leading.wait(20)
    threads[1].start()
    for thread in threads:
        thread.join(20)
    assert values == ["answer"]


def test_an_error_of_keeping_is_the_leaders_alone() -> None:
    async def main() -> None:
        flight, provider = SingleFlight[str](), Provider()
        provider.let_go.set()

        def broken(value: str, settled: Callable[[], None]) -> None:
            raise OSError(value)

        with pytest.raises(OSError, match="answer 1"):
            await flight.run(KEY, find=provider.find, fetch=provider.fetch, keep=broken)
        assert (await provider.ask(flight)).value == "answer 2"

    asyncio.run(main())
