"""One contender in one process: makes calls in batches and prints what they cost as JSON.

python benchmarks/worker.py CONTENDER BASE_URL AGENTS_DIR CONCURRENCY CALLS BATCHES EXPECTED_CHARACTERS
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import contenders

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from contenders import Call


async def _measure(
    opened: AbstractAsyncContextManager[Call], concurrency: int, calls: int, batches: int, size: int
) -> dict[str, list[float]]:
    cpu_ms, per_second, latency_ms = [], [], []
    async with opened as call:
        await _batch(call, concurrency, max(calls // 4, 2 * concurrency), size)
        for _ in range(batches):
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            latency_ms += await _batch(call, concurrency, calls, size)
            cpu_ms.append((time.process_time() - cpu) * 1000 / calls)
            per_second.append(calls / (time.perf_counter() - wall))
    return {"cpu_ms": cpu_ms, "per_second": per_second, "latency_ms": latency_ms}


async def _batch(call: Call, concurrency: int, calls: int, size: int) -> list[float]:
    """``calls`` calls, ``concurrency`` at a time; milliseconds of each."""
    remaining = iter(range(calls))
    latency_ms: list[float] = []

    async def lane() -> None:
        for _ in remaining:
            began = time.perf_counter()
            text = await call()
            latency_ms.append((time.perf_counter() - began) * 1000)
            if len(text) != size:
                raise AssertionError(f"an answer of {len(text)} characters instead of {size}")

    await asyncio.gather(*(lane() for _ in range(concurrency)))
    return latency_ms


if __name__ == "__main__":
    name, base_url, agents, *numbers = sys.argv[1:]
    at_once, count, rounds, expected = map(int, numbers)
    contender = (contenders.OURS | contenders.RIVALS)[name](base_url, Path(agents), at_once)
    figures = asyncio.run(_measure(contender, at_once, count, rounds, expected))
    print(json.dumps(figures))
