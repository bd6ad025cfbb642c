"""``dashboard``: a page in the browser that shows what runs, while it runs."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from claude_force.cli.options import config_option, json_option


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8790,
    show_default=True,
    help="0 takes any free port.",
)
@click.option("--browser/--no-browser", default=True, help="Open the page, or only print where it is.")  # fmt: skip
@click.option("--simulated", is_flag=True, help="The calls and runs of --simulate, which lie apart.")  # fmt: skip
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    help="A state folder, in place of the user's own.",
)
@config_option
@json_option
def dashboard(  # noqa: PLR0917 - click passes options by name
    port: int,
    browser: bool,
    simulated: bool,
    folder: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Show calls, costs, alerts, limits and runs in the browser, live, until interrupted.

    It listens on 127.0.0.1 only. The address that is opened holds a token: with it, runs can be paused and cancelled;
    without it, everything can only be looked at.
    """
    from claude_force.cli.metrics_options import metrics_folder
    from claude_force.dashboard.server import Dashboard

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    named = folder is not None or simulated
    place = metrics_folder(folder, simulated=simulated) if named else None
    with Dashboard(state_dir=place, config_path=config, port=port) as served:
        if as_json:
            from claude_force.cli.render import print_json

            print_json({"url": served.url, "address": served.address, "token": served.token})
        else:
            click.echo(f"Dashboard: {served.url}")
            click.echo("Ctrl-C stops it.")
        if browser and click.launch(served.url_for_once()) != 0:
            click.echo("No browser could be opened; open the address yourself.", err=True)
        stop.wait()
    click.echo("The dashboard has stopped.", err=True)
