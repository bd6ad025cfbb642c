"""A process of its own that takes every place it can get and holds it; run by the tests, ended by a signal.

Arguments as JSON: database, tasks.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from claude_force.resilience.governor import Governor
from claude_force.resilience.rate_class import Estimate
from claude_force.resilience.shared_database import SharedDatabase
from claude_force.resilience.shared_limits import SharedLimits


async def hold(governor: Governor) -> None:
    async with governor.slot("https://api", "claude-sonnet-5-5", "run", Estimate(100, 10)):
        await asyncio.sleep(120)


async def main(database: str, tasks: int) -> None:
    governor = Governor(
        max_concurrent=100,
        first_window=100,
        shared=SharedLimits(SharedDatabase(Path(database))),
    )
    await asyncio.gather(*(hold(governor) for _ in range(tasks)))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    asyncio.run(main(given["database"], given["tasks"]))
