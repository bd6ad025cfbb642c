"""What a map and a workflow cost on the simulator's books: with the planner, without one, and with everything marked.

Run as ``.venv/bin/python benchmarks/prompt_cache.py [--json] [--rounds N]``. The simulator keeps the books by the
rules of the API: exact prefixes, the model's minimum, lifetimes, and nothing to be read before an answer has begun.
The naive rival marks whatever it may, for an hour, and orders nothing.
"""

from __future__ import annotations

import asyncio
import time
import timeit
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from reporting import Goal, Report, Row, arguments, progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from claude_force import AsyncAgentOrchestrator
    from claude_force.domain.messages import MessageRequest, MessageResponse
    from claude_force.provider.client import ModelClient
    from claude_force.simulator import SimulatorThread

PLANNER, NONE, NAIVE = "planner", "no planner", "everything, 1 hour"
MODEL = "claude-sonnet-5-5"
KEY = "key-of-the-benchmark"
# 6,000 tokens at 3.8 characters each.
SHARED = "word " * 4560
FILES, READERS, ALONE = 50, 5, 10
CPU_CALLS, CPU_SAMPLES = 500, 20
WORKLOAD = (
    f"Map: one agent over {FILES} files of about 300 tokens behind 6,000 tokens that all share, 10 at once. Workflow:\n"
    f"{READERS} steps of one agent over the same 6,000 tokens of files, and a sixth that reads their answers. Alone:\n"
    f"{ALONE} calls over 6,000 tokens each that nobody else reads. Model {MODEL}, response cache off, first event of\n"
    "an answer after 0.1 s. CPU: a call through the layer to a client that answers at once, less the client alone."
)


# ---- the work


async def over_files(force: AsyncAgentOrchestrator) -> None:
    from claude_force import AgentCall
    from claude_force.agents.attachments import Attachment

    shared = Attachment("conventions.md", SHARED)
    calls = [
        AgentCall(
            agent_name="reviewer",
            task="Review the file.",
            files=(shared, Attachment(f"src/module_{number}.py", f"x = {number}\n" * 150)),
        )
        for number in range(FILES)
    ]
    assert [outcome.error async for outcome in force.run_many(calls)] == [None] * FILES


async def workflow(force: AsyncAgentOrchestrator) -> None:
    from claude_force.agents.attachments import Attachment

    names = [f"aspect_{number}" for number in range(READERS)]
    steps = [{"id": name, "agent": "reviewer", "task": f"Judge {name}."} for name in names]
    steps.append({"id": "sum", "agent": "reviewer", "task": "Sum up.", "dependencies": names})  # type: ignore[dict-item] # JSON
    files = (Attachment("conventions.md", SHARED),)
    result = await force.execute_workflow({"steps": steps}, "Go.", files=files)
    assert result.ok


async def alone(force: AsyncAgentOrchestrator) -> None:
    from claude_force.agents.attachments import Attachment

    for number in range(ALONE):
        files = (Attachment("context.md", f"{number} {SHARED}"),)
        await force.run_agent("reviewer", "Judge it.", files=files)


WORK: dict[str, Callable[[AsyncAgentOrchestrator], Awaitable[None]]] = {
    "map of 50 files": over_files,
    "workflow of 6 steps": workflow,
    "10 calls alone": alone,
}


# ---- the contenders


@dataclass(frozen=True, slots=True)
class MarkEverything:
    """The naive rival: a breakpoint behind the definition and the last three blocks, each for an hour."""

    inner: ModelClient

    async def send(self, request: MessageRequest, on_event: Any = None) -> MessageResponse:
        from claude_force.provider.prompt_cache.prefixes import with_marks

        blocks = len(request.system) + len(request.messages[0].content)
        chosen = {0, *range(max(blocks - 3, 0), blocks)}
        return await self.inner.send(with_marks(request, dict.fromkeys(chosen, "1h")), on_event)

    async def aclose(self) -> None:
        await self.inner.aclose()


@asynccontextmanager
async def orchestrator(
    contender: str, simulator: SimulatorThread, folder: Path
) -> AsyncIterator[AsyncAgentOrchestrator]:
    from claude_force import AsyncAgentOrchestrator
    from claude_force.config.proxies import Proxies
    from claude_force.provider.messages_api import MessagesApiClient

    options: dict[str, Any] = {"api_key": KEY, "base_url": simulator.base_url}
    if contender == NAIVE:
        inner = MessagesApiClient(api_key=KEY, base_url=simulator.base_url, proxies=Proxies())
        options = {"client": MarkEverything(inner)}
    async with AsyncAgentOrchestrator(
        agents_dir=folder,
        enable_cache=False,
        state_dir=folder / "state",
        prompt_cache=contender == PLANNER,
        **options,
    ) as force:
        yield force


async def dollars(work: str, contender: str, simulator: SimulatorThread, folder: Path) -> float:
    from claude_force.pricing.catalogue import PriceCatalogue

    # Another organisation, so to speak: what an earlier round left in the prompt cache is gone.
    simulator.reset()
    async with orchestrator(contender, simulator, folder) as force:
        await WORK[work](force)
    usage = simulator.stats.usage
    cost = await PriceCatalogue().cost_usd(MODEL, (usage,), at=datetime.now(UTC))
    assert isinstance(cost, Decimal)
    return float(cost)


