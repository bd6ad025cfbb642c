"""What a week of work costs, and what the same week costs asked plainly, both on the simulator's books.

Run as ``.venv/bin/python benchmarks/week.py [--json] [--agents FOLDER]``. The same calls are made twice: once by
claude-force as it comes, and once with every call sent by itself, with no cache, no batch and no fallback. Which part
saved how much is what ``claude-force metrics savings`` says; its lines have to add up to the last digit. Time is
scaled: sessions and nights are moments on shifted clocks, so that answers age and the provider forgets as in a week.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import time_machine

from reporting import ROOT, Goal, Report, Row, progress
from week_plan import Part, Week, chosen_agents, definitions, guide, parts_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Awaitable, Callable

    from claude_force import AgentResult, AsyncAgentOrchestrator, Savings
    from claude_force.simulator import SimulatorThread

KEY = "key-of-the-benchmark"
OURS, NAIVE = "claude-force", "asked plainly"
SHARED_AGENTS = ROOT.parent / "shared/data/agents"
READY_AGENTS = ROOT / "src/claude_force/agents/starter/agents"
# The first moment of the week: a Monday, 09:00 UTC.
MONDAY = datetime(2026, 11, 16, 9, tzinfo=UTC)
HOUR = 3600.0
# Lines of what all calls of a project share, such as a guide of its conventions. The first is that of prompt_cache.py;
# the second is too short for the prompt cache where a model has no published minimum.
GUIDES = {"6,000 shared tokens": 365, "2,500 shared tokens": 150}
WORKLOAD = (
    "Five days. On each four sessions of 12 calls by one agent (claude-sonnet-5-5, or what it names), 4 hard questions to\n"
    "claude-opus-5-5, which is overloaded for every second new one and falls back to claude-sonnet-5-5, and at night a\n"
    "map of 40 calls as a batch. A call has a guide that all share, a file of 300 to 1,500 tokens, and an answer of 150 to\n"
    "600. Of all calls 30 % repeat an earlier one of the week, 20 % ask it again about an edited file. The response cache\n"
    "keeps answers for the week, and the provider's prompt cache has forgotten when the next session begins."
)


# ---- the two ways


class Clock:
    """A monotonic clock that the benchmark moves on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@asynccontextmanager
async def orchestrator(
    simulator: SimulatorThread, agents: Path, folder: Path, **options: Any
) -> AsyncIterator[AsyncAgentOrchestrator]:
    from claude_force import AsyncAgentOrchestrator

    async with AsyncAgentOrchestrator(
        api_key=KEY,
        base_url=simulator.base_url,
        agents_dir=agents,
        cache_dir=folder / "cache",
        state_dir=folder / "state",
        # Work of last Monday is of use on Friday.
        cache_ttl_hours=24 * 7,
        max_retries=0,
        **options,
    ) as force:
        yield force


async def as_it_comes(
    part: Part, simulator: SimulatorThread, agents: Path, folder: Path
) -> list[AgentResult]:
    """One part by an orchestrator of its own, as a command would be."""
    from claude_force.simulator.faults import Fault, FaultKind

    async with orchestrator(simulator, agents, folder) as force:
        if part.kind == "night":
            return [_result(one) async for one in force.run_batch(part.calls)]
        if part.kind == "session":
            return [_result(one) async for one in force.run_many(part.calls)]
        results = []
        for number, call in enumerate(part.calls):
            if number in part.overloaded:
                simulator.queue_fault(Fault(kind=FaultKind.OVERLOADED))
            results.append(await force.run_call(call))
        return results


async def plainly(
    part: Part, simulator: SimulatorThread, agents: Path, folder: Path
) -> list[AgentResult]:
    async with orchestrator(
        simulator, agents, folder, enable_cache=False, prompt_cache=False
    ) as force:
        return [_result(one) async for one in force.run_many(part.calls)]


def _result(outcome: Any) -> AgentResult:
    assert outcome.result is not None, outcome.error
    result: AgentResult = outcome.result
    return result


if TYPE_CHECKING:
    Way = Callable[[Part, SimulatorThread, Path, Path], Awaitable[list[AgentResult]]]


