"""Answers past their life: served only where the settings say so, and always marked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from claude_force import (
    AgentResult,
    AuthenticationError,
    CacheUse,
    InvalidRequestError,
    ServiceError,
    TextDelta,
)
from claude_force.simulator import Fault, FaultKind, Scenario, SimulatorThread

if TYPE_CHECKING:
    from pathlib import Path

    from tests.caching.conftest import AnswerFile, Ask, Eventually
    from tests.conftest import Cli, MakeAsync, MakeBlocking, Project

    from claude_force import Event

Later = Callable[[float], None]
HOUR = 3600.0
REVALIDATING = {"ttl_hours": 1, "stale_while_revalidate_seconds": 600}
FORGIVING = {"ttl_hours": 1, "stale_if_error_seconds": 600}
OVERLOADED = Fault(kind=FaultKind.OVERLOADED)


def test_a_stale_answer_comes_at_once_and_the_next_one_is_fresh(  # noqa: PLR0917 - filled in by name
    make_force: MakeAsync,
    project: Project,
    cache_dir: Path,
    later: Later,
    simulator: SimulatorThread,
    answers: AnswerFile,
    eventually: Eventually,
) -> None:
    project.config(cache=REVALIDATING)

    async def main() -> None:
        async with make_force(cache_dir=cache_dir) as force:
            bought = await force.run_agent("alpha", "Look at this")
            await eventually(lambda: answers.count() == 1)
            records = answers.records()
            later(HOUR + 300)
            # The refresh is answered late, and nothing has waited for it.
            simulator.queue_fault(Fault(kind=FaultKind.SLOW_HEADERS, seconds=1.0))
            stale = await force.run_agent("alpha", "Look at this")
            assert stale.cached is not None
            assert stale.cached.stale
            assert stale.cached.age_seconds >= HOUR + 300
            assert stale.text == bought.text
            assert stale.cost_usd == 0
            await eventually(lambda: answers.records() != records)
            fresh = await force.run_agent("alpha", "Look at this")
            assert fresh.cached is not None
            assert not fresh.cached.stale
            assert fresh.cached.age_seconds < 60

    asyncio.run(main())
    assert simulator.stats.requests == 2


def test_a_stale_answer_is_refreshed_once_however_often_it_is_served(  # noqa: PLR0917 - filled in by name
    make_force: MakeAsync,
    project: Project,
    cache_dir: Path,
    later: Later,
    simulator: SimulatorThread,
    unhurried: Scenario,
) -> None:
    project.config(cache=REVALIDATING)

    async def main() -> list[AgentResult]:
        async with make_force(cache_dir=cache_dir) as force:
            await force.run_agent("alpha", "Look at this")
            later(HOUR + 300)
            simulator.use_scenario(unhurried)
            one_by_one = [await force.run_agent("alpha", "Look at this") for _ in range(5)]
            at_once = [force.run_agent("alpha", "Look at this") for _ in range(20)]
            return one_by_one + await asyncio.gather(*at_once)

    for result in asyncio.run(main()):
        assert result.cached is not None
        assert result.cached.stale
    assert simulator.stats.requests == 2


def test_two_orchestrators_refresh_a_stale_answer_once(  # noqa: PLR0917 - filled in by name
    make_force: MakeAsync,
    project: Project,
    cache_dir: Path,
    later: Later,
    simulator: SimulatorThread,
    unhurried: Scenario,
) -> None:
    project.config(cache=REVALIDATING)

    async def main() -> None:
        async with make_force(cache_dir=cache_dir) as one, make_force(cache_dir=cache_dir) as other:
            await one.run_agent("alpha", "Look at this")
            later(HOUR + 300)
            simulator.use_scenario(unhurried)
            for force in (one, other):
                result = await force.run_agent("alpha", "Look at this")
                assert result.cached is not None
                assert result.cached.stale

    asyncio.run(main())
    assert simulator.stats.requests == 2


def test_a_refresh_survives_the_end_of_the_program(  # noqa: PLR0917 - filled in by name
    make_force: MakeAsync,
    project: Project,
    cache_dir: Path,
    later: Later,
    simulator: SimulatorThread,
    unhurried: Scenario,
    ask: Ask,
) -> None:
    project.config(cache=REVALIDATING)
    ask()
    later(HOUR + 300)
    simulator.use_scenario(unhurried)
    stale = ask()
    assert stale.cached is not None
    assert stale.cached.stale
    fresh = ask()
    assert fresh.cached is not None
    assert not fresh.cached.stale
    assert fresh.cached.age_seconds < 60
    assert simulator.stats.requests == 2


@pytest.mark.parametrize("kind", [FaultKind.OVERLOADED, FaultKind.REFUSAL, FaultKind.CLOSE])
def test_a_refresh_that_fails_troubles_nobody(  # noqa: PLR0917 - filled in by name
    ask: Ask,
    project: Project,
    later: Later,
    simulator: SimulatorThread,
    kind: FaultKind,
    answers: AnswerFile,
) -> None:
    project.config(cache=REVALIDATING, performance={"max_retries": 0})
    bought = ask()
    records = answers.records()
    later(HOUR + 300)
    simulator.queue_fault(Fault(kind=kind))
    stale = ask()
    assert stale.text == bought.text
    assert stale.cached is not None
    assert stale.cached.stale
    assert answers.records() == records
    assert simulator.stats.requests == 2
    # Asked again beside the next one.
    ask()
    assert simulator.stats.requests == 3
    assert answers.records() != records


def test_a_refresh_that_was_cut_off_by_the_end_of_its_loop_troubles_nobody(  # noqa: PLR0917 - filled in by name
    make_force: MakeAsync,
    project: Project,
    cache_dir: Path,
    later: Later,
    simulator: SimulatorThread,
    eventually: Eventually,
) -> None:
    project.config(cache=REVALIDATING)
    force = make_force(cache_dir=cache_dir)

    async def leave_behind() -> AgentResult:
        simulator.queue_fault(Fault(kind=FaultKind.STALL, after_bytes=0))
        result = await force.run_agent("alpha", "Look at this")
        await eventually(lambda: simulator.stats.requests == 2)
        return result

    async def ask_and_close() -> AgentResult:
        async with force:
            return await force.run_agent("alpha", "Look at this")

    asyncio.run(force.run_agent("alpha", "Look at this"))
    later(HOUR + 300)
    left, closed = asyncio.run(leave_behind()), asyncio.run(ask_and_close())
    for result in (left, closed):
        assert result.cached is not None
        assert result.cached.stale
    assert simulator.stats.requests == 3


def test_a_stale_answer_says_so_at_the_command_line(
    cli: Cli, project: Project, later: Later, simulator: SimulatorThread
) -> None:
    project.config(cache=REVALIDATING)
    run = ("run", "agent", "alpha", "--task", "Look")
    bought = cli(*run)
    later(HOUR + 300)
    stale = cli(*run)
    assert stale.out == bought.out
    assert "from the cache (disk, 1 h old, stale), saved $" in stale.err
    assert simulator.stats.requests == 2
    assert "stale" not in cli(*run).err


def test_a_maximum_age_is_never_answered_stale_while_the_api_can_be_asked(
    ask: Ask, project: Project, later: Later, simulator: SimulatorThread
) -> None:
    project.config(cache=REVALIDATING)
    ask()
    later(HOUR + 300)
    assert ask(cache=CacheUse(max_age_seconds=10 * HOUR)).cached is None
    assert simulator.stats.requests == 2


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.OVERLOADED,
        FaultKind.RATE_LIMIT,
        FaultKind.CLOSE,
        FaultKind.CUT,
        FaultKind.GATEWAY_TIMEOUT,
        FaultKind.BAD_JSON,
    ],
)
def test_an_api_that_fails_is_covered_by_a_stale_answer(  # noqa: PLR0917 - filled in by name
    ask: Ask,
    make_blocking: MakeBlocking,
    project: Project,
    cache_dir: Path,
    later: Later,
    simulator: SimulatorThread,
    kind: FaultKind,
) -> None:
    project.config(cache=FORGIVING, performance={"max_retries": 0})
    bought = ask()
    later(HOUR + 300)
    simulator.queue_fault(Fault(kind=kind))
    stale = ask()
    assert stale.text == bought.text
    assert stale.cached is not None
    assert stale.cached.stale
    simulator.queue_fault(Fault(kind=kind))
    with make_blocking(cache_dir=cache_dir) as force:
        again = force.run_agent("alpha", "Look at this")
    assert again.cached is not None
    assert again.cached.stale
    assert simulator.stats.requests == 3


def test_an_api_that_answers_is_asked(
    ask: Ask, project: Project, later: Later, simulator: SimulatorThread
) -> None:
    project.config(cache=FORGIVING)
    ask()
    later(HOUR + 300)
    assert ask().cached is None
    assert simulator.stats.requests == 2


def test_without_the_window_or_past_it_the_error_is_told(
    ask: Ask, project: Project, later: Later, simulator: SimulatorThread
) -> None:
    simulator.use_scenario("instant")
    ask()
    later(24 * HOUR + 1)
    simulator.queue_fault(OVERLOADED)
    with pytest.raises(ServiceError):
        ask(force={"max_retries": 0})
    project.config(cache={"stale_if_error_seconds": 600})
    later(600)
    simulator.queue_fault(OVERLOADED)
    with pytest.raises(ServiceError):
        ask(force={"max_retries": 0})


def test_the_error_is_told_where_there_is_nothing_to_cover_it(
    ask: Ask, project: Project, simulator: SimulatorThread
) -> None:
    project.config(cache=FORGIVING, performance={"max_retries": 0})
    for kind, error in (
        (FaultKind.OVERLOADED, ServiceError),
        (FaultKind.INVALID_REQUEST, InvalidRequestError),
        (FaultKind.AUTHENTICATION, AuthenticationError),
    ):
        simulator.queue_fault(Fault(kind=kind))
        with pytest.raises(error):
            ask()


def test_all_callers_of_a_failed_flight_are_covered(
    make_force: MakeAsync,
    project: Project,
    cache_dir: Path,
    later: Later,
    simulator: SimulatorThread,
) -> None:
    project.config(cache=FORGIVING, performance={"max_retries": 0})

    async def main() -> list[AgentResult]:
        async with make_force(cache_dir=cache_dir) as force:
            await force.run_agent("alpha", "Look at this")
            later(HOUR + 300)
            simulator.queue_fault(OVERLOADED)
            return await asyncio.gather(
                *[force.run_agent("alpha", "Look at this") for _ in range(10)]
            )

    for result in asyncio.run(main()):
        assert result.cached is not None
        assert result.cached.stale
    assert simulator.stats.requests == 2


def test_a_stale_answer_in_place_of_a_broken_stream_is_told_whole_and_marked_void_before(
    make_force: MakeAsync,
    project: Project,
    cache_dir: Path,
    later: Later,
    simulator: SimulatorThread,
) -> None:
    project.config(cache=FORGIVING, performance={"max_retries": 0})

    async def main() -> tuple[AgentResult, list[Event]]:
        async with make_force(cache_dir=cache_dir) as force:
            bought = await force.run_agent("alpha", "Look at this")
            later(HOUR + 300)
            simulator.queue_fault(Fault(kind=FaultKind.CUT))
            return bought, [event async for event in force.stream_agent("alpha", "Look at this")]

    bought, events = asyncio.run(main())
    # What an `AttemptFailed` with text makes void, as its documentation says.
    text = ""
    for event in events:
        if getattr(event, "text_was_sent", False):
            text = ""
        elif isinstance(event, TextDelta):
            text += event.text
    assert text == bought.text


def test_the_command_line_leaves_no_half_answer_before_a_stale_one(
    cli: Cli, project: Project, later: Later, simulator: SimulatorThread
) -> None:
    project.config(cache=FORGIVING, performance={"max_retries": 0})
    run = ("run", "agent", "alpha", "--task", "Look at this")
    bought = cli(*run)
    later(HOUR + 300)
    simulator.queue_fault(Fault(kind=FaultKind.CUT))
    stale = cli(*run)
    assert stale.code == 0
    assert ", stale)" in stale.err
    # Whatever was written of the broken answer is marked as void.
    assert stale.out.endswith(bought.out)
    before = stale.out.removesuffix(bought.out)
    assert before == "" or before.endswith("is void; it starts again below]\n")
