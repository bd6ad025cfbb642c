"""``metrics serve``: what Prometheus scrapes."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from claude_force.cli.options import json_option


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9464,
    show_default=True,
    help="0 takes any free port.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="127.0.0.1, localhost or ::1: it answers this machine only.",
)
@click.option(
    "--max-agents",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Agents with a label of their own; the others are one.",
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    help="A state folder, in place of the user's own.",
)
@click.option("--simulated", is_flag=True, help="The calls of --simulate, which lie apart.")
@json_option
def serve(  # noqa: PLR0917 - click passes options by name
    port: int, host: str, max_agents: int, folder: Path | None, simulated: bool, as_json: bool
) -> None:
    """Serve all figures to Prometheus on loopback, until interrupted: calls of every process, limits, breakers."""
    from claude_force.assembly.exporting import serve_prometheus
    from claude_force.cli.metrics_options import metrics_folder

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    named = folder is not None or simulated
    place = metrics_folder(folder, simulated=simulated) if named else None
    with serve_prometheus(place, port=port, host=host, max_agents=max_agents) as server:
        if as_json:
            from claude_force.cli.render import print_json

            print_json({"url": server.url})
        else:
            click.echo(f"Prometheus scrapes: {server.url}")
            click.echo("Ctrl-C stops it.")
        stop.wait()
    click.echo("The server of metrics has stopped.", err=True)
