"""Message batches over a real socket: half the price, nothing sent twice, results in any order."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import AgentCall, BudgetExceededError, InputError
from claude_force.config.proxies import Proxies
from claude_force.domain.errors import ConfigError, ServiceError
from claude_force.domain.messages import CallContext
from claude_force.provider.batches_api import BatchesApi, encode_item
from claude_force.simulator import Scenario, SimulatorThread
from claude_force.testing import ScriptedClient
from claude_force.workflows.batch_ledger import BatchLedger
from claude_force.workflows.batch_run import BatchRun

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Cli, MakeBlocking, Project, Spawn, Until

KEY = "key-of-the-tests"


@pytest.fixture
def batch_requests(simulator: SimulatorThread) -> Any:
    """How many requests each batch had that the simulator accepted."""

    def read() -> list[int]:
        return [
            len(request.body["requests"])
            for request in simulator.requests
            if (request.method, request.path) == ("POST", "/v1/messages/batches")
        ]

    return read


def calls(count: int) -> list[AgentCall]:
    return [
        AgentCall(agent_name="writer", task=f"Name colour {number}.") for number in range(count)
    ]


def test_a_batch_costs_half_and_fills_the_cache(
    project: Project, make_blocking: MakeBlocking, simulator: SimulatorThread, batch_requests: Any
) -> None:
    project.agent("writer")
    with make_blocking(enable_cache=False) as force:
        live = {
            number: force.run_agent(call.agent_name, call.task)
            for number, call in enumerate(calls(3))
        }
    with make_blocking() as force:
        outcomes = {outcome.index: outcome for outcome in force.run_batch(calls(3))}
        again = list(force.run_batch(calls(3)))
        afterwards = force.run_agent("writer", calls(1)[0].task)
    assert batch_requests() == [3]
    assert sorted(outcomes) == [0, 1, 2]
    for number, outcome in outcomes.items():
        assert outcome.result is not None
        assert outcome.result.text == live[number].text
        assert outcome.cost_usd is not None
        assert outcome.cost_usd * 2 == live[number].cost_usd
    assert [outcome.result.cached is not None for outcome in again if outcome.result] == [True] * 3
    assert afterwards.cached is not None


def test_equal_calls_are_one_request_and_are_paid_once(
    project: Project, make_blocking: MakeBlocking, batch_requests: Any
) -> None:
    project.agent("writer")
    with make_blocking() as force:
        outcomes = list(force.run_batch([*calls(1), *calls(1)]))
    assert batch_requests() == [1]
    assert [outcome.index for outcome in outcomes] == [0, 1]
    assert outcomes[0].cost_usd
    assert outcomes[1].cost_usd == 0


def test_who_does_not_wait_comes_back_later_and_nothing_is_sent_twice(
    project: Project, make_blocking: MakeBlocking, batch_requests: Any
) -> None:
    project.agent("writer")
    with make_blocking() as force:
        assert list(force.run_batch(calls(3), wait=False)) == []
    with make_blocking() as force:
        # Some more than yesterday.
        outcomes = list(force.run_batch(calls(5)))
    assert batch_requests() == [3, 2]
    assert sorted(outcome.index for outcome in outcomes if outcome.ok) == [0, 1, 2, 3, 4]


def test_a_process_that_is_killed_while_it_waits_sends_nothing_twice(
    project: Project, spawn: Spawn, simulator: SimulatorThread, until: Until, batch_requests: Any
) -> None:
    project.agent("writer")
    project.items(*({"task": f"Name colour {number}."} for number in range(4)))
    simulator.use_scenario(Scenario(name="patient", summary="a batch takes 4 s", batch_seconds=4.0))
    command = ("run", "map", "writer", "--items", "items.jsonl", "--out", "out.jsonl", "--batch")
    killed = spawn(*command)
    until(batch_requests)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    finished = spawn(*command)
    _, err = finished.communicate(timeout=60)
    assert finished.returncode == 0, err
    assert batch_requests() == [4]
    assert [line["ok"] for line in project.lines("out.jsonl")] == [True] * 4


def test_interrupting_keeps_what_was_sent(
    project: Project, spawn: Spawn, simulator: SimulatorThread, until: Until, batch_requests: Any
) -> None:
    project.agent("writer")
    project.items({"task": "Name a colour."})
    simulator.use_scenario(Scenario(name="patient", summary="a batch takes 3 s", batch_seconds=3.0))
    command = ("run", "map", "writer", "--items", "items.jsonl", "--out", "out.jsonl", "--batch")
    first = spawn(*command)
    until(batch_requests)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=30)
    assert first.returncode == 130
    second = spawn(*command)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert batch_requests() == [1]


@pytest.fixture
def api(simulator: SimulatorThread) -> Iterator[Any]:
    """Runs a test's coroutine with a connection to the simulator's batches."""

    def run(work: Any) -> Any:
        async def main() -> Any:
            api = BatchesApi(api_key=KEY, base_url=simulator.base_url, proxies=Proxies())
            try:
                return await work(api)
            finally:
                await api.aclose()

        return asyncio.run(main())

    return run


def items(project: Project, count: int) -> dict[str, Any]:
    """Requests by key, each as what makes its bytes."""
    from claude_force.orchestrator import AsyncAgentOrchestrator

    registry = AsyncAgentOrchestrator().registry
    made = {}
    for number, call in enumerate(calls(count)):
        request = call.to_request(registry, CallContext())
        key = f"{number:032x}"
        made[key] = lambda key=key, request=request: encode_item(key, request)
    return made


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0.01)


def test_a_note_whose_batch_was_accepted_is_taken_up_and_one_whose_was_not_is_sent(
    project: Project, api: Any, tmp_path: Path, batch_requests: Any
) -> None:
    """What a process leaves that dies between sending a batch and noting its id, or before sending it."""
    project.agent("writer")
    ledger = BatchLedger(tmp_path / "state")
    asked = items(project, 5)

    async def work(api: BatchesApi) -> list[str]:
        accepted = {key: asked[key] for key in list(asked)[:3]}
        ledger.intend("here", list(accepted), now=time.time())
        await api.create([make() for make in accepted.values()])
        ledger.intend("here", list(asked)[3:], now=time.time())
        run = BatchRun(api, ledger, origin="here", sleep=no_sleep)
        assert await run.submit(asked) == 2
        return [result.custom_id async for result in run.collect(asked) if result.response]

    assert sorted(api(work)) == sorted(asked)
    assert batch_requests() == [3, 2]
    assert ledger.pending("here") == []
    ledger.close()


def test_a_batch_that_was_collected_is_not_taken_for_one_that_was_lost_on_the_way(
    project: Project, api: Any, tmp_path: Path, batch_requests: Any
) -> None:
    project.agent("writer")
    ledger = BatchLedger(tmp_path / "state")
    asked = items(project, 4)
    first, second = dict(list(asked.items())[:2]), dict(list(asked.items())[2:])

    async def work(api: BatchesApi) -> list[str]:
        run = BatchRun(api, ledger, origin="here", sleep=no_sleep)
        await run.submit(first)
        assert len([result async for result in run.collect(first)]) == 2
        # As many requests, moments later, by a process that dies once they are accepted.
        ledger.intend("here", list(second), now=time.time())
        await api.create([make() for make in second.values()])
        assert await run.submit(second) == 0
        return [result.custom_id async for result in run.collect(second) if result.response]

    assert sorted(api(work)) == sorted(second)
    assert batch_requests() == [2, 2]
    ledger.close()


def test_a_batch_of_another_machine_that_was_taken_for_a_lost_one_is_found_out(
    project: Project, api: Any, tmp_path: Path, batch_requests: Any
) -> None:
    project.agent("writer")
    ledger = BatchLedger(tmp_path / "state")
    asked = items(project, 4)
    ours, theirs = dict(list(asked.items())[:2]), dict(list(asked.items())[2:])

    async def work(api: BatchesApi) -> list[str]:
        run = BatchRun(api, ledger, origin="here", sleep=no_sleep)
        ledger.intend("here", list(ours), now=time.time())
        await api.create([make() for make in theirs.values()])
        await asyncio.sleep(0.02)
        await api.create([make() for make in ours.values()])
        return [result.custom_id async for result in run.collect(ours) if result.response]

    assert sorted(api(work)) == sorted(ours)
    assert batch_requests() == [2, 2]
    ledger.close()


def test_a_batch_that_is_accepted_after_its_process_died_is_waited_for(
    project: Project, api: Any, tmp_path: Path, batch_requests: Any
) -> None:
    project.agent("writer")
    ledger = BatchLedger(tmp_path / "state")
    asked = items(project, 2)
    pauses: list[float] = []

    async def work(api: BatchesApi) -> int:
        async def it_arrives(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 1:
                await api.create([make() for make in asked.values()])

        run = BatchRun(api, ledger, origin="here", sleep=it_arrives)
        ledger.intend("here", list(asked), now=time.time())
        return await run.submit(asked)

    assert api(work) == 0
    assert (batch_requests(), len(pauses)) == ([2], 1)
    # Of one that is a day old there is nothing to wait for.
    ledger.collected("here", list(asked))
    ledger.intend("here", list(asked), now=time.time() - 86_400)

    async def later(api: BatchesApi) -> int:
        return await BatchRun(api, ledger, origin="here", sleep=None).submit(asked)  # type: ignore[arg-type] # never awaited

    assert api(later) == 2
    ledger.close()


def test_all_batches_since_a_time_are_listed_page_by_page(
    project: Project, api: Any, tmp_path: Path
) -> None:
    project.agent("writer")
    asked = list(items(project, 1).values())

    async def work(api: BatchesApi) -> tuple[list[str], list[str], list[str]]:
        made = [(await api.create([make() for make in asked])).batch_id for _ in range(5)]
        listed = await api.created_since(0.0, page_size=2)
        future = await api.created_since(time.time() + 60, page_size=2)
        return made, [one.batch_id for one in listed], [one.batch_id for one in future]

    made, listed, future = api(work)
    assert listed == made[::-1]
    assert future == []


def test_batches_keep_to_the_bounds_of_the_api(
    project: Project, api: Any, tmp_path: Path, batch_requests: Any
) -> None:
    project.agent("writer")
    ledger = BatchLedger(tmp_path / "state")
    asked = items(project, 5)
    size = len(next(iter(asked.values()))())

    async def work(api: BatchesApi) -> None:
        by_count = BatchRun(api, ledger, origin="count", max_requests=2, sleep=no_sleep)
        by_size = BatchRun(api, ledger, origin="size", max_bytes=3 * size + 10, sleep=no_sleep)
        for run in (by_count, by_size):
            await run.submit(asked)
            assert len([result async for result in run.collect(asked)]) == 5

    api(work)
    assert batch_requests() == [2, 2, 1, 3, 2]
    ledger.close()


def test_a_request_that_is_refused_within_its_batch_fails_alone_and_is_sent_anew_the_next_time(
    project: Project, api: Any, tmp_path: Path, batch_requests: Any
) -> None:
    project.agent("writer")
    ledger = BatchLedger(tmp_path / "state")
    asked = items(project, 2)
    bad = "f" * 32
    asked[bad] = lambda: b'{"custom_id":"%s","params":{"model":"none"}}' % bad.encode()

    async def work(api: BatchesApi) -> dict[str, str | None]:
        run = BatchRun(api, ledger, origin="here", sleep=no_sleep)
        await run.submit(asked)
        ended = {result.custom_id: result async for result in run.collect(asked)}
        assert await run.submit({bad: asked[bad]}) == 1
        return {key: result.error.kind if result.error else None for key, result in ended.items()}

    assert api(work) == {f"{0:032x}": None, f"{1:032x}": None, bad: "invalid_request"}
    assert batch_requests() == [3, 1]
    ledger.close()


def test_what_a_batch_did_not_reach_in_a_day_is_reported_and_unpaid(
    project: Project, tmp_path: Path
) -> None:
    project.agent("writer")
    now = [1_800_000_000.0]
    two_days = Scenario(name="overfull", summary="takes two days", batch_seconds=2 * 86_400.0)
    ledger = BatchLedger(tmp_path / "state")
    asked = items(project, 8)
    with SimulatorThread(scenario=two_days, wall_clock=lambda: now[0]) as simulator:

        async def main() -> list[Any]:
            api = BatchesApi(api_key=KEY, base_url=simulator.base_url, proxies=Proxies())

            async def a_day_passes(_: float) -> None:
                now[0] += 90_000

            run = BatchRun(
                api, ledger, origin="here", sleep=a_day_passes, wall_clock=lambda: now[0]
            )
            await run.submit(asked)
            results = [result async for result in run.collect(asked)]
            await api.aclose()
            return results

        results = asyncio.run(main())
    errors = [result.error for result in results if result.error is not None]
    assert (len(results), len(errors)) == (8, 4)
    assert all(
        isinstance(error, ServiceError) and "nothing was paid" in str(error) for error in errors
    )
    ledger.close()


def test_what_does_not_fit_a_budget_is_refused_whole_before_anything_is_sent(
    project: Project, make_blocking: MakeBlocking, batch_requests: Any
) -> None:
    project.agent("writer")
    with make_blocking(budget_usd="0.10") as force, pytest.raises(BudgetExceededError):
        list(force.run_batch(calls(100)))
    assert batch_requests() == []
    with make_blocking(budget_usd="10") as force:
        assert len(list(force.run_batch(calls(2)))) == 2


def test_what_a_batch_cannot_do_is_said_before_anything_is_sent(
    project: Project, make_blocking: MakeBlocking, cli: Cli, batch_requests: Any
) -> None:
    project.agent("writer")
    warm = AgentCall(agent_name="writer", task="Name a colour.", temperature=0.5)
    with make_blocking() as force, pytest.raises(InputError, match="temperature"):
        list(force.run_batch([*calls(1), warm]))
    with (
        make_blocking(client=ScriptedClient("blue")) as force,
        pytest.raises(ConfigError, match="client of your own"),
    ):
        list(force.run_batch(calls(1)))
    project.items({"task": "x"})
    refused = cli("run", "map", "writer", "--items", "items.jsonl", "--out", "o", "--no-wait")
    assert refused.code == 3
    assert "--batch" in refused.err
    assert batch_requests() == []
