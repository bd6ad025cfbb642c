"""``simulate``: the simulator as a server."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import click

from claude_force.cli.options import json_option

if TYPE_CHECKING:
    from claude_force.simulator import Simulator


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8787,
    show_default=True,
    help="0 takes any free port.",
)
@click.option(
    "--scenario",
    default="calm",
    show_default=True,
    metavar="NAME|FILE",
    help="How it behaves: a name or a JSON file.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Equal seeds give equal answers and faults.",
)
@click.option("--api-key", help="Accept this key only; any key is accepted otherwise.")
@click.option(
    "--control-token", help="Token of the control endpoint; a random one is printed otherwise."
)
@click.option("--list", "list_scenarios", is_flag=True, help="List the scenarios and leave.")
@json_option
def simulate(  # noqa: PLR0917 - click passes options by name
    port: int,
    scenario: str,
    seed: int,
    api_key: str | None,
    control_token: str | None,
    list_scenarios: bool,
    as_json: bool,
) -> None:
    """Serve the Messages API on 127.0.0.1, without any model behind it, until interrupted."""
    from claude_force.simulator import Simulator

    if list_scenarios:
        _list(as_json=as_json)
        return
    simulator = Simulator(
        scenario=scenario,
        port=port,
        seed=seed,
        required_api_key=api_key,
        control_token=control_token,
    )
    asyncio.run(_serve(simulator, scenario, api_key=api_key, as_json=as_json))


async def _serve(
    simulator: Simulator, scenario: str, *, api_key: str | None, as_json: bool
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with simulator:
        _greet(simulator, scenario, api_key=api_key, as_json=as_json)
        await stop.wait()
    click.echo("The simulator has stopped.", err=True)


def _greet(simulator: Simulator, scenario: str, *, api_key: str | None, as_json: bool) -> None:
    if as_json:
        from claude_force.cli.render import print_json

        print_json(
            {
                "base_url": simulator.base_url,
                "control_token": simulator.control_token,
                "scenario": scenario,
            }
        )
        return
    click.echo(
        f"Simulator of the Messages API, scenario {scenario!r}. No model runs; the answers are made up."
    )
    click.echo("In another terminal:")
    click.echo(
        f"  export ANTHROPIC_BASE_URL={simulator.base_url} ANTHROPIC_API_KEY={api_key or 'simulated'}"
    )
    click.echo(
        f"Control: {simulator.base_url}/_simulator/ with the header x-simulator-token: {simulator.control_token}"
    )
    click.echo("Ctrl-C stops it.")


def _list(*, as_json: bool) -> None:
    from claude_force.cli.render import columns, print_json, terminal_width
    from claude_force.simulator.scenarios import SCENARIOS

    if as_json:
        print_json([{"name": name, "summary": one.summary} for name, one in SCENARIOS.items()])
        return
    for line in columns(
        [(name, one.summary) for name, one in SCENARIOS.items()], width=terminal_width()
    ):
        click.echo(line)
