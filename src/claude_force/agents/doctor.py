"""Says what is wrong with agents before a run does: ``claude-force agents check``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from claude_force.agents.cleaning import hidden_characters
from claude_force.agents.known_tools import is_known_tool, similar_tool
from claude_force.domain.models import (
    model_class,
    model_facts,
    prompt_cache_minimum,
    resolve_model,
    retirement_date,
)
from claude_force.domain.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from pathlib import Path

    from claude_force.agents.loading import LoadedAgent, NotAnAgent
    from claude_force.agents.registry import AgentRegistry, RegistryReport, ShadowedAgent
    from claude_force.domain.agents import AgentDefinition

Severity = Literal["error", "warning", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "info")

_RETIREMENT_NOTICE: Final = timedelta(days=90)
_LENIENT_HINT: Final = "Claude Code drops such a file without a word. Put the value into double quotes, or the text under `|`."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found in one file."""

    severity: Severity
    path: Path
    # What is so, in one sentence without a full stop.
    message: str
    # What to do about it; empty where there is nothing to do.
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PromptSize:
    """How large an agent's prompt is, and whether the prompt cache can hold it."""

    agent_name: str
    path: Path
    model: str
    # Estimated.
    prompt_tokens: int
    # The shortest prefix that the cache of this model keeps.
    cache_minimum_tokens: int

    @property
    def cacheable(self) -> bool:
        """True when the prompt alone reaches the minimum."""
        return self.prompt_tokens >= self.cache_minimum_tokens


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Everything that was found."""

    # Errors first, then by path.
    findings: tuple[Finding, ...]
    # One for each agent that can be asked for, sorted by name.
    prompt_sizes: tuple[PromptSize, ...]

    @property
    def ok(self) -> bool:
        """True when no finding is an error."""
        return not self.count("error")

    @property
    def agent_count(self) -> int:
        """Agents that can be asked for."""
        return len(self.prompt_sizes)

    def count(self, severity: Severity) -> int:
        """How many findings are of this severity."""
        return sum(finding.severity == severity for finding in self.findings)


def check(registry: AgentRegistry, *, today: date) -> DoctorReport:
    """Everything that can be said about the agents of ``registry`` without asking a model.

    ``today`` decides which models are retired. Reads each file once and changes nothing.
    """
    report = registry.report()
    findings = sorted(
        _findings(report, today),
        key=lambda found: (SEVERITIES.index(found.severity), found.path, found.message),
    )
    return DoctorReport(
        tuple(findings), tuple(_prompt_size(agent.definition) for agent in report.agents)
    )


def _findings(report: RegistryReport, today: date) -> Iterator[Finding]:
    for problem in report.not_agents:
        yield _not_an_agent(problem)
    for shadowed in report.shadowed:
        yield _shadowed(shadowed)
    for loaded in report.agents:
        agent = loaded.definition
        yield from _notes(loaded)
        yield from _tools(agent)
        yield from _model(agent, today)
        yield from _text(agent)


def _not_an_agent(problem: NotAnAgent) -> Finding:
    if problem.kind == "documentation":
        return Finding("info", problem.path, f"documentation: {problem.reason}", problem.hint)
    return Finding("error", problem.path, f"not an agent: {problem.reason}", problem.hint)


def _shadowed(shadowed: ShadowedAgent) -> Finding:
    if shadowed.scope == shadowed.winner_scope:
        return Finding(
            "warning",
            shadowed.path,
            f"duplicate: the name {shadowed.name!r} is already that of {str(shadowed.winner)!r}, which is used",
            "Rename one of them or remove it.",
        )
    return Finding(
        "info",
        shadowed.path,
        f"hidden: {shadowed.name!r} of the {shadowed.winner_scope} scope is used, {str(shadowed.winner)!r}",
    )


def _notes(loaded: LoadedAgent) -> Iterator[Finding]:
    agent = loaded.definition
    for note in loaded.notes:
        hint = _LENIENT_HINT if "lenient rule" in note or "blank lines" in note else ""
        yield Finding("warning", agent.path, note, hint)
    if agent.path.stem != agent.name and agent.scope != "registry":
        yield Finding(
            "info",
            agent.path,
            f"the agent is called {agent.name!r}, unlike its file",
            "The name counts.",
        )


def _tools(agent: AgentDefinition) -> Iterator[Finding]:
    for entry in (*(agent.tools or ()), *agent.disallowed_tools):
        if is_known_tool(entry):
            continue
        similar = similar_tool(entry)
        hint = (
            f"Did you mean {similar!r}?"
            if similar
            else "A tool of a server is called mcp__server__tool."
        )
        yield Finding("warning", agent.path, f"unknown tool {entry!r}", hint)


def _model(agent: AgentDefinition, today: date) -> Iterator[Finding]:
    model = resolve_model(agent.model)
    retired_on = retirement_date(model)
    hint = f"Write `model: {_successor(model)}`, which always means the newest."
    if retired_on is not None and retired_on <= today:
        yield Finding(
            "error", agent.path, f"the model {model!r} is retired since {retired_on}", hint
        )
    elif retired_on is not None and retired_on - today <= _RETIREMENT_NOTICE:
        yield Finding("warning", agent.path, f"the model {model!r} retires on {retired_on}", hint)
    elif retired_on is None and model_facts(model) is None:
        yield Finding(
            "warning",
            agent.path,
            f"unknown model {model!r}",
            "It is sent as it is. Known are the aliases sonnet, opus, haiku and fable, and full ids.",
        )


def _successor(model: str) -> str:
    family = model_class(model)
    return family if family in {"fable", "opus", "sonnet", "haiku"} else "sonnet"


def _text(agent: AgentDefinition) -> Iterator[Finding]:
    hidden = hidden_characters(agent.prompt) + hidden_characters(agent.description)
    if hidden:
        yield Finding(
            "warning",
            agent.path,
            f"{hidden} hidden or control characters, which are not sent",
            "They can carry instructions that a reader does not see: find out who wrote them.",
        )


def _prompt_size(agent: AgentDefinition) -> PromptSize:
    model = resolve_model(agent.model)
    return PromptSize(
        agent.name, agent.path, model, estimate_tokens(agent.prompt), prompt_cache_minimum(model)
    )
