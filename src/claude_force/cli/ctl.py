"""The group ``ctl``: show and change what all running processes may do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from claude_force.agents.cleaning import clean_text
from claude_force.assembly.lookup import limits_path, limits_redis_url_of, state_folder
from claude_force.cli.options import json_option
from claude_force.cli.render import columns, print_json, terminal_width
from claude_force.config.environment import read_environment

if TYPE_CHECKING:
    from claude_force.resilience.shared_view import SharedState
    from claude_force.resilience.sharing import UserLimits

simulated_option = click.option(
    "--simulated", is_flag=True, help="Those of --simulate, which lie apart."
)


@click.group()
def ctl() -> None:
    """Show and change the limits of every run of this user, while they go on.

    Where machines share them through Redis, those of all machines.
    """


@ctl.command()
@click.option(
    "--max-concurrent",
    type=click.IntRange(0),
    metavar="N",
    help="Requests at the same time, over all processes; 0 for no limit.",
)
@click.option(
    "--rpm",
    type=click.IntRange(0),
    metavar="N",
    help="Requests a minute, over all processes; 0 for no limit.",
)
@simulated_option
@json_option
def limits(max_concurrent: int | None, rpm: int | None, simulated: bool, as_json: bool) -> None:
    """Show the limits, or change them; runs feel a change within a second."""
    if max_concurrent is not None or rpm is not None:
        _change(simulated=simulated, max_concurrent=max_concurrent, requests_per_minute=rpm)
    _show(simulated=simulated, as_json=as_json)


@ctl.command()
@simulated_option
@json_option
def pause(simulated: bool, as_json: bool) -> None:
    """Let no further request out; what is under way goes on."""
    _change(simulated=simulated, paused=True)
    _show(simulated=simulated, as_json=as_json)


@ctl.command()
@simulated_option
@json_option
def resume(simulated: bool, as_json: bool) -> None:
    """Let requests out again."""
    _change(simulated=simulated, paused=False)
    _show(simulated=simulated, as_json=as_json)


def shared_server(*, simulated: bool) -> str | None:
    """The Redis server in which machines share limits, if there is one; simulated runs share nothing."""
    return None if simulated else limits_redis_url_of(None, read_environment())


def shared_state(*, simulated: bool) -> SharedState | None:
    """What runs share: those of all machines, or of this one; None if there is nothing yet."""
    server = shared_server(simulated=simulated)
    if server is not None:
        from claude_force.resilience.redis_view import read_redis_state

        return read_redis_state(server)
    from claude_force.resilience.shared_view import read_state

    return read_state(limits_path(state_folder(read_environment(), simulated=simulated)))


def limits_json(user_limits: UserLimits) -> dict[str, Any]:
    """What the user allows, as JSON."""
    return {
        "max_concurrent": user_limits.max_concurrent,
        "requests_per_minute": user_limits.requests_per_minute,
        "paused": user_limits.paused,
    }


def clock(epoch_seconds: float) -> str:
    """A moment as a person reads it; the date stands there unless it is today's."""
    moment = datetime.fromtimestamp(epoch_seconds, UTC)
    is_today = moment.date() == datetime.now(UTC).date()
    return moment.strftime("%H:%M:%S UTC" if is_today else "%Y-%m-%d %H:%M:%S UTC")


def _change(*, simulated: bool, **changes: Any) -> None:  # noqa: ANN401 - keyword arguments, passed on
    server = shared_server(simulated=simulated)
    if server is not None:
        from claude_force.resilience.redis_view import change_redis_limits

        change_redis_limits(server, **changes)
        return
    from claude_force.resilience.shared_view import change_limits

    path = limits_path(state_folder(read_environment(), simulated=simulated))
    change_limits(path, **changes)


def _show(*, simulated: bool, as_json: bool) -> None:
    from claude_force.resilience.sharing import UserLimits

    state = shared_state(simulated=simulated)
    user_limits = UserLimits() if state is None else state.user_limits
    processes = () if state is None else state.processes
    if as_json:
        running = [
            {
                "pid": one.pid,
                "host": one.host,
                "in_flight": one.in_flight,
                "waiting": one.waiting,
            }
            for one in processes
        ]
        print_json(limits_json(user_limits) | {"processes": running})
        return
    click.echo(f"paused: {'yes' if user_limits.paused else 'no'}")
    click.echo(f"max concurrent, all processes: {user_limits.max_concurrent or 'no limit'}")
    click.echo(f"requests a minute, all processes: {user_limits.requests_per_minute or 'no limit'}")
    rows = [
        (
            f"process {one.pid}" + (f" on {clean_text(one.host)}" if one.host else ""),
            f"{one.in_flight} under way",
            f"{one.waiting} waiting",
        )
        for one in processes
    ]
    for line in columns(rows, width=terminal_width()) or ["no process is running"]:
        click.echo(line)