# ---- CPU of the layer


class Instant:
    """A client that answers at once, as if everything had been read from the prompt cache."""

    def __init__(self) -> None:
        from claude_force.domain.events import AnswerStarted
        from claude_force.domain.messages import MessageResponse
        from claude_force.domain.usage import Usage

        usage = Usage(cache_read_tokens=9000)
        self._began = AnswerStarted("c", None, usage)
        self._response = MessageResponse(
            message_id="m", model=MODEL, text="t", stop_reason="end_turn", usage=usage
        )

    async def send(self, _: MessageRequest, on_event: Any = None) -> MessageResponse:
        if on_event is not None:
            on_event(self._began)
        return self._response

    async def aclose(self) -> None:
        """Nothing is held."""


def requests(*, long: bool) -> list[MessageRequest]:
    from claude_force.domain.messages import Message, MessageRequest, TextBlock

    files = [TextBlock(SHARED), TextBlock("x = 1\n" * 200)] if long else []
    return [
        MessageRequest(
            model=MODEL,
            max_tokens=4096,
            system=(TextBlock("You review code.\n" * 40),),
            messages=(Message("user", (*files, TextBlock(f"Question {number}"))),),
        )
        for number in range(CPU_CALLS)
    ]


async def microseconds(client: ModelClient, asked: list[MessageRequest]) -> float:
    began = time.process_time()
    for request in asked:
        await client.send(request)
    return (time.process_time() - began) / len(asked) * 1e6


async def cpu_samples(*, long: bool) -> list[float]:
    from claude_force.provider.prompt_cache.client import PromptCacheClient

    samples = []
    bare, layered = Instant(), PromptCacheClient(Instant())
    asked = requests(long=long)
    for _ in range(CPU_SAMPLES):
        alone_us = await microseconds(bare, asked)
        samples.append(await microseconds(layered, asked) - alone_us)
    # The first round writes what the others read.
    return samples[1:]


# ---- the report


def main() -> None:
    from claude_force.simulator import Latency, Scenario, SimulatorThread

    options = arguments(__doc__ or "", rounds=3)
    latency = Latency(
        distribution="fixed", first_event_median_seconds=0.1, output_tokens_per_second=1e9
    )
    costs: dict[tuple[str, str], list[float]] = {}
    with TemporaryDirectory() as folder, SimulatorThread() as simulator:
        simulator.use_scenario(Scenario(latency=latency))
        Path(folder, "reviewer.md").write_text(
            f"---\nname: reviewer\ndescription: Reviews\nmodel: {MODEL}\n---\nYou review code.\n",
            encoding="utf-8",
        )
        for number in range(options.rounds):
            progress(f"round {number + 1} of {options.rounds}")
            for work in WORK:
                for contender in (PLANNER, NONE, NAIVE):
                    cost = asyncio.run(dollars(work, contender, simulator, Path(folder)))
                    costs.setdefault((work, contender), []).append(cost)
    rows = [
        Row(contender=contender, measure=work, unit="dollars", samples=tuple(samples))
        for (work, contender), samples in costs.items()
    ]
    for long in (False, True):
        measure = "CPU of the layer, 6,400 tokens" if long else "CPU of the layer, 200 tokens"
        samples = asyncio.run(cpu_samples(long=long))
        rows.append(Row(contender=PLANNER, measure=measure, unit="us", samples=tuple(samples)))
    speed = [timeit.timeit(lambda: sum(range(1000)), number=1000) * 1000 for _ in range(20)]
    rows.append(
        Row(contender="machine", measure="sum(range(1000))", unit="us", samples=tuple(speed))
    )
    Report(
        name="prompt_cache",
        workload=WORKLOAD,
        rows=tuple(rows),
        goals=goals({(row.measure, row.contender): row for row in rows}),
        reference=NONE,
    ).print(as_json=options.json)


def goals(rows: dict[tuple[str, str], Row]) -> tuple[Goal, ...]:
    found = []
    for work, against_none in (
        ("map of 50 files", 0.5),
        ("workflow of 6 steps", 0.7),
        ("10 calls alone", 1.0),
    ):
        planner = rows[work, PLANNER].median
        found.append(
            Goal(
                claim=f"{work}: planner ÷ no planner",
                measured=planner / rows[work, NONE].median,
                at_most=against_none,
            )
        )
        found.append(
            Goal(
                claim=f"{work}: planner ÷ everything marked for an hour",
                measured=planner / rows[work, NAIVE].median,
                at_most=1.0,
            )
        )
    # The least samples: what others do on the machine only ever adds to CPU time.
    yardstick = min(rows["sum(range(1000))", "machine"].samples)
    for measure, at_most in (
        ("CPU of the layer, 200 tokens", 1.0),
        ("CPU of the layer, 6,400 tokens", 10.0),
    ):
        least = min(rows[measure, PLANNER].samples)
        claim = f"{measure} ÷ sum(range(1000))"
        found.append(Goal(claim=claim, measured=least / yardstick, at_most=at_most))
    return tuple(found)


if __name__ == "__main__":
    main()
