"""The group ``config``: show, check and migrate claude.json."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from claude_force.assembly.lookup import base_url_of, find_settings
from claude_force.cli.options import config_option, json_option
from claude_force.cli.render import print_json
from claude_force.config.environment import read_environment
from claude_force.domain.errors import ConfigError
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from pathlib import Path


@click.group()
def config() -> None:
    """Show, check and migrate claude.json."""


@config.command()
@config_option
@json_option
def show(config: Path | None, as_json: bool) -> None:
    """Show what holds here: every setting, where it comes from, and whether there is a key."""
    environment = read_environment()
    settings = find_settings(config, environment)
    values: dict[str, Any] = {
        "config": str(settings.path) if settings.path else None,
        "performance": asdict(settings.performance),
        "cache": asdict(settings.cache),
        "agents": sorted(settings.agents),
        "workflows": sorted(settings.workflows),
        "base_url": base_url_of(None, environment),
        "api_key": "set" if environment.api_key else "not set",
    }
    if as_json:
        print_json(values)
        return
    click.echo(f"config: {settings.path or 'none found; defaults hold'}")
    for section in ("performance", "cache"):
        for name, value in values[section].items():
            shown = ", ".join(value) or "none" if isinstance(value, tuple) else str(value).lower()
            click.echo(f"{section}.{name}: {shown}")
    for name in ("agents", "workflows"):
        click.echo(f"{name}: {', '.join(values[name]) or 'none registered'}")
    click.echo(f"base_url: {values['base_url']}")
    click.echo(f"api_key: {values['api_key']} (ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN)")


@config.command()
@config_option
@json_option
@click.pass_context
def check(ctx: click.Context, config: Path | None, as_json: bool) -> None:
    """Check claude.json and its workflows; exit code 1 if something is wrong."""
    from claude_force.config.claude_json import check_document, find_config, read_document

    path = config or find_config(read_environment().cwd)
    if path is None:
        raise ConfigError(
            "There is no .claude/claude.json here or above. `claude-force init` writes one."
        )
    problems = check_document(read_document(path))
    errors = [str(problem) for problem in problems if problem.is_error]
    warnings = [str(problem) for problem in problems if not problem.is_error]
    if not errors:
        errors += _workflow_problems(path)
    if as_json:
        print_json({"ok": not errors, "config": str(path), "errors": errors, "warnings": warnings})
    else:
        for kind, texts in (("error", errors), ("warning", warnings)):
            for text in texts:
                click.echo(f"{kind}: {text}")
        click.echo(f"{path}: {counted(len(errors), 'error')}, {counted(len(warnings), 'warning')}.")
    if errors:
        ctx.exit(1)


@config.command()
@config_option
def migrate(config: Path | None) -> None:
    """Write the sections that an older claude.json lacks, keeping a backup beside it."""
    from claude_force.config.claude_json import find_config
    from claude_force.config.migration import migrate as write

    path = config or find_config(read_environment().cwd)
    if path is None:
        raise ConfigError(
            "There is no .claude/claude.json here or above. `claude-force init` writes one."
        )
    migration = write(path)
    if migration is None:
        click.echo(f"{path}: nothing to do.")
    else:
        click.echo(
            f"{path}: added {', '.join(migration.added)}. The file as it was: {migration.backup}"
        )


def _workflow_problems(path: Path) -> list[str]:
    from claude_force.domain.errors import WorkflowDefinitionError
    from claude_force.orchestrator import AsyncAgentOrchestrator

    force = AsyncAgentOrchestrator(path)
    problems: list[str] = []
    for name in force.settings.workflows:
        try:
            force.load_workflow(name)
        except WorkflowDefinitionError as error:
            problems += [
                f"workflows.{name}: {problem}" for problem in error.problems or (str(error),)
            ]
    return problems
