"""The plain limiter: bounds, order, threads and cancellation."""

from __future__ import annotations

import asyncio
import threading

import pytest

from claude_force.resilience.limiter import ConcurrencyLimiter, LimiterStatistics


def test_never_more_hold_than_the_limit_and_all_get_their_turn_in_order() -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(3)
        entered: list[int] = []
        most = 0

        async def hold(number: int) -> None:
            nonlocal most
            async with limiter:
                entered.append(number)
                most = max(most, limiter.statistics().in_use)
                await asyncio.sleep(0)

        await asyncio.gather(*(hold(number) for number in range(20)))
        assert entered == list(range(20))
        assert most == 3
        assert limiter.statistics() == LimiterStatistics(limit=3, in_use=0, waiting=0)

    asyncio.run(main())


def test_two_loops_in_two_threads_share_one_limit() -> None:
    limiter = ConcurrencyLimiter(2)
    lock = threading.Lock()
    holding = most = done = 0

    async def hold() -> None:
        nonlocal holding, most, done
        async with limiter:
            with lock:
                holding += 1
                most = max(most, holding)
            await asyncio.sleep(0.001)
            with lock:
                holding -= 1
                done += 1

    async def many() -> None:
        await asyncio.gather(*(hold() for _ in range(50)))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert (most, done) == (2, 100)
    assert limiter.statistics() == LimiterStatistics(limit=2, in_use=0, waiting=0)


def test_a_waiter_cancelled_in_the_queue_leaves_it() -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(1)
        async with limiter:
            waiter = asyncio.create_task(limiter.__aenter__())
            await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            assert limiter.statistics().waiting == 0
        assert limiter.statistics().in_use == 0

    asyncio.run(main())


def test_a_waiter_cancelled_as_it_gets_its_place_hands_it_on() -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(1)
        await limiter.__aenter__()
        first = asyncio.create_task(limiter.__aenter__())
        second = asyncio.create_task(limiter.__aenter__())
        await asyncio.sleep(0)
        # The place goes to the first, which is cancelled before it runs again.
        await limiter.__aexit__(None, None, None)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await asyncio.wait_for(second, timeout=5)
        await limiter.__aexit__(None, None, None)
        assert limiter.statistics() == LimiterStatistics(limit=1, in_use=0, waiting=0)

    asyncio.run(main())


def test_a_waiter_whose_loop_was_closed_is_passed_over() -> None:
    limiter = ConcurrencyLimiter(1)
    first_loop = asyncio.new_event_loop()
    first_loop.run_until_complete(limiter.__aenter__())
    lost = first_loop.create_task(limiter.__aenter__())
    first_loop.run_until_complete(asyncio.sleep(0))
    # Ended without cancelling its tasks, as a crashed thread does.
    lost._log_destroy_pending = False  # type: ignore[attr-defined] # asyncio warns of the lost task otherwise
    first_loop.close()

    async def main() -> None:
        await limiter.__aexit__(None, None, None)
        await asyncio.wait_for(limiter.__aenter__(), timeout=5)
        await limiter.__aexit__(None, None, None)

    asyncio.run(main())
    assert limiter.statistics() == LimiterStatistics(limit=1, in_use=0, waiting=0)


def test_a_limit_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="a limit of 0 would let nothing run"):
        ConcurrencyLimiter(0)
