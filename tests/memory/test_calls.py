"""Calls that remember, through the public API and against the simulator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.conftest import MakeAsync

    from claude_force.simulator import SimulatorThread


def user_blocks(simulator: SimulatorThread) -> list[list[str]]:
    """The text blocks of the last message of every request."""
    contents: list[Any] = [r.body["messages"][-1]["content"] for r in simulator.requests]
    return [[c] if isinstance(c, str) else [block["text"] for block in c] for c in contents]


def test_a_call_recalls_what_an_earlier_one_did(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    async def main() -> None:
        for task in ("Review the retry loop of payments", "Look at retries in the payments client"):
            async with make_force() as force:
                await force.run_agent("alpha", task, use_memory=True)

    asyncio.run(main())
    first, second = user_blocks(simulator)
    assert len(first) == 1
    assert len(second) == 2
    assert "Review the retry loop of payments" in second[0]
    assert second[1].startswith("<task ")
