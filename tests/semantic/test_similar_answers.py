"""What is answered from a similar task, what is not, and what such an answer says of itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.semantic.conftest import OTHER, QUESTION, SAME

from claude_force import (
    NO_CACHE,
    REFRESH_CACHE,
    AgentCall,
    Attachment,
    CacheUse,
    CallFinished,
    ConfigError,
    TextDelta,
)
from claude_force.agents.prompts import UpstreamText

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cli, MakeAsync, MakeBlocking, Project
    from tests.semantic.conftest import Ask, TaskFile

    from claude_force import AgentResult


def test_a_similar_task_gets_the_answer_and_says_whose_it_is(
    ask: Ask, paid: Callable[[], int]
) -> None:
    bought, found = ask(QUESTION), ask(SAME)
    assert paid() == 1
    assert found.text == bought.text
    assert found.cost_usd == 0
    assert found.attempts == 0
    hit = found.cached
    assert hit is not None
    assert hit.tier == "semantic"
    assert hit.saved_usd == bought.cost_usd
    assert hit.match is not None
    assert hit.match.task == QUESTION
    assert 0.97 < hit.match.similarity < 0.99


def test_an_equal_task_is_answered_by_the_exact_cache(ask: Ask) -> None:
    ask(QUESTION)
    again = ask(QUESTION).cached
    assert again is not None
    assert (again.tier, again.match) == ("disk", None)


def test_another_task_is_asked(ask: Ask, paid: Callable[[], int]) -> None:
    ask(QUESTION)
    assert ask(OTHER).cached is None
    assert paid() == 2


def test_what_was_found_by_similarity_is_stored_nowhere(ask: Ask, tasks: TaskFile) -> None:
    ask(QUESTION)
    for _ in range(2):
        hit = ask(SAME).cached
        assert hit is not None
        assert hit.tier == "semantic"
    assert tasks.count() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"model": "haiku"},
        {"max_tokens": 4000},
        {"effort": "low"},
        {"output_schema": {"type": "object"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_tasks_of_another_context_are_not_compared(
    ask: Ask, paid: Callable[[], int], change: dict[str, Any]
) -> None:
    ask(QUESTION)
    assert ask(SAME, **change).cached is None
    assert paid() == 2


def test_a_changed_definition_starts_anew(
    ask: Ask, project: Project, paid: Callable[[], int]
) -> None:
    ask(QUESTION)
    project.agent("alpha", "You are somebody else now.")
    assert ask(SAME).cached is None
    assert paid() == 2


def test_it_is_off_unless_asked_for(ask: Ask, tasks: TaskFile, paid: Callable[[], int]) -> None:
    for task in (QUESTION, SAME):
        assert ask(task, force={"semantic_cache": None}).cached is None
        assert ask(task, "beta").cached is None
    assert paid() == 4
    assert tasks.count() == 0


def test_the_project_switches_it_on_and_python_off(
    ask: Ask, project: Project, paid: Callable[[], int]
) -> None:
    project.config(cache={"semantic": {"agents": {"alpha": {}}}})
    ask(QUESTION, force={"semantic_cache": None})
    found = ask(SAME, force={"semantic_cache": None}).cached
    assert found is not None
    assert found.tier == "semantic"
    assert ask(SAME, force={"semantic_cache": {}}).cached is None
    assert paid() == 2


def test_a_threshold_keeps_apart_what_is_less_similar(ask: Ask, paid: Callable[[], int]) -> None:
    ask(QUESTION)
    assert ask(SAME, force={"semantic_cache": {"alpha": 0.99}}).cached is None
    assert paid() == 2


def test_files_and_answers_of_others_keep_a_call_out(ask: Ask, tasks: TaskFile) -> None:
    ask(QUESTION)
    assert ask(SAME, files=(Attachment("a.txt", "text"),)).cached is None
    assert ask(SAME, upstream=(UpstreamText("beta", "text"),)).cached is None
    assert tasks.count() == 1


def test_an_agent_with_tools_is_refused_before_anything_is_sent(
    ask: Ask, project: Project, paid: Callable[[], int]
) -> None:
    project.agent("alpha", tools="Read, Bash")
    with pytest.raises(ConfigError, match=r"'alpha', which has tools \(Read, Bash\)"):
        ask(QUESTION)
    assert paid() == 0


def test_excluded_agents_have_no_part(
    ask: Ask, project: Project, tasks: TaskFile, paid: Callable[[], int]
) -> None:
    project.config(cache={"exclude_agents": ["alpha"]})
    ask(QUESTION)
    assert ask(SAME).cached is None
    assert (paid(), tasks.count()) == (2, 0)


def test_no_cache_neither_looks_nor_remembers(
    ask: Ask, tasks: TaskFile, paid: Callable[[], int]
) -> None:
    ask(QUESTION, cache=NO_CACHE)
    assert tasks.count() == 0
    ask(QUESTION)
    assert ask(SAME, cache=NO_CACHE).cached is None
    assert ask(SAME, force={"enable_cache": False}).cached is None
    assert (paid(), tasks.count()) == (4, 1)


def test_refresh_asks_and_remembers(ask: Ask, tasks: TaskFile, paid: Callable[[], int]) -> None:
    ask(QUESTION)
    assert ask(SAME, cache=REFRESH_CACHE).cached is None
    assert (paid(), tasks.count()) == (2, 2)


def test_max_age_counts_from_the_answer(
    ask: Ask, later: Callable[[float], None], paid: Callable[[], int]
) -> None:
    ask(QUESTION)
    later(100)
    assert ask(SAME, cache=CacheUse(max_age_seconds=50)).cached is None
    assert paid() == 2
    hit = ask("How do I reset my password, please?", cache=CacheUse(max_age_seconds=200)).cached
    assert hit is not None
    assert hit.tier == "semantic"


def test_it_expires_with_the_answer(
    ask: Ask, later: Callable[[float], None], paid: Callable[[], int]
) -> None:
    ask(QUESTION, force={"cache_ttl_hours": 1})
    later(3599)
    hit = ask(SAME, force={"cache_ttl_hours": 1}).cached
    assert hit is not None
    assert 3598 < hit.age_seconds < 3660
    later(2)
    assert ask(SAME, force={"cache_ttl_hours": 1}).cached is None
    assert paid() == 2


def test_a_stale_answer_does_not_stand_for_a_similar_one(
    ask: Ask, project: Project, later: Callable[[float], None], paid: Callable[[], int]
) -> None:
    project.config(cache={"ttl_hours": 1, "stale_while_revalidate_seconds": 3600})
    ask(QUESTION)
    later(3700)
    assert ask(SAME).cached is None
    assert paid() == 2


def test_an_answer_that_made_room_is_asked_for_again(
    ask: Ask, cache_dir: Path, tasks: TaskFile, paid: Callable[[], int]
) -> None:
    ask(QUESTION)
    for file in cache_dir.glob("responses.db*"):
        file.unlink()
    assert ask(SAME).cached is None
    assert (paid(), tasks.count()) == (2, 2)


def test_a_long_task_is_not_compared(ask: Ask, tasks: TaskFile, paid: Callable[[], int]) -> None:
    story = "My dog ate my phone. " * 30
    ask(story + QUESTION)
    assert ask(story + SAME).cached is None
    assert (paid(), tasks.count()) == (2, 0)


def test_an_agent_of_the_same_definition_is_not_answered_by_another_ones_tasks(
    make_force: MakeAsync, project: Project, cache_dir: Path, paid: Callable[[], int]
) -> None:
    for name in ("alpha", "beta"):
        project.agent(name, "You answer.")

    async def main() -> list[AgentResult]:
        async with make_force(cache_dir=cache_dir, semantic_cache={"alpha": None}) as force:
            await force.run_agent("alpha", QUESTION)
            return list(
                await asyncio.gather(force.run_agent("alpha", SAME), force.run_agent("beta", SAME))
            )

    alpha, beta = asyncio.run(main())
    assert alpha.cached is not None
    assert alpha.cached.match is not None
    assert beta.cached is None
    assert paid() == 2


def test_the_events_tell_the_text_and_the_task_it_answers(
    make_force: MakeAsync, cache_dir: Path
) -> None:
    events: list[object] = []

    async def main() -> None:
        async with make_force(
            cache_dir=cache_dir, semantic_cache={"alpha": None}, listeners=(events.append,)
        ) as force:
            bought = await force.run_agent("alpha", QUESTION)
            events.clear()
            await force.run_agent("alpha", SAME)
            assert "".join(e.text for e in events if isinstance(e, TextDelta)) == bought.text

    asyncio.run(main())
    last = events[-1]
    assert isinstance(last, CallFinished)
    assert last.result.cached is not None
    assert last.result.cached.match is not None
    assert last.result.cached.match.task == QUESTION


def test_the_blocking_api_takes_the_same_arguments(
    make_blocking: MakeBlocking, cache_dir: Path, paid: Callable[[], int]
) -> None:
    with make_blocking(cache_dir=cache_dir, semantic_cache={"alpha": 0.9}) as force:
        force.run_agent("alpha", QUESTION)
        hit = force.run_agent("alpha", SAME).cached
    assert hit is not None
    assert hit.tier == "semantic"
    assert paid() == 1


def test_calls_under_way_at_once_each_get_one_answer(
    make_force: MakeAsync, cache_dir: Path
) -> None:
    questions = [f"What is the price of item {number}?" for number in range(20)]

    async def main() -> None:
        async with make_force(cache_dir=cache_dir, semantic_cache={"alpha": None}) as force:
            calls = [AgentCall(agent_name="alpha", task=task) for task in questions]
            bought = [outcome async for outcome in force.run_many(calls)]
            assert all(o.result is not None and o.result.cached is None for o in bought)
            asked = [task.replace("What is", "What's") for task in questions]
            found = [o async for o in force.run_many([("alpha", task) for task in asked])]
            for outcome in found:
                assert outcome.result is not None
                assert outcome.result.cached is not None
                assert outcome.result.cached.match is not None
                assert outcome.result.cached.match.task == questions[outcome.index]

    asyncio.run(main())


def test_metrics_count_it_as_a_hit_of_its_own_kind(cli: Cli, project: Project) -> None:
    project.config(cache={"semantic": {"agents": {"alpha": {}}}})
    for task in (QUESTION, SAME):
        assert cli("run", "agent", "alpha", "--task", task).code == 0
    shown = cli("metrics", "export", "--format", "json")
    tiers = [row.get("cached_tier") for row in shown.json_lines]
    assert sorted(tiers, key=str) == [None, "semantic"]


def test_a_call_that_remembers_something_has_no_part(ask: Ask, paid: Callable[[], int]) -> None:
    ask(QUESTION, use_memory=True)
    assert ask(SAME, use_memory=True).cached is None
    assert paid() == 2


def test_a_step_of_a_workflow_is_answered_and_says_so(cli: Cli, project: Project) -> None:
    project.config(
        cache={"semantic": {"agents": {"alpha": {}}}},
        workflows={"ask": {"steps": [{"id": "only", "agent": "alpha"}]}},
    )
    assert cli("run", "workflow", "ask", "--task", QUESTION).code == 0
    shown = cli("run", "workflow", "ask", "--task", SAME)
    assert f'from the cache (semantic: 0.984 like "{QUESTION}", ' in shown.err


def test_a_batch_asks_what_is_only_similar(
    make_force: MakeAsync, cache_dir: Path, paid: Callable[[], int]
) -> None:
    async def main() -> AgentResult | None:
        async with make_force(cache_dir=cache_dir, semantic_cache={"alpha": None}) as force:
            await force.run_agent("alpha", QUESTION)
            async for outcome in force.run_batch([("alpha", SAME)]):
                return outcome.result
        return None

    result = asyncio.run(main())
    assert result is not None
    assert result.cached is None


def test_equal_calls_at_once_share_what_is_found(
    make_force: MakeAsync, cache_dir: Path, paid: Callable[[], int]
) -> None:
    async def main() -> list[AgentResult]:
        async with make_force(cache_dir=cache_dir, semantic_cache={"alpha": None}) as force:
            await force.run_agent("alpha", QUESTION)
            return list(await asyncio.gather(*(force.run_agent("alpha", SAME) for _ in range(10))))

    for result in asyncio.run(main()):
        assert result.cached is not None
        assert result.cached.match is not None
        assert result.cached.match.task == QUESTION
    assert paid() == 1


def test_a_resumed_run_still_says_whose_answer_it_was(
    make_force: MakeAsync, project: Project
) -> None:
    project.config(
        cache={"semantic": {"agents": {"alpha": {}}}},
        workflows={"ask": {"steps": [{"id": "only", "agent": "alpha"}]}},
    )

    async def main() -> AgentResult | None:
        async with make_force() as force:
            await force.execute_workflow("ask", QUESTION)
            run = await force.execute_workflow("ask", SAME)
            again = await force.resume_workflow(run.run_id)
            return again.steps["only"].result

    result = asyncio.run(main())
    assert result is not None
    assert result.cached is not None
    assert result.cached.tier == "journal"
    assert result.cached.match is not None
    assert result.cached.match.task == QUESTION
