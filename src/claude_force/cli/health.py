"""``health``: is the service there, and how much of its limits is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from claude_force.agents.cleaning import clean_text
from claude_force.cli.ctl import clock, limits_json, shared_state, simulated_option
from claude_force.cli.options import json_option
from claude_force.cli.render import print_json

if TYPE_CHECKING:
    from claude_force.resilience.shared_view import SharedState


@click.command()
@click.option(
    "--check",
    is_flag=True,
    help="Exit code 1 while nothing would be sent, since a breaker is open or the API asks to wait: for scripts.",
)
@simulated_option
@json_option
@click.pass_context
def health(ctx: click.Context, check: bool, simulated: bool, as_json: bool) -> None:
    """Show circuit breakers, last errors and limits, as the runs of this user have seen them. Sends nothing.

    Where machines share them through Redis, as the runs of all machines have seen them.
    """
    state = shared_state(simulated=simulated)
    if state is None:
        if as_json:
            print_json({"healthy": True, "seen": False})
        else:
            click.echo("Nothing is known yet: no run of this user has called the API.")
        return
    if as_json:
        print_json(_state_json(state))
    else:
        _print(state)
    if check and not state.healthy:
        ctx.exit(1)


def _print(state: SharedState) -> None:
    _say("healthy" if state.healthy else "NOT healthy")
    if state.user_limits.paused:
        _say("paused by `claude-force ctl pause`")
    # Whole lines, not columns: a column that has to be cut would hide the figure at its end.
    for key, breaker in state.breakers.items():
        _say(f"breaker  {key}: {_how(state, key)}, {breaker.failures} failures in a row")
    for key, until in state.blocked_until_epoch_seconds.items():
        _say(f"blocked  {key}: the API asks to wait until {clock(until)}")
    for limit in state.limits:
        _say(
            f"limit    {limit.class_key}: {limit.per_minute:,.0f} {limit.kind} a minute, "
            f"{limit.free:,.0f} free at {clock(limit.reported_at_epoch_seconds)}"
        )
    for error in state.errors:
        _say(
            f"error    {error.class_key}: {error.kind}, {error.count} times, last at {clock(error.last_at_epoch_seconds)}"
        )
        _say(f"         {error.message}")


def _say(line: str) -> None:
    """Print what services and other machines have said: nothing in it may steer the terminal."""
    click.echo(clean_text(line))


def _how(state: SharedState, key: str) -> str:
    opened_at, probe_at = state.breakers[key].opened_at, state.next_probe_at(key)
    if opened_at is None or probe_at is None:
        return "closed"
    since = f"open since {clock(opened_at)}"
    match state.phase(key):
        case "probe_due":
            return f"{since}, the next call is the probe"
        case "probing":
            return f"{since}, a probe is under way"
        case _:
            return f"{since}, next probe at {clock(probe_at)}"


def _state_json(state: SharedState) -> dict[str, Any]:
    return {
        "healthy": state.healthy,
        "seen": True,
        "limits": limits_json(state.user_limits),
        "breakers": {
            key: {
                "open": one.opened_at is not None,
                "phase": state.phase(key),
                "next_probe_at": state.next_probe_at(key),
                "last_error": one.errors[-1] if one.errors else None,
                "opened_at": one.opened_at,
                "failures": one.failures,
            }
            for key, one in state.breakers.items()
        },
        "blocked_until": state.blocked_until_epoch_seconds,
        "rate_limits": [
            {
                "class": one.class_key,
                "kind": one.kind,
                "per_minute": one.per_minute,
                "free": one.free,
                "reported_at": one.reported_at_epoch_seconds,
            }
            for one in state.limits
        ],
        "errors": [
            {
                "class": one.class_key,
                "kind": one.kind,
                "message": one.message,
                "count": one.count,
                "last_at": one.last_at_epoch_seconds,
            }
            for one in state.errors
        ],
    }
