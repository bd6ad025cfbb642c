"""The group ``agents``: list, show and check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_force.assembly.lookup import build_registry, find_settings
from claude_force.cli.options import agents_option, config_option, json_option
from claude_force.cli.render import columns, print_json, print_text, terminal_width
from claude_force.config.environment import read_environment
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from claude_force.agents.doctor import DoctorReport
    from claude_force.agents.registry import AgentRegistry
    from claude_force.domain.agents import AgentDefinition


@click.group()
def agents() -> None:
    """List, show and check agents."""


@agents.command("list")
@config_option
@agents_option
@json_option
def list_agents(config: Path | None, agents: Path | None, as_json: bool) -> None:
    """List every agent that can be run."""
    registry = _registry(config, agents)
    report = registry.report()
    definitions = [agent.definition for agent in report.agents]
    if as_json:
        print_json([_agent_json(definition) for definition in definitions])
    else:
        rows = [
            (one.name, one.model or "default", one.scope, one.description) for one in definitions
        ]
        for line in columns(rows, width=terminal_width()):
            click.echo(line)
    click.echo(
        _count_line(len(definitions), len(report.not_agents), len(report.shadowed)), err=True
    )


@agents.command()
@click.argument("name")
@config_option
@agents_option
@json_option
def show(name: str, config: Path | None, agents: Path | None, as_json: bool) -> None:
    """Show the agent NAME: where it comes from, what it may do, and its prompt."""
    definition = _registry(config, agents).get(name)
    if as_json:
        print_json(_agent_json(definition) | {"prompt": definition.prompt})
        return
    tools = ", ".join(definition.tools) if definition.tools is not None else "not stated"
    for label, value in (
        ("name", definition.name),
        ("description", definition.description),
        ("model", definition.model or "default"),
        ("effort", definition.effort or "default"),
        ("tools", f"{tools} (not used here: agents answer in text)" if definition.tools else tools),
        ("from", f"{definition.path} ({definition.scope})"),
    ):
        print_text(f"{label + ':':13}{value}")
    print_text(f"\n{definition.prompt}")


@agents.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
@config_option
@json_option
@click.option("--verbose", "-v", is_flag=True, help="Show notes too, and the size of every prompt.")
@click.pass_context
def check(
    ctx: click.Context, folder: Path | None, config: Path | None, as_json: bool, verbose: bool
) -> None:
    """Check every agent, of DIR or of all places; exit code 1 if something is wrong."""
    from datetime import UTC, datetime

    from claude_force.agents.doctor import check as examine

    registry = _registry(config, None) if folder is None else _registry_of(folder)
    report = examine(registry, today=datetime.now(UTC).date())
    if as_json:
        print_json(_report_json(report))
    else:
        _print_report(report, verbose=verbose)
    if not report.ok:
        ctx.exit(1)


def _registry(config: Path | None, folder: Path | None) -> AgentRegistry:
    environment = read_environment()
    return build_registry(find_settings(config, environment), environment, agents_dir=folder)


def _registry_of(folder: Path) -> AgentRegistry:
    """A registry over one folder and nothing else."""
    from claude_force.agents.registry import AgentRegistry
    from claude_force.agents.scopes import AgentScopes

    return AgentRegistry(AgentScopes(explicit=folder))


def _agent_json(definition: AgentDefinition) -> dict[str, Any]:
    return {
        "name": definition.name,
        "description": definition.description,
        "model": definition.model,
        "effort": definition.effort,
        "tools": None if definition.tools is None else list(definition.tools),
        "scope": definition.scope,
        "path": str(definition.path),
        "domains": list(definition.domains),
        "priority": definition.priority,
        "lenient": definition.lenient,
    }


def _report_json(report: DoctorReport) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "agents": report.agent_count,
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "findings": [
            {
                "severity": finding.severity,
                "path": str(finding.path),
                "message": finding.message,
                "hint": finding.hint,
            }
            for finding in report.findings
        ],
        "prompts": [
            {
                "agent": size.agent_name,
                "model": size.model,
                "tokens": size.prompt_tokens,
                "prompt_cache_minimum_tokens": size.cache_minimum_tokens,
                "cacheable": size.cacheable,
            }
            for size in report.prompt_sizes
        ],
    }


def _print_report(report: DoctorReport, *, verbose: bool) -> None:
    for finding in report.findings:
        if finding.severity == "info" and not verbose:
            continue
        print_text(f"{finding.severity}: {finding.path}: {finding.message}")
        if finding.hint:
            print_text(f"    {finding.hint}")
    if verbose:
        rows = [
            (
                size.agent_name,
                size.model,
                f"{size.prompt_tokens:,}",
                "reaches" if size.cacheable else "below",
                f"{size.cache_minimum_tokens:,}",
            )
            for size in report.prompt_sizes
        ]
        click.echo(
            "\nPrompt sizes in tokens (estimated) against the prompt-cache minimum of the model:"
        )
        for line in columns(rows, width=terminal_width()):
            click.echo(line)
    cacheable = sum(size.cacheable for size in report.prompt_sizes)
    click.echo(
        f"{counted(report.agent_count, 'agent')}: {counted(report.count('error'), 'error')}, "
        f"{counted(report.count('warning'), 'warning')}, {counted(report.count('info'), 'note')}"
        f"{'' if verbose else ' (-v shows notes)'}. "
        f"Prompts that reach the prompt-cache minimum of their model: {cacheable}."
    )


def _count_line(agents: int, not_agents: int, shadowed: int) -> str:
    if not agents and not not_agents:
        return "0 agents. `claude-force init` writes some."
    parts = [counted(agents, "agent")]
    if not_agents:
        parts.append(f"{counted(not_agents, 'file')} without one")
    if shadowed:
        parts.append(f"{shadowed} hidden by another of the same name")
    more = " (claude-force agents check says why)" if len(parts) > 1 else ""
    return ", ".join(parts) + more
