"""Where agents are looked for, highest scope first: explicit, registry, project, user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from claude_force.domain.agents import AgentScope


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentScopes:
    """The places that hold agents. A folder that does not exist yet may be named: it is looked at each time."""

    # The folder of `--agents`; unlike the others it has to exist.
    explicit: Path | None = None
    # The `agents` object of claude.json: name -> {"file" or "path", "domains", "priority"}.
    registry: Mapping[str, object] = field(default_factory=dict)
    # The folder of claude.json, out of which no registered file may lead.
    registry_folder: Path | None = None
    # `.claude/agents` of a project, the nearest first.
    project: tuple[Path, ...] = ()
    # `.claude/agents` of the user.
    user: Path | None = None

    def folders(self) -> tuple[tuple[AgentScope, Path], ...]:
        """Every folder that is scanned after the registry, or before it when explicit, highest first."""
        explicit: tuple[tuple[AgentScope, Path], ...] = (
            (("explicit", self.explicit),) if self.explicit is not None else ()
        )
        project: tuple[tuple[AgentScope, Path], ...] = tuple(
            ("project", folder) for folder in self.project
        )
        user: tuple[tuple[AgentScope, Path], ...] = (
            (("user", self.user),) if self.user is not None else ()
        )
        return explicit + project + user


def discover_scopes(
    cwd: Path,
    home: Path,
    *,
    explicit: Path | None = None,
    registry: Mapping[str, object] | None = None,
    registry_folder: Path | None = None,
) -> AgentScopes:
    """The scopes as seen from the folder ``cwd`` by the user whose home is ``home``.

    Project folders are the ``.claude/agents`` of ``cwd`` and of each folder above it, up to and including the one that
    holds ``.git``, or the root of the file system. The user's own folder never counts as a project's.
    """
    user = home / ".claude" / "agents"
    project: list[Path] = []
    cwd = cwd.absolute()
    for folder in (cwd, *cwd.parents):
        candidate = folder / ".claude" / "agents"
        if candidate != user:
            project.append(candidate)
        if (folder / ".git").exists():
            break
    return AgentScopes(
        explicit=explicit,
        registry=registry or {},
        registry_folder=registry_folder,
        project=tuple(project),
        user=user,
    )
