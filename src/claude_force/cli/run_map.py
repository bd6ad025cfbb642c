"""``run map``: one agent over many inputs, resumable by its results file."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_force.cli.durations import Duration
from claude_force.cli.interrupt import interruptible
from claude_force.cli.map_items import map_call, read_items, waiting_teller
from claude_force.cli.options import (
    answer_options,
    memory_option,
    offline_orchestrator,
    open_orchestrator,
    run_options,
    semantic_option,
    split_options,
    with_semantic_cache,
)
from claude_force.domain.errors import ConfigError, InputError, ItemsError, RunStoppedError
from claude_force.domain.partial_failure import PartialFailureError, RunCappedError
from claude_force.domain.results import AgentOutcome

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from claude_force.agents.calls import AgentCall
    from claude_force.agents.registry import AgentRegistry
    from claude_force.cli.map_progress import MapProgress
    from claude_force.cli.options import AnswerOptions, RunOptions
    from claude_force.domain.messages import CacheUse
    from claude_force.orchestrator import AsyncAgentOrchestrator
    from claude_force.workflows.items import MapItem
    from claude_force.workflows.results_file import KeptResults, ResultsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPlan:
    """What is asked, and in which way."""

    agent_name: str
    items: dict[str, MapItem]
    answer: AnswerOptions
    cache: CacheUse
    # Content key of each item's request, by its id.
    keys: dict[str, str]

    def call(self, item_id: str) -> AgentCall:
        """The call of one item; its files are read now."""
        return replace(
            map_call(self.items[item_id], self.agent_name, self.answer), cache=self.cache
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How the calls go out."""

    batch: bool = False
    # From the start of the calls to the end of the last one.
    deadline_seconds: float | None = None
    # Wait for the results of batches.
    wait: bool = True

    def outcomes(
        self, force: AsyncAgentOrchestrator, calls: Iterable[AgentCall]
    ) -> AsyncGenerator[AgentOutcome, None]:
        """Outcomes as they come."""
        if not self.batch:
            return force.run_many(calls, timeout_seconds=self.deadline_seconds)
        return force.run_batch(calls, wait=self.wait, on_look=waiting_teller())


@click.command("map")
@click.argument("name", metavar="AGENT")
@click.option(
    "--items", required=True, type=click.Path(path_type=Path), help="JSON Lines with the inputs."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="JSON Lines with the results; a rerun goes on from it.",
)
@click.option(
    "--deadline",
    type=Duration(),
    metavar="TIME",
    help="End the whole run after this time, such as 10m; what is finished is kept.",
)
@click.option(
    "--batch",
    is_flag=True,
    help="Send everything as message batches: half the price, within a day. Interrupt it, or come back tomorrow with "
    "the same command: nothing is sent twice.",
)
@click.option(
    "--no-wait", is_flag=True, help="With --batch: send what is missing, and wait for no result."
)
@click.option(
    "--plan",
    "only_plan",
    is_flag=True,
    help="Say what it would ask and cost, and send nothing; no key is needed.",
)
@memory_option
@answer_options
@run_options
@semantic_option
def run_map(
    name: str,
    items: Path,
    out: Path | None,
    batch: bool,
    no_wait: bool,
    **values: Any,  # noqa: ANN401 - click's
) -> None:
    """Run AGENT over every line of the items file.

    A line of the items is {"task": "…"} with optional "id", "agent" and "files". Each result is written the moment
    it is there; running the same command again does only what is missing, failed or changed.
    """
    semantic, only_plan = values.pop("semantic_cache"), values.pop("only_plan")
    options, answer = split_options(values)
    options = with_semantic_cache(options, name, semantic)
    if batch and semantic is not None:
        raise ConfigError("--semantic-cache is not for --batch: what goes into a batch is asked.")
    if out is None and not (options.as_json or only_plan):
        raise ConfigError("Name a file for the results with --out, or print them with --json.")
    if no_wait and not batch:
        raise ConfigError("--no-wait is for --batch.")
    if batch and answer.continue_truncated:
        raise ConfigError(
            "--continue-truncated is not for --batch: the rest would be asked in another batch, a day later. Allow a longer "
            "answer with --max-tokens."
        )
    if batch and answer.use_memory:
        raise ConfigError(
            "--memory is not for --batch: what is remembered changes before the results are there, and the same command "
            "would then ask other questions. Leave one of the two out."
        )
    deadline = values.pop("deadline")
    if deadline is not None and batch:
        raise ConfigError(
            "--deadline is not for --batch, whose results take up to a day: use --no-wait, and come back for them."
        )
    if only_plan:
        asyncio.run(_forecast(name, items, out, options, answer, batch=batch))
        return
    way = Way(batch=batch, wait=not no_wait, deadline_seconds=deadline)
    asyncio.run(_map(name, items, out, options, answer, way=way))


async def _map(
    name: str,
    items: Path,
    out: Path | None,
    options: RunOptions,
    answer: AnswerOptions,
    *,
    way: Way,
) -> None:
    from claude_force.cli.map_progress import MapProgress

    async with open_orchestrator(options) as force:
        plan = plan_map(name, read_items(items), options, answer, force.registry)
        # Asks for nothing, and fails for want of a key or of an address before the results are touched.
        async for _ in force.run_many(()):
            pass
        with ExitStack() as stack:
            results = stack.enter_context(open_results(out, plan)) if out is not None else None
            done = results.kept.done if results else frozenset()
            missing = [item_id for item_id in plan.items if item_id not in done]
            if results is not None and out is not None:
                tell_kept(out, results.kept)
            progress = stack.enter_context(MapProgress(total=len(plan.items), done=len(done)))
            calls = MapCalls(plan, missing)
            try:
                async with interruptible(force) as interruption:
                    async for outcome in way.outcomes(force, calls):
                        _take(outcome, plan, results, progress, as_json=options.as_json)
                for outcome in calls.lost:
                    _take(outcome, plan, results, progress, as_json=options.as_json)
            finally:
                progress.finish(out)
    if interruption.count:
        raise click.Abort
    if progress.failed:
        raise (RunCappedError if progress.capped else PartialFailureError)(
            _failures(progress, len(plan.items), resumable=out is not None)
        )


