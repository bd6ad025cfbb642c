"""Filling the cache ahead of time, and pinning runs, through every door."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import AgentCall, ConfigError, InputError
from claude_force.domain.messages import NO_CACHE
from claude_force.testing import ScriptedClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.caching.conftest import AnswerFile
    from tests.conftest import Cli, MakeAsync, MakeBlocking, Project

    from claude_force.simulator import SimulatorThread

    Paid = Callable[[], int]
    Later = Callable[[float], None]

HOUR = 3600.0
TASKS = ("Name a colour.", "Name a fruit.", "Name a river.")


@pytest.fixture
def with_key(monkeypatch: pytest.MonkeyPatch, simulator: SimulatorThread) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-the-tests")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)


@pytest.fixture
def items(project: Project) -> str:
    lines = [{"task": task} for task in TASKS]
    project.items(*lines, {"task": TASKS[0], "id": "again"}, name="warm.jsonl")
    return "warm.jsonl"


# ---- warming


@pytest.mark.usefixtures("with_key")
def test_command_fills_the_cache_and_says_what_was_there(
    cli: Cli, items: str, project: Project, paid: Paid, user_answers: AnswerFile
) -> None:
    assert cli("run", "agent", "alpha", "--task", TASKS[1]).code == 0
    first = cli("cache", "warm", items, "--agent", "alpha", "--json")
    assert first.code == 0
    assert Decimal(first.json.pop("cost_usd")) > 0
    assert first.json == {
        "items": 4,
        "repeated": 1,
        "present": 1,
        "fetched": 2,
        "unkept": 0,
        "waiting": 0,
        "cost_usd": first.json["cost_usd"],
        "failures": [],
    }
    assert (paid(), user_answers.count()) == (3, 3)
    again = cli("cache", "warm", items, "--agent", "alpha")
    assert again.out == (
        "warm.jsonl: 3 answers: 3 were in the cache, 0 are now. $0. Lines that ask what another one asks: 1.\n"
    )
    project.items(*({"task": task} for task in TASKS), name="mapped.jsonl")
    mapped = cli("run", "map", "alpha", "--items", "mapped.jsonl", "--json")
    assert [one["cached"]["tier"] for one in mapped.json_lines] == ["disk"] * 3
    assert paid() == 3


@pytest.mark.usefixtures("with_key")
def test_batch_fills_the_cache_at_half_the_price(cli: Cli, items: str, paid: Paid) -> None:
    live = cli("cache", "warm", items, "--agent", "alpha", "--json").json
    assert cli("cache", "clear").code == 0
    before = paid()
    sent = cli("cache", "warm", items, "--agent", "alpha", "--batch", "--no-wait", "--json")
    assert (sent.json["waiting"], sent.json["fetched"], sent.code) == (3, 0, 0)
    batched = cli("cache", "warm", items, "--agent", "alpha", "--batch", "--json").json
    assert (batched["waiting"], batched["fetched"]) == (0, 3)
    assert Decimal(batched["cost_usd"]) * 2 == Decimal(live["cost_usd"])
    again = cli("cache", "warm", items, "--agent", "alpha", "--json").json
    assert (again["present"], again["cost_usd"]) == (3, "0")
    # Nothing went out but the batch.
    assert paid() == before


@pytest.mark.usefixtures("with_key")
def test_what_cannot_be_sent_is_said_before_anything_is(
    cli: Cli, items: str, project: Project, paid: Paid
) -> None:
    unnamed = cli("cache", "warm", items)
    assert unnamed.code == 3
    assert "line 2: it names no agent, and neither does --agent" in unnamed.err
    unknown = cli("cache", "warm", items, "--agent", "nobody")
    assert (unknown.code, "nobody" in unknown.err) == (3, True)
    assert "--no-cache leaves nothing to be filled" in (
        cli("cache", "warm", items, "--agent", "alpha", "--no-cache").err
    )
    assert "--no-wait is for --batch" in (
        cli("cache", "warm", items, "--agent", "alpha", "--no-wait").err
    )
    project.config(cache={"exclude_agents": ["alpha"]})
    excluded = cli("cache", "warm", items, "--agent", "alpha")
    assert excluded.code == 3
    assert "Answers of the agent 'alpha' are never kept (cache.exclude_agents)" in excluded.err
    project.config(cache={"enabled": False})
    assert "The response cache is off" in cli("cache", "warm", items, "--agent", "alpha").err
    assert paid() == 0


@pytest.mark.usefixtures("with_key")
def test_budget_holds_and_what_fits_is_kept(cli: Cli, items: str, paid: Paid) -> None:
    # The worst case of one call at 500 tokens is half a cent, and a bit for the prompt.
    told = cli(
        *("cache", "warm", items, "--agent", "alpha", "--json"),
        *("--budget", "0.0075", "--max-tokens", "500", "--max-concurrent", "1"),
    )
    assert told.code == 7
    kept, failures = told.json["fetched"], told.json["failures"]
    assert (kept >= 1, kept + len(failures), paid()) == (True, 3, kept)
    assert {one["error"]["kind"] for one in failures} == {"budget_exceeded"}
    assert Decimal(told.json["cost_usd"]) <= Decimal("0.0075")


def test_python_fills_the_cache_and_counts_equal_calls_once(
    make_force: MakeAsync, paid: Paid
) -> None:
    async def main() -> None:
        async with make_force() as force:
            calls: list[AgentCall | tuple[str, str]] = [
                ("alpha", TASKS[0]),
                AgentCall(agent_name="alpha", task=TASKS[0], cache=NO_CACHE),
                ("beta", TASKS[0]),
            ]
            ended: list[str] = []
            report = await force.warm_cache(
                calls, on_outcome=lambda outcome: ended.append(outcome.agent_name)
            )
            assert sorted(ended) == ["alpha", "beta"]
            assert (report.items, report.repeated, report.present, report.fetched) == (3, 1, 0, 2)
            assert report.ok
            assert report.cost_usd
            result = await force.run_agent("alpha", TASKS[0])
            assert result.cached is not None
        assert paid() == 2

    asyncio.run(main())


def test_answers_of_a_fallback_are_told_apart_from_those_that_are_kept(
    project: Project, make_blocking: MakeBlocking
) -> None:
    from claude_force.domain.errors import InvalidRequestError

    client = ScriptedClient([InvalidRequestError("gone", status=404), "an answer"])
    with make_blocking(client=client, cache_origin="script", cache_dir=project.home / "c") as force:
        report = force.warm_cache(
            [AgentCall(agent_name="alpha", task="Go.", fallback=("claude-haiku-5-5",))]
        )
    assert (report.fetched, report.unkept, report.ok) == (0, 1, False)


def test_warming_needs_a_cache(make_blocking: MakeBlocking) -> None:
    with (
        make_blocking(enable_cache=False) as force,
        pytest.raises(ConfigError, match="The response cache is off"),
    ):
        force.warm_cache([("alpha", "Go.")])


# ---- pinning


WORKFLOW = {
    "steps": [
        {"id": "one", "agent": "alpha", "task": "Begin."},
        {"id": "two", "agent": "beta", "task": "End.", "dependencies": ["one"]},
    ]
}


@pytest.mark.usefixtures("with_key")
def test_pinned_run_is_free_after_the_lifetime_and_after_unpinning_it_is_not(
    cli: Cli, project: Project, paid: Paid, later: Later
) -> None:
    project.write(".claude/workflows/pair.json", json.dumps(WORKFLOW))
    assert cli("run", "workflow", "pair", "--task", "Look").code == 0
    assert cli("run", "agent", "gamma", "--task", "Look").code == 0
    assert paid() == 3
    shown = cli("cache", "pin", "last", "--json")
    assert shown.code == 0
    assert (shown.json["pinned"], shown.json["missing"]) == (2, 0)
    run_id = shown.json["run"]
    (told,) = cli("cache", "pins", "--json").json
    assert (told["run"], told["answers"]) == (run_id, 2)
    assert cli("cache", "pins").out.startswith(f"{run_id}  2 answers, 0.00 MB, since ")

    later(48 * HOUR)
    assert cli("run", "workflow", "pair", "--task", "Look").code == 0
    assert paid() == 3
    assert cli("run", "agent", "gamma", "--task", "Look").code == 0
    assert paid() == 4
    assert cli("cache", "verify").code == 0

    assert cli("cache", "unpin", run_id[:6]).out == f"{run_id}: 2 answers let go.\n"
    assert cli("cache", "pins", "--json").json == []
    assert cli("run", "workflow", "pair", "--task", "Look").code == 0
    assert paid() == 6


@pytest.mark.usefixtures("with_key")
def test_pins_that_make_no_sense_are_refused_with_the_reason(cli: Cli, project: Project) -> None:
    assert "No run is on record yet" in cli("cache", "pin", "last").err
    project.write(".claude/workflows/pair.json", json.dumps(WORKFLOW))
    assert cli("run", "workflow", "pair", "--task", "Look", "--no-cache").code == 0
    nothing = cli("cache", "pin", "last")
    assert nothing.code == 3
    assert "None of the 2 answers of run" in nothing.err
    unknown = cli("cache", "unpin", "f00")
    assert unknown.code == 3
    assert "No pinned run begins with 'f00'" in unknown.err
    project.config(cache={"max_pinned_share": 0})
    assert cli("run", "workflow", "pair", "--task", "Look").code == 0
    full = cli("cache", "pin", "last")
    assert full.code == 3
    assert "raise cache.max_size_mb or cache.max_pinned_share" in full.err


@pytest.mark.parametrize("base_url", ["{}", "{}/", "{}/v1"])
def test_python_pins_a_run_at_once_however_the_address_is_written(
    project: Project, make_force: MakeAsync, simulator: SimulatorThread, base_url: str
) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"base_url": base_url.format(simulator.base_url)}
        async with make_force(**options) as force:
            run = await force.execute_workflow(WORKFLOW, "Look")
            # Its answers may still wait to be written.
            report = await force.pin_run(run.run_id)
            assert (report.pinned, report.missing) == (2, 0)
            assert [one.run_id for one in await force.pinned_runs()] == [run.run_id]
            assert await force.unpin_run(run.run_id) == 2
            assert await force.pinned_runs() == ()
            with pytest.raises(InputError, match="No pinned run begins"):
                await force.unpin_run(run.run_id)

    asyncio.run(main())


def test_blocking_twin_pins_too(make_blocking: MakeBlocking) -> None:
    with make_blocking() as force:
        run = force.execute_workflow(WORKFLOW, "Look")
        assert force.pin_run("last").run_id == run.run_id
        assert len(force.pinned_runs()) == 1
        assert force.unpin_run(run.run_id[:5]) == 2
