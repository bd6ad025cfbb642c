"""A process of its own that sends many calls through a governor which it shares with others; run by the tests.

Arguments as JSON: url, database, first, calls, window_seconds, max_concurrent, and redis where machines share one.
Prints what became of the calls.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from claude_force.domain.errors import CallError
from claude_force.domain.usage import Usage
from claude_force.provider.failures import response_failure
from claude_force.resilience.governor import Governor
from claude_force.resilience.rate_class import Estimate
from claude_force.resilience.rate_headers import read_rate_headers
from claude_force.resilience.retries import RetryPolicy
from claude_force.resilience.shared_database import SharedDatabase
from claude_force.resilience.shared_limits import SharedLimits

if TYPE_CHECKING:
    from claude_force.resilience.sharing import LimitsExchange
    from claude_force.resilience.slot import Slot

MODEL = "claude-sonnet-5-5"
PROMPT = "word " * 200


async def send_once(url: str, number: int, slot: Slot) -> None:
    """One request on a connection of its own."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        content = f"{number}: {PROMPT}"
        body = json.dumps(
            {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": content}]}
        ).encode()
        head = (
            f"POST /v1/messages HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer key\r\n"
            "anthropic-version: 2026-10-21\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        raw_head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, headers = parsed_head(raw_head)
        slot.observe(read_rate_headers(headers.get, now_epoch_seconds=time.time()))
        answer = await reader.readexactly(int(headers["content-length"]))
    finally:
        writer.close()
    if status != 200:
        raise response_failure(status, answer, headers.get, now_epoch_seconds=time.time())
    usage = json.loads(answer)["usage"]
    slot.settle(Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"]))


def parsed_head(raw: str) -> tuple[int, dict[str, str]]:
    first, *lines = raw.strip().split("\r\n")
    return int(first.split()[1]), {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
    }


async def call(governor: Governor, arguments: dict[str, Any], number: int) -> str:
    """One call with its retries; returns `answered` or the kind of its error."""
    policy = RetryPolicy()
    for attempt in range(1, 10):
        try:
            async with governor.slot(
                arguments["url"], MODEL, "map", Estimate(len(PROMPT) * 10 // 38, 64)
            ) as slot:
                await send_once(arguments["url"], number, slot)
        except CallError as error:
            wait = policy.wait_seconds(
                error, attempt=attempt, remaining_seconds=60, random_unit=0.5
            )
            if wait is None:
                return error.kind
            await asyncio.sleep(wait)
        else:
            return "answered"
    return "lost"


def open_limits(arguments: dict[str, Any]) -> LimitsExchange:
    window_seconds = arguments["window_seconds"]
    database = SharedDatabase(Path(arguments["database"]))
    own = SharedLimits(database, window_seconds=window_seconds)
    if "redis" not in arguments:
        return own
    from claude_force.resilience.redis_fallback import MachineLimits
    from claude_force.resilience.redis_limits import RedisLimits
    from claude_force.resilience.redis_place import open_place

    place = open_place(arguments["redis"], machine=arguments["database"], host="a-machine")
    return MachineLimits(RedisLimits(place, window_seconds=window_seconds), own)


async def main(arguments: dict[str, Any]) -> None:
    shared = open_limits(arguments)
    governor = Governor(
        max_concurrent=arguments["max_concurrent"],
        shared=shared,
        window_seconds=arguments["window_seconds"],
    )
    first = arguments["first"]
    numbers = range(first, first + arguments["calls"])
    started = time.monotonic()
    outcomes = await asyncio.gather(*(call(governor, arguments, number) for number in numbers))
    ended = time.monotonic()
    statistics = governor.statistics()
    await governor.aclose()
    sys.stdout.write(
        json.dumps(
            {
                "outcomes": {kind: outcomes.count(kind) for kind in set(outcomes)},
                "started": started,
                "ended": ended,
                "in_flight": statistics.in_flight,
                "sharing_failure": statistics.sharing_failure,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