async def _forecast(
    name: str,
    items: Path,
    out: Path | None,
    options: RunOptions,
    answer: AnswerOptions,
    *,
    batch: bool,
) -> None:
    from claude_force.cli.map_forecast import print_map_forecast
    from claude_force.workflows.results_file import look_into

    async with offline_orchestrator(options) as force:
        plan = plan_map(name, read_items(items), options, answer, force.registry)
        done: frozenset[str] = frozenset()
        if out is not None:
            kept = look_into(out, plan.keys)
            done = kept.done
            tell_kept(out, kept, ahead=True)
        calls = MapCalls(plan, [item_id for item_id in plan.items if item_id not in done])
        found = await force.plan_many(calls, batch=batch)
    for outcome in calls.lost:
        assert outcome.error is not None  # noqa: S101 - what was lost has one
        raise outcome.error
    print_map_forecast(
        found,
        agent_name=name,
        items=len(plan.items),
        kept=len(done),
        as_json=options.as_json,
    )


class MapCalls:
    """The calls of items, each put together when its turn comes."""

    def __init__(self, plan: MapPlan, item_ids: list[str]) -> None:
        self._plan = plan
        self._item_ids = item_ids
        # Items whose files have gone, or changed for the worse, since they were checked.
        self.lost: list[AgentOutcome] = []

    def __iter__(self) -> Iterator[AgentCall]:
        for index, item_id in enumerate(self._item_ids):
            try:
                call = self._plan.call(item_id)
            except InputError as error:
                agent_name = self._plan.items[item_id].agent_name or self._plan.agent_name
                self.lost.append(
                    AgentOutcome(index=index, item_id=item_id, agent_name=agent_name, error=error)
                )
            else:
                yield call


def _failures(progress: MapProgress, total: int, *, resumable: bool) -> str:
    named = "\n".join(f"  {line}" for line in progress.failures)
    more = progress.failed - len(progress.failures)
    rest = f"\n  … and {more} more" if more else ""
    again = "\nRun the same command again to do what is missing." if resumable else ""
    return f"{progress.failed} of {total} items failed:\n{named}{rest}{again}"


def _take(
    outcome: AgentOutcome,
    plan: MapPlan,
    results: ResultsFile | None,
    progress: MapProgress,
    *,
    as_json: bool,
) -> None:
    if isinstance(outcome.error, RunStoppedError):
        # Not sent, so it is neither done nor failed: a rerun does it.
        return
    entry = _entry(outcome, plan)
    if results is not None:
        results.append(entry)
    if as_json:
        from claude_force.cli.render import print_json

        print_json(entry)
    progress.take(outcome)


def _entry(outcome: AgentOutcome, plan: MapPlan) -> dict[str, Any]:
    from claude_force.cli.render import error_json, result_json

    item = plan.items[outcome.item_id]
    head = {"id": item.item_id, "line": item.line, "key": plan.keys[outcome.item_id]}
    if outcome.result is not None:
        return head | result_json(outcome.result)
    assert outcome.error is not None  # noqa: S101 - an outcome has one of the two
    return head | {"ok": False, "agent": outcome.agent_name, "error": error_json(outcome.error)}


def plan_map(
    name: str,
    items: list[MapItem],
    options: RunOptions,
    answer: AnswerOptions,
    registry: AgentRegistry,
) -> MapPlan:
    """Check every item, its agent and its files before anything is sent."""
    from claude_force.cache.fingerprint import request_key
    from claude_force.domain.messages import CallContext

    registry.get(name)
    keys: dict[str, str] = {}
    problems: list[str] = []
    for item in items:
        try:
            request = map_call(item, name, answer).to_request(registry, CallContext())
            keys[str(item.item_id)] = request_key(request, origin="")
        except InputError as error:
            problems.append(f"  line {item.line}: {error}")
    if problems:
        raise ItemsError("The items cannot be used; nothing was sent:\n" + "\n".join(problems[:20]))
    return MapPlan(
        agent_name=name,
        items={str(item.item_id): item for item in items},
        answer=answer,
        cache=options.cache,
        keys=keys,
    )


def open_results(out: Path, plan: MapPlan) -> ResultsFile:
    """The results file; see `ResultsFile`."""
    from claude_force.workflows.results_file import ResultsFile

    return ResultsFile(out, plan.keys)


def tell_kept(out: Path, kept: KeptResults, *, ahead: bool = False) -> None:
    """Say on stderr what an earlier run left; ``ahead`` of the next one, which has not touched it yet."""
    done, will = len(kept.done), "will be" if ahead else "were"
    if kept.outdated:
        click.echo(
            f"{out}: {kept.outdated} answers to earlier questions {will} moved to {out}.old.",
            err=True,
        )
    if done or kept.dropped:
        dropped = f", {kept.dropped} failed ones are done again" if kept.dropped else ""
        click.echo(f"{out}: {done} results are kept{dropped}.", err=True)
