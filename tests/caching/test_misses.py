"""Whatever changes the question is a miss; whatever does not is a hit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import (
    AgentNotFoundError,
    Attachment,
    ResponseCache,
    WorkflowResult,
)
from claude_force.agents.prompts import UpstreamText
from claude_force.simulator import SimulatorThread
from claude_force.testing import ScriptedClient

if TYPE_CHECKING:
    from pathlib import Path

    from tests.caching.conftest import Ask
    from tests.conftest import Cli, MakeAsync, MakeBlocking, Project

Paid = Callable[[], int]

OBJECT = {"type": "object", "properties": {}, "additionalProperties": False}
NAMED = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"model": "opus"}),
        ({"model": "haiku"}, {"model": "claude-haiku-4-5"}),
        ({}, {"max_tokens": 4095}),
        ({}, {"effort": "low"}),
        ({"effort": "low"}, {"effort": "high"}),
        ({}, {"output_schema": OBJECT}),
        ({"output_schema": OBJECT}, {"output_schema": NAMED}),
        ({}, {"files": (Attachment("a.py", "x"),)}),
        ({"files": (Attachment("a.py", "x"),)}, {"files": (Attachment("a.py", "y"),)}),
        ({"files": (Attachment("a.py", "x"),)}, {"files": (Attachment("b.py", "x"),)}),
        (
            {"files": (Attachment("a", "x"), Attachment("b", "y"))},
            {"files": (Attachment("b", "y"), Attachment("a", "x"))},
        ),
        ({}, {"upstream": (UpstreamText("beta", "Fine."),)}),
        (
            {"upstream": (UpstreamText("beta", "Fine."),)},
            {"upstream": (UpstreamText("beta", "Bad."),)},
        ),
        (
            {"upstream": (UpstreamText("beta", "Fine."),)},
            {"upstream": (UpstreamText("gamma", "Fine."),)},
        ),
        ({"upstream": (UpstreamText("a", "x"),)}, {"files": (Attachment("a", "x"),)}),
        # A temperature also pins the version of the API.
        ({"model": "claude-haiku-4-5"}, {"model": "claude-haiku-4-5", "temperature": 0.5}),
        (
            {"model": "claude-haiku-4-5", "temperature": 0.5},
            {"model": "claude-haiku-4-5", "temperature": 0.25},
        ),
        ({"task": "Look"}, {"task": "look"}),
        ({"task": "Look\nthere"}, {"task": "Look there"}),
    ],
)
def test_a_changed_call_is_a_miss_and_both_answers_are_kept(
    ask: Ask, paid: Paid, before: dict[str, Any], after: dict[str, Any]
) -> None:
    first = ask(**before)
    second = ask(**after)
    assert first.cached is None
    assert second.cached is None
    assert paid() == 2
    assert ask(**before).text == first.text
    assert ask(**after).text == second.text
    assert paid() == 2


def test_what_does_not_reach_the_model_is_no_change(ask: Ask, paid: Paid) -> None:
    ask()
    assert ask(timeout_seconds=17.0, item_id="seven").cached is not None
    assert ask(model="sonnet").cached is not None
    assert ask(model="claude-sonnet-5-5").cached is not None
    assert ask(force={"max_concurrent": 1, "max_retries": 0}).cached is not None
    assert paid() == 1


def test_a_changed_definition_is_a_miss_also_while_the_program_runs(
    make_force: MakeAsync, project: Project, cache_dir: Path, paid: Paid
) -> None:
    async def main() -> list[str | None]:
        tiers: list[str | None] = []
        async with make_force(cache_dir=cache_dir) as force:
            for prompt in (None, None, "You are strict.", "You are strict.", None):
                if prompt:
                    project.agent("alpha", prompt)
                result = await force.run_agent("alpha", "Look at this")
                tiers.append(result.cached.tier if result.cached else None)
            project.agent("alpha")
            result = await force.run_agent("alpha", "Look at this")
            tiers.append(result.cached.tier if result.cached else None)
        return tiers

    assert asyncio.run(main()) == [None, "memory", None, "memory", "memory", "memory"]
    assert paid() == 2


@pytest.mark.parametrize("keys", [{"model": "opus"}, {"effort": "high"}])
def test_settings_of_the_definition_count(
    ask: Ask, project: Project, paid: Paid, keys: dict[str, str]
) -> None:
    ask()
    project.agent("alpha", **keys)
    assert ask().cached is None
    assert paid() == 2


def test_an_agent_that_was_removed_fails_and_is_not_served(
    make_force: MakeAsync, make_blocking: MakeBlocking, project: Project, cache_dir: Path, cli: Cli
) -> None:
    assert cli("run", "agent", "alpha", "--task", "Look at this").code == 0
    with make_blocking(cache_dir=cache_dir) as blocking:
        assert blocking.run_agent("alpha", "Look at this").ok
        assert blocking.run_agent("alpha", "Look at this").cached is not None
        (project.root / ".claude/agents/alpha.md").unlink()
        with pytest.raises(AgentNotFoundError, match="Agent 'alpha' not found"):
            blocking.run_agent("alpha", "Look at this")

    async def main() -> None:
        async with make_force(cache_dir=cache_dir) as force:
            await force.run_agent("alpha", "Look at this")

    with pytest.raises(AgentNotFoundError, match="Agent 'alpha' not found"):
        asyncio.run(main())
    gone = cli("run", "agent", "alpha", "--task", "Look at this")
    assert gone.code == 3
    assert gone.out == ""
    assert "Agent 'alpha' not found" in gone.err


def test_a_changed_file_is_a_miss_at_the_command_line(
    cli: Cli, project: Project, paid: Paid
) -> None:
    project.write("src/app.py", "print(1)\n")
    command = ("run", "agent", "alpha", "--task", "Look", "--file", "src/app.py")
    assert cli(*command).code == 0
    assert "from the cache" in cli(*command).err
    project.write("src/app.py", "print(2)\n")
    changed = cli(*command)
    assert "from the cache" not in changed.err
    assert paid() == 2
    assert cli("run", "agent", "alpha", "-", "--task", "Look", stdin=b"one").code == 0
    assert cli("run", "agent", "alpha", "-", "--task", "Look", stdin=b"two").code == 0
    assert paid() == 4
    assert "from the cache" in cli("run", "agent", "alpha", "-", "--task", "Look", stdin=b"two").err


def test_a_changed_answer_upstream_is_a_miss_downstream(
    make_force: MakeAsync, project: Project, cache_dir: Path, paid: Paid
) -> None:
    async def run() -> WorkflowResult:
        async with make_force(cache_dir=cache_dir) as force:
            return await force.execute_workflow(["alpha", "beta"], "Look at this")

    first = asyncio.run(run())
    assert first.ok
    assert paid() == 2
    again = asyncio.run(run())
    assert again.results == first.results
    assert again.cost_usd == 0
    assert paid() == 2
    project.agent("alpha", "You are strict.")
    changed = asyncio.run(run())
    assert changed.results != first.results
    assert paid() == 4
    # Downstream of the same answer: only the last agent is asked again.
    project.agent("beta", "You are kind.")
    asyncio.run(run())
    assert paid() == 5


def test_another_address_is_another_provider(
    ask: Ask, simulator: SimulatorThread, paid: Paid
) -> None:
    ask()
    with SimulatorThread() as other:
        assert ask(force={"base_url": other.base_url}).cached is None
        assert ask(force={"base_url": other.base_url}).cached is not None
        assert other.stats.requests == 1
    assert ask().cached is not None
    assert paid() == 1


def test_an_origin_that_is_named_goes_before_the_address(
    ask: Ask, simulator: SimulatorThread
) -> None:
    ask(force={"cache_origin": "our gateway"})
    with SimulatorThread() as other:
        named = {"base_url": other.base_url, "cache_origin": "our gateway"}
        assert ask(force=named).cached is not None
        assert other.stats.requests == 0
    assert ask().cached is None
    assert simulator.stats.requests == 2


def test_a_client_without_an_origin_is_cached_only_under_a_name(
    make_force: MakeAsync, cache_dir: Path
) -> None:
    client = ScriptedClient(["one", "two", "three"])

    async def main(**options: Any) -> list[str]:
        async with make_force(cache_dir=cache_dir, client=client, **options) as force:
            return [await force.execute_agent("alpha", "Look at this") for _ in range(2)]

    assert asyncio.run(main()) == ["one", "two"]
    assert not cache_dir.exists()
    assert asyncio.run(main(cache_origin="script")) == ["three", "three"]
    assert asyncio.run(main(cache_origin="script")) == ["three", "three"]
    assert len(client.requests) == 3
    assert asyncio.run(main(cache_origin="another script")) == ["scripted answer"] * 2


@pytest.mark.parametrize("separator", [":", "::", "/", "|", "\n", "\x00", "\x1f", " ", ","])
def test_agent_and_task_never_run_into_each_other(tmp_path: Path, separator: str) -> None:
    parts = ["a", "b", "c", "d"]
    questions = {
        tuple(separator.join(part) for part in (parts[:i], parts[i:j], parts[j:]))
        for i in range(5)
        for j in range(i, 5)
    }
    with ResponseCache(tmp_path) as cache:
        for number, (agent, task, model) in enumerate(sorted(questions)):
            assert cache.get(agent, task, model) is None
            cache.set(agent, task, model, f"answer {number}", 1, 1, 0.0)
    with ResponseCache(tmp_path) as fresh:
        for number, (agent, task, model) in enumerate(sorted(questions)):
            found = fresh.get(agent, task, model)
            assert found is not None
            assert found["response"] == f"answer {number}"


def test_the_context_of_a_question_is_part_of_it(tmp_path: Path) -> None:
    contexts: list[dict[str, object]] = [
        {},
        {"files": ["a", "b"]},
        {"files": ["ab"]},
        {"files": "ab"},
        {"temperature": 1},
        {"temperature": 1.5},
        {"temperature": True},
        {"temperature": None},
        {"a": "b", "c": "d"},
        {"a": "bc", "d": ""},
    ]
    for make_fresh in (False, True):
        with ResponseCache(tmp_path / str(make_fresh)) as cache:
            for number, context in enumerate(contexts):
                assert cache.get("a", "t", "m", **context) is None
                cache.set("a", "t", "m", f"answer {number}", 1, 1, 0.0, **context)
            reader = ResponseCache(tmp_path / str(make_fresh)) if make_fresh else cache
            for number, context in enumerate(contexts):
                found = reader.get("a", "t", "m", **dict(reversed(context.items())))
                assert found is not None
                assert found["response"] == f"answer {number}"
            reader.close()


def test_equal_prompts_of_two_agents_are_one_question(
    ask: Ask, project: Project, paid: Paid
) -> None:
    for name in ("twin", "other"):
        project.agent(name, "You are a twin.")
    first, second = ask("twin"), ask("other")
    assert second.cached is not None
    assert (first.agent_name, second.agent_name) == ("twin", "other")
    assert paid() == 1


def test_every_answer_of_a_long_series_belongs_to_its_question(
    make_force: MakeAsync, cache_dir: Path, paid: Paid
) -> None:
    tasks = [f"Look at number {number}" for number in range(60)]

    async def main() -> list[str]:
        async with make_force(cache_dir=cache_dir) as force:
            return await force.execute_multiple([("alpha", task) for task in tasks])

    first, second = asyncio.run(main()), asyncio.run(main())
    assert first == second
    assert all(f"> {task}\n" in text for task, text in zip(tasks, first, strict=True))
    assert all(one != other for one, other in pairwise(first))
    assert paid() == 60
