"""An agent as its file defines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.domain.messages import Effort

AgentScope = Literal["explicit", "registry", "project", "user"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDefinition:
    """One agent: a name, what it is for, and the system prompt that makes it."""

    # Identity, as the frontmatter says; not the file name.
    name: str
    description: str
    # The body of the file: the system prompt.
    prompt: str
    # Where it was read from.
    path: Path
    scope: AgentScope
    # An alias or a full id; None where the file says nothing or `inherit`.
    model: str | None = None
    effort: Effort | None = None
    # Tools that the file grants; None where it says nothing. They are reported, not used: agents answer in text.
    tools: tuple[str, ...] | None = None
    disallowed_tools: tuple[str, ...] = ()
    # user, project or local, where the agent keeps a memory.
    memory: str | None = None
    # From claude.json, where the agent is registered there.
    domains: tuple[str, ...] = ()
    priority: int | None = None
    # Models to ask, in this order, when the agent's own cannot answer; from claude.json.
    fallback: tuple[str, ...] = ()
    # The YAML of the file was not valid and was read by the lenient rule.
    lenient: bool = False
