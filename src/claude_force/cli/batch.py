"""The group ``batch``: send calls at half the price today, and collect what comes of them tomorrow."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_force.cli.lazy import Entry, LazyGroup
from claude_force.cli.options import (
    answer_options,
    apply,
    config_option,
    json_option,
    open_orchestrator,
    run_options,
    split_options,
)
from claude_force.domain.errors import ConfigError, InputError, ItemsError
from claude_force.domain.partial_failure import PartialFailureError
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from claude_force.agents.calls import AgentCall
    from claude_force.assembly.batching_submissions import SubmissionProgress
    from claude_force.cli.batch_results import Ticket
    from claude_force.cli.options import AnswerOptions, RunOptions
    from claude_force.orchestrator import AsyncAgentOrchestrator
    from claude_force.workflows.submissions import BatchSubmission

batch = LazyGroup(
    "batch",
    {
        "submit": Entry(
            "claude_force.cli.batch:submit",
            "Send one agent over many inputs, and wait for nothing.",
        ),
        "list": Entry("claude_force.cli.batch:list_submissions", "List what was submitted."),
        "status": Entry("claude_force.cli.batch:status", "Ask the API where a submission stands."),
        "collect": Entry("claude_force.cli.batch:collect", "Write the results that are there."),
        "cancel": Entry("claude_force.cli.batch:cancel", "Stop what is not answered yet."),
    },
    summary="Send calls in message batches, at half the price within a day, and come back for the results.\n\n"
    "ID is that of a submission, the beginning of one, or `last`.",
)

_address = apply(
    config_option,
    click.option("--base-url", help="Address of the API, in place of ANTHROPIC_BASE_URL."),
    json_option,
)
_id_argument = click.argument("name", metavar="ID", default="last")


@click.command()
@click.argument("name", metavar="AGENT")
@click.option(
    "--items", required=True, type=click.Path(path_type=Path), help="JSON Lines with the inputs."
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="JSON Lines, where `batch collect` writes the results.",
)
@answer_options
@run_options
def submit(name: str, items: Path, out: Path, **values: Any) -> None:  # noqa: ANN401 - click's
    """Send AGENT over every line of the items file in message batches, and wait for nothing.

    Items whose results stand in the results file already, or are in a batch, are not sent again.
    """
    options, answer = split_options(values)
    if options.simulated:
        raise ConfigError(
            "The simulator of one command has gone when you come back. Start one with `claude-force simulate`, and name "
            "its address with --base-url."
        )
    asyncio.run(_submit(name, items, out.absolute(), options, answer))


@click.command("list")
@_address
def list_submissions(config: Path | None, base_url: str | None, as_json: bool) -> None:
    """List what was submitted, the last first. Asks nobody."""
    found = asyncio.run(_opened(config, base_url).batch_submissions())
    if as_json:
        from claude_force.cli.render import print_json

        print_json([_submission_json(one) for one in found])
        return
    if not found:
        click.echo("Nothing was submitted yet; `claude-force batch submit` does.", err=True)
    for one in found:
        click.echo(_line(one))


@click.command()
@_id_argument
@_address
def status(name: str, config: Path | None, base_url: str | None, as_json: bool) -> None:
    """Ask the API where a submission stands. Costs nothing."""

    async def ask() -> SubmissionProgress:
        async with _opened(config, base_url) as force:
            return await force.batch_status(name)

    _tell(asyncio.run(ask()), as_json=as_json)


@click.command()
@_id_argument
@_address
def cancel(name: str, config: Path | None, base_url: str | None, as_json: bool) -> None:
    """Stop what is not answered yet. What is answered is paid, and can be collected."""

    async def ask() -> SubmissionProgress:
        async with _opened(config, base_url) as force:
            return await force.cancel_batch(name)

    _tell(asyncio.run(ask()), as_json=as_json)


@click.command()
@_id_argument
@click.option("--wait", is_flag=True, help="Wait for batches that go on.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Another file than the one of `batch submit`."
)
@_address
def collect(  # noqa: PLR0917 - click passes options by name
    name: str,
    wait: bool,
    out: Path | None,
    config: Path | None,
    base_url: str | None,
    as_json: bool,
) -> None:
    """Write the results that are there into the file that `batch submit` was given. Again, it costs nothing.

    The exit code is 7 while results are missing, or when calls have failed.
    """
    asyncio.run(_collect(name, _opened(config, base_url), wait=wait, out=out, as_json=as_json))


def _opened(config: Path | None, base_url: str | None) -> AsyncAgentOrchestrator:
    from claude_force.cli.logs import show_warnings
    from claude_force.orchestrator import AsyncAgentOrchestrator

    show_warnings()
    return AsyncAgentOrchestrator(config, base_url=base_url)


async def _submit(
    name: str, items: Path, out: Path, options: RunOptions, answer: AnswerOptions
) -> None:
    from claude_force.cli.batch_results import Ticket
    from claude_force.cli.map_items import read_items
    from claude_force.cli.run_map import MapCalls, open_results, plan_map, tell_kept

    async with open_orchestrator(options) as force:
        plan = plan_map(name, read_items(items), options, answer, force.registry)
        with open_results(out, plan) as results:
            done = results.kept.done
            tell_kept(out, results.kept)
        missing = [item_id for item_id in plan.items if item_id not in done]
        calls = MapCalls(plan, missing)
        accepted: list[AgentCall] = list(calls)
        if calls.lost:
            raise ItemsError(f"{calls.lost[0].error} Nothing was sent.")
        if not accepted:
            raise InputError(f"{out}: every item has its result; there is nothing to submit.")
        ticket = Ticket(
            out,
            tuple(
                (plan.items[item_id].item_id, plan.items[item_id].line, plan.keys[item_id])
                for item_id in missing
            ),
        )
        found = await force.submit_batch(
            [replace(call, cache=options.cache) for call in accepted], note=ticket.written()
        )
    if options.as_json:
        from claude_force.cli.render import print_json

        print_json(_submission_json(found))
        return
    held = f", {found.succeeded} answered from the cache" if found.succeeded else ""
    click.echo(
        f"Submitted {counted(found.waiting, 'call')} in {_batches(len(found.batch_ids))}{held}."
    )
    click.echo(f"Collect them with: claude-force batch collect {found.submission_id}")


async def _collect(
    name: str, force: AsyncAgentOrchestrator, *, wait: bool, out: Path | None, as_json: bool
) -> None:
    from claude_force.cli.batch_results import read_ticket
    from claude_force.cli.interrupt import interruptible

    async with force:
        found = await force.find_submission(name)
        ticket = read_ticket(found.note)
        path = ticket.out if out is None else out
        if path is None and not as_json:
            raise ConfigError("Name a file for the results with --out, or print them with --json.")
        async with interruptible(force) as interruption:
            left = await _write(force, found, ticket, path, wait=wait, as_json=as_json)
    if interruption.count:
        raise click.Abort
    if left:
        raise PartialFailureError(
            f"{left} of {_size(found)} results are not there yet. Come back later, or wait: "
            f"claude-force batch collect {found.submission_id} --wait"
        )


async def _write(
    force: AsyncAgentOrchestrator,
    found: BatchSubmission,
    ticket: Ticket,
    path: Path | None,
    *,
    wait: bool,
    as_json: bool,
) -> int:
    """Write what is there; how many results are not.

    Raises:
        PartialFailureError: calls failed; everything that is there is written before.
    """
    from claude_force.cli.batch_results import keys_in
    from claude_force.cli.map_items import waiting_teller
    from claude_force.cli.map_progress import MapProgress
    from claude_force.cli.render import print_json
    from claude_force.workflows.results_file import ResultsFile

    with ExitStack() as stack:
        results = None
        if path is not None:
            results = stack.enter_context(ResultsFile(path, keys_in(path, ticket)))
        kept = frozenset() if results is None else results.kept.done
        progress = stack.enter_context(MapProgress(total=_size(found), done=0))
        outcomes = force.collect_batch(
            found.submission_id, wait=wait, on_look=waiting_teller() if wait else None
        )
        async for outcome in outcomes:
            entry = ticket.entry(outcome)
            if results is not None and str(entry["id"]) not in kept:
                results.append(entry)
            if as_json:
                print_json(entry)
            progress.take(outcome)
        progress.finish(None if path is None else path)
    if progress.failed:
        named = "\n".join(f"  {line}" for line in progress.failures)
        raise PartialFailureError(
            f"{progress.failed} of {_size(found)} calls failed:\n{named}\n"
            "Submit the same items again to ask what is missing."
        )
    return _size(found) - progress.finished


def _size(found: BatchSubmission) -> int:
    return found.waiting + found.succeeded + found.failed


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count} batches"


def _line(one: BatchSubmission) -> str:
    began = datetime.fromtimestamp(one.created_at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    failed = f", {one.failed} failed" if one.failed else ""
    return (
        f"{one.submission_id}  {began}  {one.succeeded} of {_size(one)} collected{failed}, "
        f"{_batches(len(one.batch_ids))}"
    )


def _tell(progress: SubmissionProgress, *, as_json: bool) -> None:
    if as_json:
        from claude_force.cli.render import print_json

        states = {
            "ended": list(progress.ended),
            "going_on": list(progress.going_on),
            "gone": list(progress.gone),
        }
        print_json(_submission_json(progress.submission) | states)
        return
    click.echo(_line(progress.submission))
    for said, ids in (
        ("ended", progress.ended),
        ("goes on", progress.going_on),
        ("is not known any more", progress.gone),
    ):
        for batch_id in ids:
            click.echo(f"  {batch_id}  {said}")


def _submission_json(one: BatchSubmission) -> dict[str, Any]:
    return {
        "submission_id": one.submission_id,
        "submitted_at": datetime.fromtimestamp(one.created_at, UTC).isoformat(),
        "waiting": one.waiting,
        "succeeded": one.succeeded,
        "failed": one.failed,
        "batch_ids": list(one.batch_ids),
    }
