"""What maps and workflows pay for what their calls have in common, on the simulator's books."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import AgentCall
from claude_force.agents.attachments import Attachment
from claude_force.domain.messages import NO_CACHE
from claude_force.domain.tokens import estimate_tokens
from claude_force.simulator import Fault, FaultKind, Latency, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cli, MakeAsync, Project

    from claude_force.domain.results import AgentOutcome
    from claude_force.simulator import SimulatorThread

# 6,000 tokens by the simulator's count.
SHARED = Attachment("conventions.md", "word " * 4560)
# An answer begins a while after its request, so that requests that are sent together overlap.
SLOW = Scenario(
    latency=Latency(
        distribution="fixed", first_event_median_seconds=0.05, output_tokens_per_second=1e9
    )
)


def over_files(count: int, *, shared: Attachment = SHARED, **options: Any) -> list[AgentCall]:
    """One agent over files that differ, behind one that they have in common."""
    return [
        AgentCall(
            agent_name="alpha",
            task="Review the file.",
            files=(shared, Attachment(f"src/module_{number}.py", f"x = {number}\n" * 20)),
            **options,
        )
        for number in range(count)
    ]


def run_many(make_force: MakeAsync, calls: list[AgentCall], **options: Any) -> list[AgentOutcome]:
    async def main() -> list[AgentOutcome]:
        async with make_force(**options) as force:
            return [outcome async for outcome in force.run_many(calls)]

    return asyncio.run(main())


def marks(simulator: SimulatorThread) -> list[int]:
    """How many breakpoints each request carried, in the order in which they came."""
    return [_marks_of(request.body) for request in simulator.requests]


def _marks_of(body: Any) -> int:
    blocks = [*body.get("system", ()), *body["messages"][0]["content"]]
    return sum("cache_control" in block for block in blocks)


@pytest.mark.parametrize("enable_cache", [True, False])
def test_map_over_fifty_files_pays_for_the_shared_context_once(
    make_force: MakeAsync, simulator: SimulatorThread, *, enable_cache: bool
) -> None:
    simulator.use_scenario(SLOW)
    outcomes = run_many(make_force, over_files(50), enable_cache=enable_cache)
    assert [outcome.error for outcome in outcomes] == [None] * 50
    usage = simulator.stats.usage
    written = usage.cache_write_5m_tokens
    assert 6000 <= written <= 6200
    assert usage.cache_write_1h_tokens == 0
    assert usage.cache_read_tokens == 49 * written


def test_without_it_the_shared_context_is_paid_for_fifty_times(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    run_many(make_force, over_files(50), prompt_cache=False)
    usage = simulator.stats.usage
    assert usage.input_tokens == usage.total_input_tokens > 50 * 6000
    assert set(marks(simulator)) == {0}


def test_two_groups_of_a_map_write_each_their_own_context_once(
    make_force: MakeAsync, simulator: SimulatorThread, project: Project
) -> None:
    simulator.use_scenario(SLOW)
    # A definition that all share, and one of two contexts.
    project.agent("alpha", "word " * 4000)
    other = Attachment("other.md", "else " * 4560)
    pairs = zip(over_files(8), over_files(8, shared=other), strict=True)
    run_many(make_force, [call for pair in pairs for call in pair])
    usage = simulator.stats.usage
    definition, context = estimate_tokens("word " * 4000), 6000
    assert definition + 2 * context <= usage.cache_write_tokens <= definition + 2 * context + 400
    assert max(marks(simulator)) <= 4


def test_nothing_below_the_minimum_is_marked(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    short = Attachment("short.md", "word " * 2900)
    run_many(make_force, over_files(10, shared=short))
    assert set(marks(simulator)) == {0}
    # The same length is enough for a model with a lower minimum.
    simulator.reset()
    run_many(make_force, over_files(10, shared=short, model="claude-opus-5"))
    assert set(marks(simulator)) == {1}


def test_single_call_is_not_marked(make_force: MakeAsync, simulator: SimulatorThread) -> None:
    run_many(make_force, over_files(1))
    assert marks(simulator) == [0]


def test_only_changed_item_of_a_map_reads_what_the_last_run_wrote_and_writes_nothing_an_hour_later(
    make_force: MakeAsync, simulator: SimulatorThread, later: Callable[[float], None]
) -> None:
    simulator.use_scenario(SLOW)
    calls = over_files(30)
    run_many(make_force, calls)
    for changed, after_seconds, marked in (("changed", 60, 1), ("changed again", 3600, 0)):
        later(after_seconds)
        calls[7] = AgentCall(
            agent_name="alpha",
            task="Review the file.",
            files=(SHARED, Attachment("src/module_7.py", changed)),
        )
        before = len(simulator.requests)
        run_many(make_force, calls)
        assert marks(simulator)[before:] == [marked]
    usage = simulator.stats.usage
    assert usage.cache_read_tokens == 30 * usage.cache_write_5m_tokens > 0


def test_second_single_call_is_marked_and_the_third_reads(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    async def main() -> None:
        async with make_force() as force:
            for call in over_files(4):
                await force.run_call(call)

    asyncio.run(main())
    assert marks(simulator) == [0, 1, 1, 1]
    usage = simulator.stats.usage
    assert usage.cache_read_tokens == 2 * usage.cache_write_5m_tokens > 0


def test_models_have_prefixes_of_their_own(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.use_scenario(SLOW)
    calls = over_files(5, model="claude-opus-5") + over_files(5, model="claude-sonnet-5")
    run_many(make_force, calls)
    usage = simulator.stats.usage
    assert usage.cache_read_tokens == 4 * usage.cache_write_5m_tokens
    assert usage.cache_write_5m_tokens > 2 * 6000


def test_writer_that_fails_hands_over(make_force: MakeAsync, simulator: SimulatorThread) -> None:
    simulator.use_scenario(SLOW)
    simulator.queue_fault(Fault(kind=FaultKind.INVALID_REQUEST, times=1))
    outcomes = run_many(make_force, over_files(12))
    assert sum(not outcome.ok for outcome in outcomes) == 1
    usage = simulator.stats.usage
    assert usage.cache_read_tokens == 10 * usage.cache_write_5m_tokens > 0


def test_steps_of_a_workflow_share_the_files_of_the_run(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.use_scenario(SLOW)
    steps = [
        {"id": "bugs", "agent": "alpha", "task": "Find bugs."},
        {"id": "style", "agent": "alpha", "task": "Judge the style."},
        {"id": "sum", "agent": "alpha", "task": "Sum up.", "dependencies": ["bugs", "style"]},
    ]

    async def main() -> None:
        async with make_force() as force:
            result = await force.execute_workflow({"steps": steps}, "Go.", files=(SHARED,))
            assert result.ok

    asyncio.run(main())
    usage = simulator.stats.usage
    assert usage.cache_read_tokens == 2 * usage.cache_write_5m_tokens > 2 * 6000


def test_step_that_waits_for_another_is_a_reader_from_the_start(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    steps = [
        {"id": "draft", "agent": "alpha", "task": "Draft."},
        {"id": "check", "agent": "alpha", "task": "Check.", "dependencies": ["draft"]},
    ]

    async def main() -> None:
        async with make_force() as force:
            await force.execute_workflow({"steps": steps}, "Go.", files=(SHARED,))

    asyncio.run(main())
    assert marks(simulator) == [1, 1]
    usage = simulator.stats.usage
    assert usage.cache_read_tokens == usage.cache_write_5m_tokens > 6000


def test_marks_are_no_part_of_the_key_of_the_response_cache(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    calls = over_files(3)
    run_many(make_force, calls)
    assert max(marks(simulator)) == 1
    simulator.reset()
    again = run_many(make_force, calls, prompt_cache=False)
    assert all(outcome.result and outcome.result.cached for outcome in again)
    assert simulator.stats.requests == 0


def test_calls_that_refuse_the_response_cache_share_their_prompt_whole(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.use_scenario(SLOW)
    call = AgentCall(agent_name="alpha", task="Judge.", files=(SHARED,), cache=NO_CACHE)
    run_many(make_force, [call] * 5)
    usage = simulator.stats.usage
    assert usage.input_tokens == 0
    assert usage.cache_read_tokens == 4 * usage.cache_write_5m_tokens


def test_setting_switches_it_off_and_the_argument_goes_before_it(
    make_force: MakeAsync, simulator: SimulatorThread, project: Project
) -> None:
    project.config(prompt_cache={"enabled": False})
    run_many(make_force, over_files(3))
    assert set(marks(simulator)) == {0}
    simulator.reset()
    run_many(make_force, over_files(3), prompt_cache=True, enable_cache=False)
    assert set(marks(simulator)) == {1}


def test_map_of_the_command_line_tells_the_saving(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    simulator.use_scenario(SLOW)
    project.agent("alpha", SHARED.text)
    project.items(*({"task": f"Question {number}"} for number in range(10)))
    map_it = ("run", "map", "alpha", "--items", "items.jsonl", "--out", "out.jsonl")
    run = cli(*map_it)
    assert run.code == 0
    # 6,000 tokens at $2 a million: nine reads at a twentieth save $0.1026, the write costs $0.003 more.
    assert "The prompt cache saved $0.0996." in run.err
    simulator.reset()
    (project.root / "out.jsonl").unlink()
    plain = cli(*map_it, "--no-prompt-cache", "--no-cache")
    assert "prompt cache" not in plain.err
    assert set(marks(simulator)) == {0}


def test_step_that_fans_out_pays_for_the_files_of_the_run_once(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.use_scenario(SLOW)
    items = [f"part {number}" for number in range(20)]
    steps = [{"id": "each", "agent": "alpha", "task": "Check {{ item }}.", "for_each": items}]

    async def main() -> None:
        async with make_force() as force:
            result = await force.execute_workflow({"steps": steps}, "Go.", files=(SHARED,))
            assert result.ok

    asyncio.run(main())
    usage = simulator.stats.usage
    assert usage.cache_read_tokens == 19 * usage.cache_write_5m_tokens > 19 * 6000