def run_week(
    way: Way, parts: list[Part], agents: Path, folder: Path
) -> tuple[list[AgentResult], Savings]:
    """Every part at its time; the results, and what was saved. Results and the simulator's books have to agree."""
    from claude_force import Usage, open_metrics
    from claude_force.simulator import Latency, Scenario, SimulatorThread

    clock = Clock()
    scenario = Scenario(
        latency=Latency(
            distribution="fixed", first_event_median_seconds=0.02, output_tokens_per_second=1e9
        ),
        min_output_tokens=150,
        max_output_tokens=600,
        batch_seconds=0.0,
    )
    results: list[AgentResult] = []
    with (
        time_machine.travel(MONDAY, tick=True) as calendar,
        SimulatorThread(scenario=scenario, monotonic=clock) as simulator,
    ):
        before = 0.0
        for part in parts:
            calendar.shift((part.hours - before) * HOUR)
            clock.ahead = part.hours * HOUR
            before = part.hours
            results += asyncio.run(_done(way(part, simulator, agents, folder)))
        with closing(open_metrics(folder / "state")) as metrics:
            found = metrics.savings().value
        books = simulator.stats.usage
    paid = sum((one.usage for one in results if one.cached is None), Usage())
    assert paid == books, (paid, books)
    return results, found


async def _done(results: Awaitable[list[AgentResult]]) -> list[AgentResult]:
    return await results


def price(results: list[AgentResult]) -> Decimal:
    """What the answers that were paid for cost; each is priced alone."""
    known = [one.cost_usd for one in results]
    assert None not in known
    return sum((cost for cost in known if cost is not None), Decimal(0))


@dataclass(frozen=True, slots=True)
class Bill:
    """One week, paid in both ways."""

    found: Savings
    naive_usd: Decimal
    counts: Counter[str]


def paid_week(seed: int, agents: Path, guide_lines: int) -> Bill:
    draw = random.Random(seed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "agents").mkdir()
        week = Week(chosen_agents(agents, draw, folder / "agents"), draw, guide(guide_lines))
        parts = parts_of(week)
        ours, found = run_week(as_it_comes, parts, folder / "agents", folder / "ours")
        naive, _ = run_week(plainly, parts, folder / "agents", folder / "naive")
    # The two ways to count have to agree, and the lines have to add up.
    assert found.actual_usd == price(ours), (found.actual_usd, price(ours))
    assert found.naive_usd == found.actual_usd + sum(found.lines.values())
    return Bill(found, price(naive), week.counts)


def rows_of(measure: str, bills: list[Bill]) -> list[Row]:
    def row(contender: str, what: str, unit: str, samples: list[float]) -> Row:
        return Row(
            contender=contender, measure=f"{what}, {measure}", unit=unit, samples=tuple(samples)
        )

    rows = [
        row(NAIVE, "week", "$", [float(bill.naive_usd) for bill in bills]),
        row(OURS, "week", "$", [float(bill.found.actual_usd) for bill in bills]),
    ]
    for name in bills[0].found.lines:
        shares = [float(100 * bill.found.lines[name] / bill.found.naive_usd) for bill in bills]
        rows.append(row(name, "saved", "%", shares))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=1, help="weeks, each of another seed")
    default = SHARED_AGENTS if SHARED_AGENTS.is_dir() else READY_AGENTS
    parser.add_argument("--agents", type=Path, default=default, help="a folder of agents")
    arguments = parser.parse_args()
    rows, shares = [], []
    bills: list[Bill] = []
    for measure, lines in GUIDES.items():
        bills = []
        for seed in range(arguments.rounds):
            progress(f"week {seed + 1} of {arguments.rounds}, {measure}")
            bills.append(paid_week(seed, arguments.agents, lines))
        rows += rows_of(measure, bills)
        shares.append(
            float(sum(one.found.actual_usd / one.naive_usd for one in bills)) / len(bills)
        )
    counts = ", ".join(f"{count} {kind}" for kind, count in bills[-1].counts.most_common())
    Report(
        name="week",
        workload=f"{WORKLOAD}\n{counts} questions to 6 agents of {len(definitions(arguments.agents))}.",
        rows=tuple(rows),
        goals=(
            Goal(
                claim=f"a week ÷ the same week asked plainly, {next(iter(GUIDES))}",
                measured=shares[0],
                at_most=0.4,
            ),
        ),
        reference=NAIVE,
    ).print(as_json=arguments.json)


if __name__ == "__main__":
    main()
