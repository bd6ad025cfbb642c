"""The group ``metrics``: what calls took and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from claude_force.assembly.lookup import find_settings
from claude_force.cli.durations import age
from claude_force.cli.metrics_export import export
from claude_force.cli.metrics_options import (
    metrics_path,
    nothing_recorded,
    opened,
    place_options,
    query_options,
    tell_how,
)
from claude_force.cli.metrics_savings import savings
from claude_force.cli.metrics_serve import serve
from claude_force.cli.options import config_option
from claude_force.cli.render import dollars, print_json
from claude_force.config.environment import read_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from claude_force.metrics.queries import Dimension, Group

_NO_WORKFLOW = "(no workflow)"


@click.group()
def metrics() -> None:
    """Show what calls took and cost, and whether something is wrong."""


@metrics.command()
@query_options
def summary(  # noqa: PLR0917 - click passes options by name
    since: float,
    agent: str | None,
    explain: bool,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Show everything in a few lines: calls, success, latency, tokens, dollars, savings."""
    from claude_force.cli.metrics_tables import print_summary, totals_json

    with opened(folder, simulated=simulated) as reader:
        answer = reader.summary(since, agent=agent)
        saved = reader.savings(since, agent=agent).value.prompt_cache_usd
    totals = answer.value.totals
    if as_json:
        began = None if answer.since is None else answer.since.isoformat()
        print_json(
            {
                "since": began,
                **totals_json(totals),
                "saved_by_prompt_cache_usd": f"{saved:f}",
            }
        )
    elif not totals.calls:
        click.echo(nothing_recorded(since, agent, folder, simulated=simulated))
    else:
        print_summary(
            totals,
            since=f"in the last {age(since)}",
            # Less than nothing where writes were not read.
            prompt_cache_usd=f"{'-' if saved < 0 else ''}{dollars(abs(saved))}" if saved else None,
        )
    tell_how(answer, explain=explain)


metrics.add_command(export)
metrics.add_command(savings)
metrics.add_command(serve)


@metrics.command()
@query_options
def agents(**options: Any) -> None:  # noqa: ANN401 - click's keyword arguments
    """Show each agent: calls, failures, latency, tokens, dollars; the dearest first."""
    _show(("agent",), "agent", lambda group: group.agent or "", **options)


@metrics.command()
@query_options
def models(**options: Any) -> None:  # noqa: ANN401 - as above
    """Show each model that answered."""
    _show(("model",), "model", lambda group: group.model or "", **options)


@metrics.command()
@query_options
def workflows(**options: Any) -> None:  # noqa: ANN401 - as above
    """Show each workflow, and the calls outside of any."""
    _show(("workflow",), "workflow", lambda group: group.workflow or _NO_WORKFLOW, **options)


@metrics.command()
@query_options
def costs(**options: Any) -> None:  # noqa: ANN401 - as above
    """Show what each agent spent on each model; the dearest first."""
    _show(("agent", "model"), "agent · model", lambda one: f"{one.agent} · {one.model}", **options)


@metrics.command()
@click.option(
    "--by", type=click.Choice(["hour", "day"]), default="day", show_default=True, help="In UTC."
)
@query_options
def trends(by: Dimension, **options: Any) -> None:  # noqa: ANN401 - as above
    """Show one line for each hour or day in which there were calls."""

    def name(group: Group) -> str:
        assert group.start is not None  # noqa: S101 - it is grouped by time
        return group.start.strftime("%Y-%m-%d %H:00" if by == "hour" else "%Y-%m-%d")

    _show((by,), f"{by} (UTC)", name, **options)


@metrics.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=10, show_default=True)
@query_options
def slowest(  # noqa: PLR0917 - click passes options by name
    limit: int,
    since: float,
    agent: str | None,
    explain: bool,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Show the calls that took longest."""
    from claude_force.cli.metrics_tables import print_calls
    from claude_force.metrics.export import row_json

    with opened(folder, simulated=simulated) as reader:
        answer = reader.slowest(since, limit=limit, agent=agent)
    if as_json:
        print_json([row_json(call) for call in answer.value])
    elif not answer.value:
        click.echo(nothing_recorded(since, agent, folder, simulated=simulated))
    else:
        print_calls(answer.value)
    tell_how(answer, explain=explain)


@metrics.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=10, show_default=True)
@query_options
def failures(  # noqa: PLR0917 - as above
    limit: int,
    since: float,
    agent: str | None,
    explain: bool,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Show which errors ended calls, how often, and the last such calls."""
    from claude_force.cli.metrics_tables import print_calls, print_failure_counts
    from claude_force.metrics.export import row_json

    with opened(folder, simulated=simulated) as reader:
        counts = reader.failure_counts(since, agent=agent)
        answer = reader.failures(since, limit=limit, agent=agent)
    if as_json:
        kinds = [
            {
                "error_kind": one.error_kind,
                "agent": one.agent,
                "calls": one.calls,
                "last_at": one.last_at.isoformat(),
            }
            for one in counts.value
        ]
        print_json({"counts": kinds, "last": [row_json(call) for call in answer.value]})
    elif not counts.value:
        click.echo(f"No call failed in the last {age(since)}.")
    else:
        print_failure_counts(counts.value)
        click.echo()
        print_calls(answer.value)
    tell_how(answer, explain=explain)


@metrics.command()
@click.option("--check", is_flag=True, help="Exit code 1 when an alert fires: for cron and CI.")
@config_option
@place_options
@click.pass_context
def alerts(  # noqa: PLR0917 - as above
    ctx: click.Context,
    check: bool,
    config: Path | None,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Show what is wrong: error rate, latency, cost, cache, and hours that are unlike earlier days."""
    from claude_force.cli.metrics_tables import alert_json, print_alerts
    from claude_force.metrics.monitoring import check_alerts

    settings = find_settings(config, read_environment()).metrics.alerts
    found = check_alerts(metrics_path(folder, simulated=simulated), settings)
    fires = any(alert.state == "firing" for alert in found)
    if as_json:
        print_json({"firing": fires, "alerts": [alert_json(alert) for alert in found]})
    else:
        print_alerts(found)
    if check and fires:
        ctx.exit(1)


def _show(  # noqa: PLR0917 - as above
    by: Sequence[Dimension],
    head: str,
    name: Callable[[Group], str],
    since: float,
    agent: str | None,
    explain: bool,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    from claude_force.cli.metrics_tables import group_json, print_groups

    with opened(folder, simulated=simulated) as reader:
        answer = reader.grouped(by, since, agent=agent)
    groups = answer.value
    if as_json:
        print_json([group_json(group) for group in groups])
    elif not groups:
        click.echo(nothing_recorded(since, agent, folder, simulated=simulated))
    else:
        print_groups(head, groups, [name(group) for group in groups])
    tell_how(answer, explain=explain)
