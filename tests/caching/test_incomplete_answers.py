"""Only what the model finished is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from claude_force import AgentResult, IncompleteAnswerError, ResponseCache
from claude_force.simulator import Fault, FaultKind, SimulatorThread

if TYPE_CHECKING:
    from pathlib import Path

    from tests.caching.conftest import AnswerFile, Ask
    from tests.conftest import Cli, MakeAsync

Paid = Callable[[], int]
UNFINISHED = [
    FaultKind.MAX_TOKENS,
    FaultKind.REFUSAL,
    FaultKind.CONTEXT_EXCEEDED,
    FaultKind.PAUSE_TURN,
    FaultKind.NO_STOP_REASON,
    FaultKind.EMPTY_TEXT,
]


@pytest.mark.parametrize("kind", UNFINISHED)
def test_an_unfinished_answer_is_never_stored(
    ask: Ask, answers: AnswerFile, simulator: SimulatorThread, kind: FaultKind
) -> None:
    simulator.queue_fault(Fault(kind=kind))
    # No retry, so that exactly one answer is unfinished.
    with pytest.raises(IncompleteAnswerError):
        ask(force={"max_retries": 0})
    assert answers.count() == 0
    assert simulator.stats.requests == 1
    whole = ask()
    assert whole.cached is None
    assert answers.count() == 1
    again = ask()
    assert again.cached is not None
    assert again.text == whole.text
    assert simulator.stats.requests == 2


@pytest.mark.parametrize("kind", [FaultKind.STOP_SEQUENCE, FaultKind.TOOL_USE])
def test_a_model_that_came_to_an_end_of_its_own_is_kept(
    ask: Ask, simulator: SimulatorThread, kind: FaultKind
) -> None:
    simulator.queue_fault(Fault(kind=kind))
    first = ask()
    assert first.stop_reason == kind.value
    second = ask()
    assert second.stop_reason == kind.value
    assert second.cached is not None
    assert simulator.stats.requests == 1


def test_an_unfinished_answer_leaves_an_earlier_whole_one_in_place(
    ask: Ask, cli: Cli, simulator: SimulatorThread
) -> None:
    run = ("run", "agent", "alpha", "--task", "Look")
    whole = cli(*run)
    simulator.queue_fault(Fault(kind=FaultKind.REFUSAL))
    refused = cli(*run, "--refresh")
    assert refused.code == 6
    again = cli(*run)
    assert again.code == 0
    assert again.out == whole.out
    assert "from the cache" in again.err


def test_callers_of_one_unfinished_answer_all_get_the_error_and_one_pays(
    make_force: MakeAsync, cache_dir: Path, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.REFUSAL))

    async def main() -> tuple[list[AgentResult | BaseException], AgentResult]:
        async with make_force(cache_dir=cache_dir, max_retries=0) as force:
            calls = [force.run_agent("alpha", "Look at this") for _ in range(5)]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            return ended, await force.run_agent("alpha", "Look at this")

    ended, after = asyncio.run(main())
    errors = [error for error in ended if isinstance(error, IncompleteAnswerError)]
    assert len(errors) == 5
    costs = [error.cost_usd for error in errors]
    assert sum(cost is not None and cost > 0 for cost in costs) == 1
    assert costs.count(None) == 0
    assert after.ok
    assert after.cached is None
    assert simulator.stats.requests == 2


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_the_cache_alone_keeps_no_empty_answer(cache_dir: Path, text: str) -> None:
    with ResponseCache(cache_dir) as cache:
        cache.set("writer", "task", "model", text, 1, 0, 0.0)
        assert cache.get("writer", "task", "model") is None
        assert cache.get_stats()["entries"] == 0
