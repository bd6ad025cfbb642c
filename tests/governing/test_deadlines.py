"""Deadlines of an attempt and of a run, and what a stopped run does with calls that wait."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import AgentCall
from claude_force.domain.errors import (
    CallTimeoutError,
    ConfigError,
    RunStoppedError,
    SpendLimitError,
)
from claude_force.domain.events import AttemptFailed, AttemptStarted, Event
from claude_force.domain.partial_failure import PartialFailureError
from claude_force.simulator import Fault, FaultKind, SimulatorThread

if TYPE_CHECKING:
    from tests.conftest import Cli, MakeAsync, MakeBlocking, Project, Until

    from claude_force import AgentOutcome

# Far more than any test takes: whoever sits such a wait out fails.
LONG = 45.0
HANGS = Fault(kind=FaultKind.STALL, after_bytes=600, match="hangs", times=1000)
BUSY = Fault(
    kind=FaultKind.OVERLOADED,
    match="busy",
    retry_after="seconds",
    retry_after_seconds=LONG,
    times=9,
)
MAP = ("run", "map", "alpha", "--items", "items.jsonl", "--out", "out.jsonl", "--no-cache")


def by_index(outcomes: list[AgentOutcome]) -> list[AgentOutcome]:
    return sorted(outcomes, key=lambda outcome: outcome.index)


# ---- an attempt


def test_attempt_beyond_its_deadline_is_made_again_and_its_prompt_is_counted(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.STALL, after_bytes=600))

    async def main() -> Any:
        async with make_force(attempt_timeout_seconds=1, timeout_seconds=LONG) as force:
            return await force.run_agent("alpha", "x")

    result = asyncio.run(main())
    assert (result.ok, result.attempts) == (True, 2)
    assert [usage.input_tokens for usage in result.lost_usages] == [result.usage.input_tokens]
    assert simulator.stats.requests == 2


def test_last_attempt_beyond_its_deadline_is_a_timeout_of_the_call(
    make_force: MakeAsync, simulator: SimulatorThread, project: Project
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.SLOW_HEADERS, times=9))
    project.config(performance={"attempt_timeout_seconds": 0.2, "max_retries": 1})

    async def main() -> None:
        async with make_force() as force:
            with pytest.raises(
                CallTimeoutError, match=r"Attempt 2 had no .* within 0\.2 s"
            ) as caught:
                await force.run_agent("alpha", "x")
            assert (caught.value.attempts, caught.value.usages) == (2, ())

    asyncio.run(main())
    assert simulator.stats.requests == 2


def test_deadline_of_an_attempt_is_an_option_of_the_command(
    cli: Cli, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.SLOW_HEADERS, times=9))
    options = ("--attempt-timeout", "0.2", "--max-retries", "0", "--no-cache")
    ended = cli("run", "agent", "alpha", "--task", "x", *options)
    assert ended.code == 9
    assert "within 0.2 s" in ended.err
    assert "--attempt-timeout" in ended.err


def test_zero_is_no_deadline_of_an_attempt_and_less_is_refused(
    make_force: MakeAsync, project: Project
) -> None:
    project.config(performance={"attempt_timeout_seconds": 0.000_001})

    async def main() -> None:
        async with make_force(attempt_timeout_seconds=0) as force:
            assert (await force.run_agent("alpha", "x")).ok

    asyncio.run(main())
    with pytest.raises(ConfigError, match="attempt_timeout_seconds is -1"):
        make_force(attempt_timeout_seconds=-1)


# ---- a run


def test_run_deadline_keeps_what_is_done_cuts_what_hangs_and_sends_nothing_more(
    make_force: MakeAsync, simulator: SimulatorThread, until: Until
) -> None:
    simulator.queue_fault(HANGS)
    calls = [("alpha", f"item {n} {'hangs' if n >= 4 else 'ends'}") for n in range(30)]

    async def main() -> list[AgentOutcome]:
        async with make_force(max_concurrent=3, enable_cache=False, timeout_seconds=LONG) as force:
            found = [one async for one in force.run_many(calls, timeout_seconds=3)]
            assert asyncio.all_tasks() == {asyncio.current_task()}
            until(lambda: simulator.stats.open_connections <= 3)
            return found

    outcomes = by_index(asyncio.run(main()))
    assert [one.ok for one in outcomes] == [True] * 4 + [False] * 26
    failed = [one.error for one in outcomes[4:]]
    assert {type(error) for error in failed} == {CallTimeoutError}
    cut = [
        one
        for one in outcomes[4:]
        if isinstance(one.error, CallTimeoutError) and one.error.attempts
    ]
    assert len(cut) == 3
    # What was on the wire may be billed, and says so; what was not sent cost nothing.
    assert all(one.cost_usd is not None and one.cost_usd > 0 for one in cut)
    assert all(str(one.error).startswith("The run's 3 s were over.") for one in cut)
    unsent = [str(error) for error in failed if error is not None and "Not sent" in str(error)]
    assert len(unsent) == 23
    assert simulator.stats.requests == 7


def test_run_that_ends_in_time_does_not_feel_its_deadline(
    make_force: MakeAsync, make_blocking: MakeBlocking
) -> None:
    async def main() -> list[str]:
        async with make_force() as force:
            return await force.execute_multiple(
                [("alpha", "a"), ("beta", "b")], timeout_seconds=LONG
            )

    assert len(asyncio.run(main())) == 2
    with make_blocking() as force:
        assert len(list(force.run_many([("alpha", "a")], timeout_seconds=LONG))) == 1
        assert len(force.execute_multiple([("alpha", "a")], timeout_seconds=LONG)) == 1


def test_deadline_of_several_calls_is_a_partial_failure_that_keeps_the_rest(
    make_blocking: MakeBlocking, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(HANGS)
    with make_blocking() as force, pytest.raises(PartialFailureError) as caught:
        force.execute_multiple([("alpha", "ends"), ("alpha", "hangs")], timeout_seconds=2)
    assert [one.ok for one in caught.value.outcomes] == [True, False]


def test_deadline_that_lets_nothing_run_is_refused(make_blocking: MakeBlocking) -> None:
    with make_blocking() as force, pytest.raises(ConfigError, match="timeout_seconds is 0"):
        force.execute_multiple([("alpha", "x")], timeout_seconds=0)


def test_deadline_does_not_fall_back_to_another_model(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(HANGS)
    call = AgentCall(agent_name="alpha", task="hangs", fallback=("haiku", "opus"))

    async def main() -> list[AgentOutcome]:
        async with make_force(timeout_seconds=LONG) as force:
            return [one async for one in force.run_many([call], timeout_seconds=1)]

    (outcome,) = asyncio.run(main())
    assert str(outcome.error).startswith("The run's 1 s were over.")
    assert simulator.stats.requests == 1


def test_map_of_the_command_ends_at_its_deadline_and_goes_on_later(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(HANGS)
    project.items({"id": "a", "task": "ends"}, {"id": "b", "task": "hangs"})
    ended = cli(*MAP, "--deadline", "2s")
    assert ended.code == 7
    assert "1 of 2 items failed" in ended.err
    assert "b (alpha): The run's 2 s were over." in ended.err
    assert {line["id"]: line["ok"] for line in project.lines("out.jsonl")} == {
        "a": True,
        "b": False,
    }
    simulator.reset()
    assert cli(*MAP, "--deadline", "10m").code == 0
    assert simulator.stats.requests == 1
    assert all(line["ok"] for line in project.lines("out.jsonl"))


def test_deadline_and_batches_exclude_each_other(cli: Cli, project: Project) -> None:
    project.items({"task": "x"})
    ended = cli(*MAP, "--batch", "--deadline", "5m")
    assert ended.code == 3
    assert "--deadline is not for --batch" in ended.err


# ---- a run that is stopped


def test_call_that_waits_for_its_retry_ends_when_a_spend_cap_stops_the_run(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(BUSY)
    simulator.queue_fault(Fault(kind=FaultKind.BILLING, match="capped"))
    told: list[Event] = []

    async def main() -> list[AgentOutcome]:
        # One place: the second call goes out only when the first waits for its retry.
        async with make_force(
            max_concurrent=1, enable_cache=False, timeout_seconds=2 * LONG, listeners=[told.append]
        ) as force:
            return [one async for one in force.run_many([("alpha", "busy"), ("alpha", "capped")])]

    began = time.monotonic()
    first, second = by_index(asyncio.run(main()))
    assert time.monotonic() - began < LONG / 2
    assert isinstance(second.error, SpendLimitError)
    assert isinstance(first.error, SpendLimitError)
    assert str(first.error).startswith("Not sent, because the run was stopped")
    assert first.error.attempts == 1
    assert simulator.stats.requests == 2
    kinds = [type(event) for event in told if isinstance(event, AttemptStarted | AttemptFailed)]
    assert kinds == [AttemptStarted, AttemptFailed] * 2


@pytest.mark.parametrize("waits_for", ["its next attempt", "its place"])
def test_stop_ends_every_wait_of_a_run(
    make_blocking: MakeBlocking,
    simulator: SimulatorThread,
    cli: Cli,
    until: Until,
    waits_for: str,
) -> None:
    simulator.queue_fault(BUSY)
    outcomes: list[AgentOutcome] = []
    if waits_for == "its place":
        assert cli("ctl", "pause").code == 0
    with make_blocking(timeout_seconds=2 * LONG) as force:
        running = threading.Thread(
            target=lambda: outcomes.extend(force.run_many([("alpha", "busy")]))
        )
        running.start()
        if waits_for == "its place":
            until(lambda: "1 waiting" in cli("ctl", "limits").out)
        else:
            until(lambda: simulator.stats.requests == 1)
        force.stop()
        running.join(LONG / 2)
        assert not running.is_alive()
    assert [type(one.error) for one in outcomes] == [RunStoppedError]
    assert simulator.stats.requests == (waits_for == "its next attempt")
