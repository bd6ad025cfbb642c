"""``cache warm``: fills the response cache ahead of time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_force.cli.map_items import calls_of, read_items, waiting_teller
from claude_force.cli.options import (
    answer_options,
    memory_option,
    open_orchestrator,
    run_options,
    split_options,
)
from claude_force.cli.render import dollars, error_json, print_json
from claude_force.domain.errors import ConfigError
from claude_force.domain.partial_failure import PartialFailureError

if TYPE_CHECKING:
    from claude_force.cli.options import AnswerOptions, RunOptions
    from claude_force.domain.warming import WarmReport

_MOST_NAMED = 5


@click.command("warm")
@click.argument("items", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--agent", metavar="NAME", help="Who is asked where a line names no agent.")
@click.option("--batch", is_flag=True, help="Ask by message batches: half the price, within a day.")
@click.option(
    "--no-wait", is_flag=True, help="With --batch: send what is missing, and wait for no result."
)
@answer_options
@memory_option
@run_options
def warm(
    items: Path,
    agent: str | None,
    batch: bool,
    no_wait: bool,
    **values: Any,  # noqa: ANN401 - click's
) -> None:
    """Ask every line of FILE whose answer is not in the cache yet, and keep the answers.

    A line is what `run map` takes: {"task": "…"} with optional "id", "agent" and "files". A FILE of - is stdin.
    """
    options, answer = split_options(values)
    if options.no_cache:
        raise ConfigError("--no-cache leaves nothing to be filled; leave it out.")
    if no_wait and not batch:
        raise ConfigError("--no-wait is for --batch.")
    if batch and answer.use_memory:
        raise ConfigError("--memory is not for --batch; leave one of the two out.")
    # Here, because the other commands of this group need no event loop.
    import asyncio

    asyncio.run(_warm(items, agent, options, answer, batch=batch, wait=not no_wait))


async def _warm(
    items: Path,
    agent: str | None,
    options: RunOptions,
    answer: AnswerOptions,
    *,
    batch: bool,
    wait: bool,
) -> None:
    from claude_force.cli.interrupt import interruptible
    from claude_force.cli.map_progress import MapProgress

    async with open_orchestrator(options) as force:
        calls = calls_of(read_items(items), agent, answer, options.cache, force.registry)
        with MapProgress(total=len(calls), done=0) as progress:
            async with interruptible(force) as interruption:
                report = await force.warm_cache(
                    calls,
                    batch=batch,
                    wait=wait,
                    on_look=waiting_teller(),
                    on_outcome=progress.take,
                )
    if options.as_json:
        print_json(_json(report))
    else:
        click.echo(f"{items}: {_told(report)}")
    if interruption.count:
        raise click.Abort
    if report.failures:
        raise PartialFailureError(_failures(report))


def _told(report: WarmReport) -> str:
    parts = [
        f"{report.items - report.repeated:,} answers: {report.present:,} were in the cache, {report.fetched:,} are now"
    ]
    if report.unkept:
        parts.append(f"{report.unkept:,} by another model are not kept")
    if report.waiting:
        parts.append(f"{report.waiting:,} are waited for")
    if report.failures:
        parts.append(f"{len(report.failures):,} failed")
    repeated = (
        f" Lines that ask what another one asks: {report.repeated:,}." if report.repeated else ""
    )
    return f"{', '.join(parts)}. {dollars(report.cost_usd)}.{repeated}"


def _json(report: WarmReport) -> dict[str, Any]:
    return {
        "items": report.items,
        "repeated": report.repeated,
        "present": report.present,
        "fetched": report.fetched,
        "unkept": report.unkept,
        "waiting": report.waiting,
        "cost_usd": None if report.cost_usd is None else f"{report.cost_usd:f}",
        "failures": [
            {"id": one.item_id, "agent": one.agent_name, "error": error_json(one.error)}
            for one in report.failures
            if one.error is not None
        ],
    }


def _failures(report: WarmReport) -> str:
    named = "\n".join(
        f"  {one.item_id} ({one.agent_name}): {one.error}" for one in report.failures[:_MOST_NAMED]
    )
    more = len(report.failures) - _MOST_NAMED
    rest = f"\n  … and {more} more" if more > 0 else ""
    return (
        f"{len(report.failures)} of {report.items} lines have no answer:\n{named}{rest}\n"
        "Run the same command again to ask for those."
    )
