"""``metrics export``: every call that is kept, for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_force.cli.metrics_options import explain_option, opened, place_options, since_option
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from claude_force.metrics.export import ExportFormat


@click.command()
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "json", "parquet"]),
    default="csv",
    show_default=True,
    help="Comma-separated, a JSON object a line, or Parquet (the extra `parquet`).",
)
@click.option("--output", type=click.Path(path_type=Path), help="A file, in place of stdout.")
@since_option
@explain_option
@place_options
def export(  # noqa: PLR0917 - click passes options by name
    file_format: ExportFormat,
    output: Path | None,
    since: float,
    explain: bool,
    folder: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Write every call that is kept, the oldest first; dollars are exact."""
    from claude_force.metrics.export import write_rows

    if as_json:
        if file_format == "parquet":
            raise click.UsageError("--json and --format parquet are two formats; leave one out.")
        file_format = "json"
    if file_format == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is no text for a terminal; name a file with --output.")
    with opened(folder, simulated=simulated) as reader:
        if output is None:
            count = write_rows(reader.rows(since), file_format, sys.stdout.buffer)
        else:
            count = reader.export(output, file_format=file_format, since_seconds=since)
    if explain or output is not None:
        calls = counted(count, "call")
        click.echo(f"{output or 'stdout'}: {calls}.", err=True)
