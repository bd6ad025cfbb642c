"""The event loop never waits for the cache."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from blockbuster import BlockBuster

from claude_force import REFRESH_CACHE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import MakeAsync, Project

    from claude_force import AgentResult, AsyncAgentOrchestrator
    from claude_force.simulator import SimulatorThread

# What may touch the disk on the loop: a look whether the agent's file is the one that was read, and reading it.
AGENT_FILES = ("claude_force/agents/registry.py", "get")


@pytest.fixture
def no_blocking() -> Iterator[None]:
    blockbuster = BlockBuster()
    for function in blockbuster.functions.values():
        function.can_block_in(*AGENT_FILES)
    blockbuster.activate()
    yield
    blockbuster.deactivate()


def opened(force: AsyncAgentOrchestrator) -> AsyncAgentOrchestrator:
    """With claude.json read, which happens once, at the first use."""
    assert force.settings.cache.enabled
    assert force.registry.get("alpha").name == "alpha"
    return force


def test_five_hundred_mixed_calls_block_nothing(
    make_force: MakeAsync,
    project: Project,
    cache_dir: Path,
    simulator: SimulatorThread,
    no_blocking: None,
) -> None:
    force = opened(make_force(cache_dir=cache_dir, max_concurrent=20))

    async def main() -> list[AgentResult]:
        results = []
        async with force:
            # Each task comes up to five times: a miss that is stored, then hits, now and then a refresh.
            for start in range(0, 500, 25):
                results += await asyncio.gather(
                    *[
                        force.run_agent(
                            "alpha",
                            f"Look at {number % 100}",
                            **({"cache": REFRESH_CACHE} if number % 50 == 49 else {}),  # type: ignore[arg-type] # by name
                        )
                        for number in range(start, start + 25)
                    ]
                )
        return results

    results = asyncio.run(main())
    assert len(results) == 500
    assert simulator.stats.requests == 100 + 8
    assert sum(result.cached is None for result in results) == 108


def test_a_fresh_start_on_a_full_folder_blocks_nothing(
    make_force: MakeAsync,
    cache_dir: Path,
    simulator: SimulatorThread,
    request: pytest.FixtureRequest,
) -> None:
    async def main(force: AsyncAgentOrchestrator) -> list[str | None]:
        async with force:
            results = [await force.run_agent("alpha", f"Look at {number}") for number in range(40)]
        return [result.cached.tier if result.cached else None for result in results]

    assert asyncio.run(main(make_force(cache_dir=cache_dir))) == [None] * 40
    fresh = opened(make_force(cache_dir=cache_dir))
    request.getfixturevalue("no_blocking")
    assert asyncio.run(main(fresh)) == ["disk"] * 40
    assert simulator.stats.requests == 40


def test_a_folder_that_cannot_be_used_blocks_nothing(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread, no_blocking: None
) -> None:
    cache_dir.write_text("a file")

    force = opened(make_force(cache_dir=cache_dir))

    async def main() -> None:
        async with force:
            for number in range(10):
                assert (await force.run_agent("alpha", f"Look at {number}")).ok
                again = await force.run_agent("alpha", f"Look at {number}")
                assert again.cached is not None

    asyncio.run(main())
    assert simulator.stats.requests == 10


def test_stale_answers_and_their_refreshes_block_nothing(  # noqa: PLR0917 - filled in by name
    make_force: MakeAsync,
    project: Project,
    cache_dir: Path,
    simulator: SimulatorThread,
    later: Callable[[float], None],
    no_blocking: None,
) -> None:
    project.config(cache={"ttl_hours": 1, "stale_while_revalidate_seconds": 600})

    async def main(force: AsyncAgentOrchestrator) -> None:
        # Closing waits for the refreshes.
        async with force:
            await asyncio.gather(
                *[force.run_agent("alpha", f"Look at {number}") for number in range(10)]
            )

    for round_number in (1, 2, 3):
        asyncio.run(main(opened(make_force(cache_dir=cache_dir))))
        assert simulator.stats.requests == 10 * round_number
        later(3900)
