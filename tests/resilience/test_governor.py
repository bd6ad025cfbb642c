"""The governor at its public door: loops, threads, cancellation, fairness, live limits."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from claude_force.domain.errors import (
    CircuitOpenError,
    ClosedError,
    InputError,
    RateLimitError,
    ServiceError,
    TransportError,
)
from claude_force.domain.rate_limits import LimitReading, RateSnapshot
from claude_force.domain.usage import NO_USAGE, Usage
from claude_force.resilience.governor import Governor
from claude_force.resilience.rate_class import Estimate
from claude_force.resilience.shared_database import SharedDatabase
from claude_force.resilience.shared_limits import SharedLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from claude_force.resilience.slot import Slot

API, MODEL = "https://api", "claude-sonnet-5-5"
ESTIMATE = Estimate(100, 50)
USAGE = Usage(input_tokens=90, output_tokens=20)
PATIENCE_OF_THE_TEST = 20.0


def slot(governor: Governor, flow: str = "run", patience_seconds: float = float("inf")) -> Slot:
    return governor.slot(API, MODEL, flow, ESTIMATE, patience_seconds=patience_seconds)


async def call(governor: Governor, flow: str = "run") -> None:
    async with slot(governor, flow) as place:
        await asyncio.sleep(0)
        place.settle(USAGE)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_OF_THE_TEST):
        while not condition():  # noqa: ASYNC110 - the governor tells nobody
            await asyncio.sleep(0.005)


def test_never_more_are_under_way_than_max_concurrent() -> None:
    async def main() -> None:
        governor = Governor(max_concurrent=3, first_window=100)
        most = 0

        async def hold() -> None:
            nonlocal most
            async with slot(governor):
                most = max(most, governor.statistics().in_flight)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(hold() for _ in range(30)))
        assert most == 3
        assert governor.statistics().in_flight == governor.statistics().waiting == 0
        await governor.aclose()

    asyncio.run(main())


def test_several_loops_in_several_threads_share_one_governor() -> None:
    governor = Governor(max_concurrent=2)
    lock = threading.Lock()
    under_way = most = done = 0

    async def hold() -> None:
        nonlocal under_way, most, done
        async with slot(governor, "a flow") as place:
            with lock:
                under_way += 1
                most = max(most, under_way)
            await asyncio.sleep(0.001)
            with lock:
                under_way -= 1
                done += 1
            place.settle(USAGE)

    async def many() -> None:
        await asyncio.gather(*(hold() for _ in range(40)))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_OF_THE_TEST)
    assert (most, done) == (2, 120)


def test_a_small_workflow_is_not_starved_by_a_map_of_thousands() -> None:
    async def main() -> list[str]:
        governor = Governor(max_concurrent=2)
        order: list[str] = []

        async def one(flow: str) -> None:
            async with slot(governor, flow):
                order.append(flow)
                await asyncio.sleep(0)

        big = [asyncio.create_task(one("map")) for _ in range(2_000)]
        await asyncio.sleep(0)
        small = [asyncio.create_task(one("workflow")) for _ in range(3)]
        await asyncio.gather(*small, *big)
        return order

    order = asyncio.run(main())
    assert max(index for index, flow in enumerate(order) if flow == "workflow") < 15


def test_a_waiter_cancelled_in_the_queue_leaves_nothing_behind() -> None:
    async def main() -> None:
        governor = Governor(max_concurrent=1)
        async with slot(governor):
            waiter = asyncio.create_task(call(governor))
            await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            assert governor.statistics().waiting == 0
        assert governor.statistics().in_flight == 0

    asyncio.run(main())


def test_a_waiter_cancelled_as_it_gets_its_place_hands_it_on() -> None:
    async def main() -> None:
        governor = Governor(max_concurrent=1)
        async with slot(governor):
            first = asyncio.create_task(call(governor))
            second = asyncio.create_task(call(governor))
            await asyncio.sleep(0)
        # The place went to the first, which has not run since.
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await asyncio.wait_for(second, PATIENCE_OF_THE_TEST)
        assert governor.statistics().in_flight == 0

    asyncio.run(main())


def test_a_cancelled_request_leaves_no_reservation() -> None:
    async def main() -> None:
        governor = Governor()
        sleeping = asyncio.Event()

        async def hold() -> None:
            async with slot(governor) as place:
                place.observe(RateSnapshot(output_tokens=LimitReading(1_000, 1_000)))
                sleeping.set()
                await asyncio.sleep(PATIENCE_OF_THE_TEST)

        task = asyncio.create_task(hold())
        await sleeping.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        rate = governor._admission.classes[f"sonnet at {API}"].rate
        assert (governor.statistics().in_flight, rate.in_flight) == (0, 0)
        assert (rate.requests.reserved, rate.output_tokens.reserved) == (0, 0)

    asyncio.run(main())


def test_a_waiter_whose_loop_was_closed_does_not_keep_the_place() -> None:
    governor = Governor(max_concurrent=1)
    first_loop = asyncio.new_event_loop()
    holder = slot(governor)
    first_loop.run_until_complete(holder.__aenter__())
    lost = first_loop.create_task(call(governor))
    first_loop.run_until_complete(asyncio.sleep(0))
    lost._log_destroy_pending = False  # type: ignore[attr-defined] # asyncio warns of the lost task otherwise
    first_loop.close()

    async def main() -> None:
        await holder.__aexit__(None, None, None)
        await asyncio.wait_for(call(governor), PATIENCE_OF_THE_TEST)

    asyncio.run(main())
    assert governor.statistics().in_flight == governor.statistics().waiting == 0


def test_requests_wait_for_the_refill_of_what_the_headers_told() -> None:
    async def main() -> float:
        # A minute lasts a second: 20 requests a second.
        governor = Governor(max_concurrent=50, window_seconds=1.0, first_window=50)
        async with slot(governor) as place:
            place.observe(RateSnapshot(requests=LimitReading(20, 0)))
            place.settle(USAGE)
        started = time.monotonic()
        await asyncio.gather(*(call(governor) for _ in range(10)))
        return time.monotonic() - started

    assert 0.45 <= asyncio.run(main()) < PATIENCE_OF_THE_TEST


def test_a_refusal_holds_everybody_back_until_its_retry_after() -> None:
    async def main() -> float:
        governor = Governor()
        started = time.monotonic()
        with pytest.raises(RateLimitError):
            async with slot(governor):
                raise RateLimitError("slow down", status=429, retry_after_seconds=1.0)
        await asyncio.gather(*(call(governor) for _ in range(3)))
        return time.monotonic() - started

    assert 1.0 <= asyncio.run(main()) < PATIENCE_OF_THE_TEST


def test_a_pause_longer_than_a_call_can_wait_is_an_error_at_once() -> None:
    async def main() -> None:
        governor = Governor(max_concurrent=2, first_window=1)
        holder = slot(governor)
        await holder.__aenter__()

        async def impatient() -> None:
            async with slot(governor, patience_seconds=60):
                pass

        waiting = asyncio.create_task(impatient())
        await asyncio.sleep(0)
        error = RateLimitError("slow down", status=429, retry_after_seconds=3600)
        await holder.__aexit__(RateLimitError, error, None)
        for late in (waiting, asyncio.create_task(impatient())):
            with pytest.raises(RateLimitError, match="nothing for another 3600 s, longer than the"):
                await asyncio.wait_for(late, PATIENCE_OF_THE_TEST)
        assert governor.statistics().waiting == 0
        await governor.aclose()

    asyncio.run(main())


def test_limits_change_while_calls_wait() -> None:
    async def main() -> None:
        governor = Governor(max_concurrent=1, first_window=50)
        release = asyncio.Event()

        async def hold() -> None:
            async with slot(governor):
                await release.wait()

        tasks = [asyncio.create_task(hold()) for _ in range(10)]
        await asyncio.sleep(0)
        assert governor.statistics().in_flight == 1
        governor.set_limits(max_concurrent=7)
        assert governor.statistics().in_flight == 7
        governor.pause()
        release.set()
        await until(lambda: governor.statistics().in_flight == 0)
        assert governor.statistics().waiting == 3
        governor.resume()
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_OF_THE_TEST)

    asyncio.run(main())


def test_requests_per_minute_spread_out_what_goes_out() -> None:
    async def main() -> float:
        governor = Governor(requests_per_minute=1_200)
        started = time.monotonic()
        await asyncio.gather(*(call(governor) for _ in range(12)))
        return time.monotonic() - started

    assert 0.5 <= asyncio.run(main()) < PATIENCE_OF_THE_TEST


@pytest.mark.parametrize("shared", [False, True])
def test_closing_turns_away_who_waits_and_who_comes_later(tmp_path: Path, shared: bool) -> None:
    before = set(threading.enumerate())

    async def main() -> None:
        limits = SharedLimits(SharedDatabase(tmp_path / "limits.db")) if shared else None
        governor = Governor(max_concurrent=1, shared=limits)
        async with slot(governor):
            waiter = asyncio.create_task(call(governor))
            await asyncio.sleep(0)
            await governor.aclose()
            with pytest.raises(ClosedError):
                await waiter
        with pytest.raises(ClosedError):
            await call(governor)
        await governor.aclose()

    asyncio.run(main())
    assert set(threading.enumerate()) <= before


def test_ten_thousand_waiters_are_small_and_cost_no_cpu() -> None:
    async def main() -> tuple[float, float]:
        governor = Governor()
        governor.pause()
        tracemalloc.start()
        tasks = [asyncio.create_task(call(governor)) for _ in range(10_000)]
        await asyncio.sleep(0)
        size_bytes = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        before = time.process_time()
        await asyncio.sleep(0.3)
        cpu_seconds = time.process_time() - before
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert governor.statistics().waiting == 0
        return size_bytes / 10_000, cpu_seconds

    bytes_each, cpu_seconds = asyncio.run(main())
    assert bytes_each <= 5_000
    assert cpu_seconds < 0.1


def test_a_failure_without_a_rate_limit_leaves_the_window_as_it_is() -> None:
    async def main() -> None:
        governor = Governor()
        for error in (ServiceError("down", status=503), TransportError("cut")):
            with pytest.raises(type(error)):
                async with slot(governor):
                    raise error
        rate = governor._admission.classes[f"sonnet at {API}"].rate
        assert (rate.window.size, rate.in_flight) == (4, 0)

    asyncio.run(main())


def test_an_unusable_shared_file_leaves_the_process_alone_and_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    path.write_bytes(b"this is no database, and it is ours to keep" * 100)

    async def main() -> None:
        governor = Governor(shared=SharedLimits(SharedDatabase(path)))
        await asyncio.wait_for(
            asyncio.gather(*(call(governor) for _ in range(50))), PATIENCE_OF_THE_TEST
        )
        statistics = governor.statistics()
        assert statistics.shared is False
        assert statistics.sharing_failure is not None
        assert "limits.db" in statistics.sharing_failure
        await governor.aclose()

    asyncio.run(main())
    assert path.read_bytes().startswith(b"this is no database")


def test_a_limit_that_lets_nothing_run_is_refused() -> None:
    with pytest.raises(InputError, match="max_concurrent is 0, which would let nothing run"):
        Governor(max_concurrent=0)
    governor = Governor(max_concurrent=3)
    with pytest.raises(InputError, match="requests_per_minute is -1"):
        governor.set_limits(requests_per_minute=-1)
    assert governor.statistics().max_concurrent == 3


def test_a_request_that_was_not_sent_uses_nothing_up_and_teaches_nothing() -> None:
    async def main() -> None:
        governor = Governor()
        async with slot(governor) as place:
            place.observe(RateSnapshot(requests=LimitReading(10, 5)))
            place.settle(USAGE)
        rate = governor._admission.classes[f"sonnet at {API}"].rate
        before = rate.requests.free
        for _ in range(20):
            with pytest.raises(CircuitOpenError):
                async with slot(governor):
                    raise CircuitOpenError("open")
        for _ in range(20):
            async with slot(governor) as place:
                place.settle(NO_USAGE)
        assert rate.requests.free >= before
        assert rate.window.size == 4
        assert governor.statistics().in_flight == rate.in_flight == 0

    asyncio.run(main())
