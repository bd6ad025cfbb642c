"""CPU that the layers around the bare client add to a call, and what waiting calls cost.

Run as ``.venv/bin/python benchmarks/layers.py [--json] [--rounds N]``. Every contender is a process of its own; they
take turns, against the canned server. Nothing fails and nothing is limited: this is the price of being prepared.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
import timeit
import tracemalloc
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from contest import clean_environment, served
from reporting import OUR_PYTHON, Goal, Report, Row, arguments, progress, quantile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from claude_force.domain.messages import MessageRequest
    from claude_force.provider.client import ModelClient

HERE = Path(__file__).resolve()
BARE, CHAIN, BUDGET = "bare client", "all layers", "all layers, budgets"
CONCURRENCIES = {1: 400, 200: 2000}
BATCHES = 5
WAITING = 10_000
# How long the waiting calls are watched.
IDLE_SECONDS = 5.0
WORKLOAD = (
    "Short streamed answers, one request object a call. All layers: fallback, prompt cache, prices, deadline and retries,\ngovernor "
    "and breaker shared with other processes by SQLite, one event listener; with budgets a run's is kept beside."
)


# ---- what a worker process measures


def _request(number: int) -> MessageRequest:
    from claude_force.domain.messages import CallContext, Message, MessageRequest, TextBlock

    return MessageRequest(
        model="claude-sonnet-5-5",
        system=(TextBlock("You review code. Name the three worst problems first.\n" * 40),),
        messages=(Message("user", (TextBlock(f"Review this function. It is number {number}."),)),),
        max_tokens=4096,
        context=CallContext(call_id=str(number), agent_name="bench-reviewer", run_id="run"),
    )


@asynccontextmanager
async def _client(
    contender: str, base_url: str, folder: Path, concurrency: int
) -> AsyncIterator[ModelClient]:
    from claude_force.assembly.layers import build_chain
    from claude_force.config.settings import BudgetSettings, PromptCacheSettings
    from claude_force.provider.messages_api import MessagesApiClient

    bare = MessagesApiClient(api_key="sk-benchmark", base_url=base_url)
    if contender == BARE:
        yield bare
        await bare.aclose()
        return
    from decimal import Decimal

    budgets = BudgetSettings(per_run_usd=Decimal(1_000_000)) if contender == BUDGET else None
    chain = build_chain(
        bare,
        origin=base_url,
        address=base_url,
        max_concurrent=concurrency,
        max_retries=3,
        timeout_seconds=120,
        budgets=budgets or BudgetSettings(),
        state_folder=folder / "state",
        prompt_cache=PromptCacheSettings(),
    )
    yield chain
    await chain.aclose()


async def _calls(contender: str, base_url: str, folder: Path, concurrency: int) -> list[float]:
    """Microseconds of CPU a call, one figure a batch."""
    calls = CONCURRENCIES[concurrency]
    heard = 0

    def listen(_: object) -> None:
        nonlocal heard
        heard += 1

    async with _client(contender, base_url, folder, concurrency) as client:

        async def batch() -> None:
            numbers = iter(range(calls))

            async def lane() -> None:
                for number in numbers:
                    assert (await client.send(_request(number), listen)).text

            await asyncio.gather(*(lane() for _ in range(concurrency)))

        await batch()
        samples = []
        for _ in range(BATCHES):
            gc.collect()
            began = time.process_time()
            await batch()
            samples.append((time.process_time() - began) / calls * 1e6)
    assert heard
    return samples


async def _waiting(base_url: str, folder: Path) -> dict[str, float]:
    """Bytes of a call that waits for a place, and CPU of all of them while nothing happens."""
    from claude_force.assembly.layers import build_chain
    from claude_force.config.settings import BudgetSettings, PromptCacheSettings
    from claude_force.testing import ScriptedClient

    class Held(ScriptedClient):
        async def send(self, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

    chain = build_chain(
        Held(),
        origin=base_url,
        address=base_url,
        max_concurrent=2,
        max_retries=3,
        timeout_seconds=3600,
        budgets=BudgetSettings(),
        state_folder=folder / "waiting",
        prompt_cache=PromptCacheSettings(),
    )
    requests = [_request(number) for number in range(WAITING + 2)]
    first = [asyncio.create_task(chain.send(request)) for request in requests[:2]]
    await asyncio.sleep(0.5)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [asyncio.create_task(chain.send(request)) for request in requests[2:]]
    await asyncio.sleep(1)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    began, began_wall = time.process_time(), time.perf_counter()
    await asyncio.sleep(IDLE_SECONDS)
    cpu, wall = time.process_time() - began, time.perf_counter() - began_wall
    assert not any(task.done() for task in tasks)
    for task in (*first, *tasks):
        task.cancel()
    await asyncio.gather(*first, *tasks, return_exceptions=True)
    await chain.aclose()
    return {"bytes": held / WAITING, "cpu_percent": cpu / wall * 100}


def work(task: str, base_url: str, folder: str, concurrency: str) -> None:
    """What a worker prints: one JSON value."""
    if task == "waiting":
        print(json.dumps(asyncio.run(_waiting(base_url, Path(folder)))))
    else:
        print(json.dumps(asyncio.run(_calls(task, base_url, Path(folder), int(concurrency)))))


# ---- the contest


def _worker(task: str, base_url: str, folder: str, concurrency: int) -> Any:
    done = subprocess.run(
        [str(OUR_PYTHON), str(HERE), "--worker", task, base_url, folder, str(concurrency)],
        env=clean_environment(Path(folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{task} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def _calibrate() -> list[float]:
    """Microseconds of ``sum(range(1000))``: about 10 on a machine of this kind that nobody else uses."""
    return [taken * 1000 for taken in timeit.repeat("sum(range(1000))", number=1000, repeat=5)]


def main() -> None:
    options = arguments("CPU of the layers around a call, and what waiting calls cost.", rounds=3)
    cpu: dict[tuple[str, int], list[float]] = {}
    speed: list[float] = []
    waiting: list[dict[str, float]] = []
    with TemporaryDirectory() as folder, served() as (origin, _):
        for number in range(1, options.rounds + 1):
            for concurrency in CONCURRENCIES:
                for contender in (BARE, CHAIN, BUDGET):
                    progress(f"round {number}/{options.rounds}: {contender}, {concurrency} at once")
                    found = _worker(contender, f"{origin}/short", folder, concurrency)
                    cpu.setdefault((contender, concurrency), []).extend(found)
            progress(f"round {number}/{options.rounds}: {WAITING:,} waiting calls")
            waiting.append(_worker("waiting", origin, folder, 2))
            speed += _calibrate()
    _report(cpu, speed, waiting).print(as_json=options.json)


def _report(
    cpu: dict[tuple[str, int], list[float]], speed: list[float], waiting: list[dict[str, float]]
) -> Report:
    measures = [
        Row(
            contender=contender,
            measure=f"CPU per call, {concurrency} at once",
            unit="us",
            samples=tuple(samples),
        )
        for (contender, concurrency), samples in cpu.items()
    ]
    held = tuple(one["bytes"] for one in waiting)
    idle = tuple(one["cpu_percent"] for one in waiting)
    return Report(
        name="layers",
        workload=WORKLOAD,
        rows=(
            *measures,
            Row(contender=CHAIN, measure="a waiting call", unit="bytes", samples=held),
            Row(contender=CHAIN, measure=f"CPU of {WAITING:,} waiting", unit="%", samples=idle),
            Row(contender="machine", measure="sum(range(1000))", unit="us", samples=tuple(speed)),
        ),
        goals=(
            *(
                Goal(
                    claim=f"CPU of {contender} beyond the bare client, us, {concurrency} at once",
                    # The least samples: what others do on the machine only ever adds to CPU time (caches, steal).
                    measured=min(cpu[contender, concurrency]) - min(cpu[BARE, concurrency]),
                    at_most=60,
                )
                for contender in (CHAIN, BUDGET)
                for concurrency in CONCURRENCIES
            ),
            Goal(claim="bytes of a waiting call", measured=quantile(held, 0.5), at_most=5120),
            Goal(
                claim=f"CPU of {WAITING:,} waiting calls, % of one core",
                measured=quantile(idle, 0.5),
                at_most=2,
            ),
        ),
        reference=BARE,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
    else:
        main()
