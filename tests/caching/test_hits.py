"""What a hit looks like: free, marked, told, and printed once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import (
    NO_CACHE,
    REFRESH_CACHE,
    USE_CACHE,
    AgentCall,
    AgentResult,
    CacheUse,
    CallFinished,
    CallStarted,
    Event,
    ResponseCache,
    TextDelta,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.caching.conftest import AnswerFile, Door
    from tests.conftest import Cli, MakeAsync, MakeBlocking, Process, Project

Paid = Callable[[], int]
RUN = ("run", "agent", "alpha", "--task", "Look at this")


def test_the_second_answer_is_free_and_says_where_it_came_from(
    make_force: MakeAsync, cache_dir: Path, paid: Paid
) -> None:
    async def main() -> list[AgentResult]:
        async with make_force(cache_dir=cache_dir) as force:
            return [await force.run_agent("alpha", "Look at this") for _ in range(3)]

    bought, hit, again = asyncio.run(main())
    assert bought.cached is None
    assert bought.cost_usd is not None
    assert bought.cost_usd > 0
    for result in (hit, again):
        assert result.ok
        assert result.cached is not None
        assert result.cached.tier == "memory"
        assert result.cached.stale is False
        assert 0 <= result.cached.age_seconds < 60
        assert result.cached.saved_usd == bought.cost_usd
        assert result.cost_usd == Decimal(0)
        assert result.attempts == 0
        assert result.lost_usages == ()
        # What it took when it was paid for.
        assert result.usage == bought.usage
        assert result.text == bought.text
        assert result.stop_reason == "end_turn"
        assert result.model == bought.model
        assert result.requested_model == bought.requested_model
        assert result.request_id == bought.request_id
    assert paid() == 1


def test_a_fresh_start_finds_it_on_disk_through_every_door(
    door: Door, paid: Paid, user_answers: AnswerFile
) -> None:
    bought, hit = door(), door()
    assert bought.tier is None
    assert hit.tier == "disk"
    assert hit.text == bought.text
    assert hit.saved_usd is not None
    assert Decimal(hit.saved_usd) > 0
    assert paid() == 1
    assert user_answers.count() == 1


def test_the_age_is_that_of_the_answer(
    door: Door, later: Callable[[float], None], paid: Paid
) -> None:
    door()
    later(3 * 3600)
    hit = door()
    assert hit.age_seconds is not None
    assert 3 * 3600 <= hit.age_seconds < 3 * 3600 + 60
    assert hit.stale is False
    assert paid() == 1


def test_a_hit_streams_its_text_once(make_force: MakeAsync, cache_dir: Path, paid: Paid) -> None:
    async def main() -> list[list[Event]]:
        streams = []
        for _ in range(2):
            async with make_force(cache_dir=cache_dir) as force:
                streams += [
                    [event async for event in force.stream_agent("alpha", "Look at this")]
                    for _ in range(2)
                ]
        return streams

    bought, *hits = asyncio.run(main())
    assert paid() == 1
    text = "".join(event.text for event in bought if isinstance(event, TextDelta))
    for events, tier in zip(hits, ("memory", "disk", "memory"), strict=True):
        assert [type(event) for event in events] == [CallStarted, TextDelta, CallFinished]
        started, delta, finished = events
        assert isinstance(started, CallStarted)
        assert isinstance(delta, TextDelta)
        assert isinstance(finished, CallFinished)
        assert delta.text == text == finished.result.text
        assert started.call_id == delta.call_id == finished.call_id
        assert finished.result.cached is not None
        assert finished.result.cached.tier == tier


def test_the_command_prints_a_hit_once_and_says_so_on_stderr(
    process: Process, cli: Cli, paid: Paid
) -> None:
    bought, hit, whole = process(*RUN), process(*RUN), cli(*RUN, "--no-stream")
    assert (bought.code, hit.code, whole.code) == (0, 0, 0)
    assert "from the cache" not in bought.err
    assert "$0.0" in bought.err
    for run in (hit, whole):
        assert run.out == bought.out
        assert run.err.count("\n") == 1
        assert run.err.startswith("alpha · claude-sonnet-5-5 · from the cache (disk, ")
        assert " old), saved $0.0" in run.err
        assert run.err.endswith(" ms\n")
    assert paid() == 1


def test_json_of_a_hit_has_it_in_fields(cli: Cli, paid: Paid) -> None:
    bought, hit = cli(*RUN, "--json").json, cli(*RUN, "--json").json
    assert bought["cached"] is None
    assert hit["cached"]["tier"] == "disk"
    assert hit["cached"]["stale"] is False
    assert 0 <= hit["cached"]["age_seconds"] < 60
    assert hit["cached"]["saved_usd"] == bought["cost_usd"]
    assert hit["cost_usd"] == "0"
    assert hit["text"] == bought["text"]
    assert paid() == 1


def test_a_workflow_and_a_map_are_answered_from_the_cache_and_say_so(
    cli: Cli, project: Project, paid: Paid
) -> None:
    project.config(workflows={"both": ["alpha", "beta"]})
    workflow = ("run", "workflow", "both", "--task", "Look at this")
    first, second = cli(*workflow), cli(*workflow)
    assert second.code == 0
    assert second.out == first.out
    assert second.err.count("from the cache (disk, ") == 2
    assert paid() == 2
    assert cli(*workflow, "--no-cache").code == 0
    assert paid() == 4
    assert cli(*workflow, "--refresh").code == 0
    assert paid() == 6
    project.items({"id": "a", "task": "One"}, {"id": "b", "task": "Two"})
    for number, more in enumerate([(), (), ("--no-cache",), ("--refresh",)]):
        out = f"results-{number}.jsonl"
        run = cli("run", "map", "gamma", "--items", "items.jsonl", "--out", out, *more)
        assert run.code == 0, run.err
    assert paid() == 6 + 2 + 0 + 2 + 2
    lines = project.lines("results-1.jsonl")
    assert [line["cached"]["tier"] for line in lines] == ["disk", "disk"]


# ---- what one call may ask of the cache


def test_no_cache_neither_reads_nor_writes(cli: Cli, paid: Paid, user_answers: AnswerFile) -> None:
    assert "from the cache" not in cli(*RUN, "--no-cache").err
    assert not user_answers.folder.exists()
    cli(*RUN)
    (record,) = user_answers.records()
    assert "from the cache" not in cli(*RUN, "--no-cache").err
    assert user_answers.records() == [record]
    assert paid() == 3


def test_refresh_asks_again_and_stores_what_comes_back(
    cli: Cli, paid: Paid, user_answers: AnswerFile, later: Callable[[float], None]
) -> None:
    cli(*RUN)
    (record,) = user_answers.records()
    later(7200)
    assert "from the cache" not in cli(*RUN, "--refresh").err
    assert paid() == 2
    (refreshed,) = user_answers.records()
    assert refreshed != record
    later(60)
    assert "(disk, 1 min old)" in cli(*RUN).err
    assert paid() == 2


def test_max_age_serves_nothing_older(cli: Cli, paid: Paid, later: Callable[[float], None]) -> None:
    cli(*RUN)
    later(1800)
    assert "from the cache (disk, 30 min old)" in cli(*RUN, "--max-age", "1h").err
    assert paid() == 1
    assert "from the cache" not in cli(*RUN, "--max-age", "29m").err
    assert paid() == 2
    # What was asked for replaces what was too old.
    assert "from the cache (disk, 0 s old)" in cli(*RUN, "--max-age", "29m").err
    assert "from the cache" not in cli(*RUN, "--max-age", "0s").err
    assert paid() == 3


def test_max_age_that_is_no_duration_is_a_wrong_command_line(cli: Cli, paid: Paid) -> None:
    run = cli(*RUN, "--max-age", "soon")
    assert run.code == 2
    assert "'soon' is no duration; write something like 90s" in run.err
    assert paid() == 0


@pytest.mark.parametrize(
    ("use", "second_is_paid", "third_is_hit"),
    [
        (USE_CACHE, False, True),
        (REFRESH_CACHE, True, True),
        (NO_CACHE, True, True),
        (CacheUse(max_age_seconds=0), True, True),
        (CacheUse(max_age_seconds=3600), False, True),
        (CacheUse(read=True, write=False), True, True),
    ],
)
def test_one_call_decides_for_itself_in_python(  # noqa: PLR0917 - filled in by name
    make_force: MakeAsync,
    make_blocking: MakeBlocking,
    cache_dir: Path,
    paid: Paid,
    use: CacheUse,
    second_is_paid: bool,
    third_is_hit: bool,
) -> None:
    async def main() -> None:
        async with make_force(cache_dir=cache_dir) as force:
            await force.run_agent("alpha", "Look at this")
            (outcome,) = [
                outcome
                async for outcome in force.run_many(
                    [AgentCall(agent_name="alpha", task="Look at this", cache=use)]
                )
            ]
            assert outcome.result is not None
            assert (outcome.result.cached is None) is second_is_paid
            third = await force.run_agent("alpha", "Look at this")
            assert (third.cached is not None) is third_is_hit

    asyncio.run(main())
    before = paid()
    assert before == 1 + second_is_paid
    with make_blocking(cache_dir=cache_dir) as force:
        assert (
            force.run_agent("alpha", "Look at this", cache=use).cached is None
        ) is second_is_paid
    assert paid() == before + second_is_paid


def test_a_workflow_takes_what_its_caller_wants_of_the_cache(
    make_blocking: MakeBlocking, cache_dir: Path, paid: Paid
) -> None:
    with make_blocking(cache_dir=cache_dir) as force:
        for use, expected in ((USE_CACHE, 2), (USE_CACHE, 2), (REFRESH_CACHE, 4), (NO_CACHE, 6)):
            assert force.execute_workflow(["alpha", "beta"], "Look", cache=use).ok
            assert paid() == expected


def test_the_simulators_answers_lie_apart_from_paid_ones(
    cli: Cli, paid: Paid, user_answers: AnswerFile, project: Project
) -> None:
    simulated = (*RUN, "--simulate")
    assert cli(*simulated, key=None).code == 0
    assert "from the cache (disk, " in cli(*simulated, key=None).err
    assert not user_answers.folder.exists()
    assert cli("cache", "stats", "--simulated", "--json").json["entries"] == 1
    assert "from the cache" not in cli(*RUN).err
    assert paid() == 1


def test_the_cache_alone_gives_back_what_was_set(tmp_path: Path) -> None:
    with ResponseCache(cache_dir=tmp_path, cache_secret="s") as cache:
        assert cache.get("writer", "task", "model", depth=1) is None
        cache.set("writer", "task", "model", "Hello.", 12, 34, 0.56, depth=1)
        hit = cache.get("writer", "task", "model", depth=1)
        assert hit is not None
        assert hit.pop("cache_age_seconds") >= 0  # type: ignore[misc] # a copy of the caller's own
        assert dict(hit) == {
            "response": "Hello.",
            "input_tokens": 12,
            "output_tokens": 34,
            "estimated_cost": 0.56,
            "cached": True,
        }
        stats: Any = cache.get_stats()
        assert json.loads(json.dumps(stats))["hit_rate"] == "50.0%"
        assert (stats["hits"], stats["misses"], stats["entries"]) == (1, 1, 1)
