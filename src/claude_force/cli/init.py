"""``init``: a set of agents and workflows to start from."""

from __future__ import annotations

from pathlib import Path

import click

from claude_force.cli.options import json_option


@click.command()
@click.argument(
    "folder", required=False, default=".", type=click.Path(path_type=Path), metavar="[DIR]"
)
@click.option("--force", is_flag=True, help="Overwrite files that you have changed.")
@json_option
def init(folder: Path, force: bool, as_json: bool) -> None:
    """Write .claude/ with ten agents and five workflows into DIR (here by default)."""
    from claude_force.agents.scaffold import write_starter

    report = write_starter(folder, force=force)
    if as_json:
        from claude_force.cli.render import print_json

        print_json(
            {
                "folder": str(report.folder),
                "created": list(report.created),
                "overwritten": list(report.overwritten),
                "kept": list(report.kept),
                "unchanged": list(report.unchanged),
            }
        )
        return
    for verb, names in (
        ("created", report.created),
        ("overwritten", report.overwritten),
        ("kept, since you have changed it", report.kept),
        ("unchanged", report.unchanged),
    ):
        for name in names:
            click.echo(f"{name}: {verb}")
    click.echo("\nNext:")
    click.echo("  claude-force agents list")
    click.echo(
        '  claude-force run workflow review --task "Review this" -f src --simulate   # no key, no model'
    )
    click.echo(
        "  export ANTHROPIC_API_KEY=…                                              # then without --simulate"
    )
