"""Finds agents by name, in scopes, and never gives a stale one.

Which file wins, when several hold an agent of the same name:

1. the highest scope: explicit, then the registry of claude.json, then project folders (the nearest first), then user;
2. within a folder, a file called ``<name>.md`` before any other;
3. then the one that stands least deep;
4. then the first by path.

So ``get`` may look at ``<name>.md`` first and, finding it there, need not read the other files of that folder.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from claude_force.agents.folders import AgentFiles, list_folder
from claude_force.agents.loading import LoadedAgent, NotAnAgent
from claude_force.agents.names import check_agent_name
from claude_force.agents.registered import RegisteredAgents
from claude_force.domain.errors import AgentDefinitionError, AgentNotFoundError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from claude_force.agents.scopes import AgentScopes
    from claude_force.domain.agents import AgentDefinition, AgentScope


@dataclass(frozen=True, slots=True)
class ShadowedAgent:
    """An agent that another one of the same name hides."""

    name: str
    path: Path
    scope: AgentScope
    # The file that is used instead, and its scope.
    winner: Path
    winner_scope: AgentScope


@dataclass(frozen=True, slots=True)
class RegistryReport:
    """Everything that the scopes hold."""

    # Agents that can be asked for, sorted by name.
    agents: tuple[LoadedAgent, ...]
    # Files that are no agents, sorted by path.
    not_agents: tuple[NotAnAgent, ...]
    # Agents that another of the same name hides, sorted by name and path.
    shadowed: tuple[ShadowedAgent, ...]


class AgentRegistry:
    """The agents of some scopes.

    Files are parsed when they are first needed and again when they changed, which every call notices. Reading is
    blocking and short: a call for one agent reads one file as a rule, a list reads each file once.
    """

    def __init__(self, scopes: AgentScopes, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.scopes = scopes
        self._files = AgentFiles(now_ns)
        self._registered = RegisteredAgents(scopes.registry, scopes.registry_folder, self._files)
        self._explicit = (
            None if scopes.explicit is None else _Folder("explicit", scopes.explicit, self._files)
        )
        self._folders = [_Folder("project", folder, self._files) for folder in scopes.project]
        if scopes.user is not None:
            self._folders.append(_Folder("user", scopes.user, self._files))

    @property
    def file_reads(self) -> int:
        """How many times a file was opened so far."""
        return self._files.reads

    def get(self, name: str) -> AgentDefinition:
        """The agent called ``name``.

        Raises:
            InvalidAgentNameError: no agent can have that name.
            AgentNotFoundError: no scope has it; the message names close matches and where was looked.
            AgentDefinitionError: the file that should hold it is no agent; the message says why.
        """
        check_agent_name(name)
        for source in self._sources():
            found = source.find(name)
            if found is not None:
                return found.definition
        raise self._not_found(name)

    def list(self) -> tuple[AgentDefinition, ...]:
        """Every agent that can be asked for, sorted by name."""
        return tuple(agent.definition for agent in self.report().agents)

    def report(self) -> RegistryReport:
        """Every agent, every file that is none, and every agent that another hides."""
        winners: dict[str, LoadedAgent] = {}
        not_agents: dict[Path, NotAnAgent] = {}
        shadowed: list[ShadowedAgent] = []
        for source in self._sources():
            for loaded in source.all():
                if isinstance(loaded, NotAnAgent):
                    not_agents.setdefault(loaded.path, loaded)
                    continue
                agent = loaded.definition
                winner = winners.setdefault(agent.name, loaded).definition
                if winner is not agent and not _same_file(winner.path, agent.path):
                    shadowed.append(
                        ShadowedAgent(
                            agent.name, agent.path, agent.scope, winner.path, winner.scope
                        )
                    )
        return RegistryReport(
            tuple(winners[name] for name in sorted(winners)),
            tuple(not_agents[path] for path in sorted(not_agents)),
            tuple(sorted(shadowed, key=lambda entry: (entry.name, entry.path))),
        )

    def _sources(self) -> Iterator[_Folder | RegisteredAgents]:
        explicit = self.scopes.explicit
        if explicit is not None and self._explicit is not None:
            yield self._explicit
            # Asked only of who found nothing in it: a call for one agent looks at one file and nothing else.
            if not explicit.is_dir():
                raise ConfigError(
                    f"The folder of agents {str(explicit)!r} does not exist. Give the path of a folder."
                )
        yield self._registered
        yield from self._folders

    def _not_found(self, name: str) -> AgentNotFoundError | AgentDefinitionError:
        report = self.report()
        for problem in report.not_agents:
            if problem.path.stem == name:
                return AgentDefinitionError(
                    f"Agent {name!r} not found: {str(problem.path)!r} is not an agent: {problem.reason}. "
                    f"{problem.hint}"
                )
        from difflib import get_close_matches  # noqa: PLC0415  only for this message

        names = [agent.definition.name for agent in report.agents]
        close = (
            get_close_matches(name, names, n=3)
            or [known for known in names if name.lower() in known.lower()][:3]
        )
        advice = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        return AgentNotFoundError(
            f"Agent {name!r} not found among {len(names)} agents.{advice} Searched: {self._searched()}."
        )

    def _searched(self) -> str:
        """The places that exist; where none does, the one to create."""
        scopes = self.scopes
        places = [f"claude.json ({len(scopes.registry)} agents)"] if scopes.registry else []
        folders = scopes.folders()
        places += [f"{scope} {folder}" for scope, folder in folders if folder.is_dir()]
        if not places and folders:
            return f"no folder of agents exists yet; create one with `claude-force init`, or {folders[0][1]}"
        return ", ".join(places) or "nothing, as no scope is set"


class _Folder:
    """One folder of agents, scanned with everything below it."""

    def __init__(self, scope: AgentScope, folder: Path, files: AgentFiles) -> None:
        self._scope = scope
        self._folder = folder
        self._files = files

    def find(self, name: str) -> LoadedAgent | None:
        found = self._agent(f"{self._folder}{os.sep}{name}.md", name)
        if found is not None:
            return found
        files = list_folder(self._folder).files
        ordered = sorted(files, key=lambda file: _rank(name, *file))
        for path, _ in ordered:
            if (found := self._agent(path, name)) is not None:
                return found
        return None

    def all(self) -> Iterator[LoadedAgent | NotAnAgent]:
        """Everything in the folder; of agents with the same name the one that wins first."""
        listing = list_folder(self._folder)
        yield from listing.unreadable
        agents: list[tuple[tuple[bool, int, str], LoadedAgent]] = []
        for path, depth in listing.files:
            loaded = self._load(path)
            if isinstance(loaded, LoadedAgent):
                agents.append((_rank(loaded.definition.name, path, depth), loaded))
            elif loaded is not None:
                yield loaded
        agents.sort(key=lambda ranked: ranked[0])
        yield from (loaded for _, loaded in agents)

    def _agent(self, path: str, name: str) -> LoadedAgent | None:
        loaded = self._load(path)
        if isinstance(loaded, LoadedAgent) and loaded.definition.name == name:
            return loaded
        return None

    def _load(self, path: str) -> LoadedAgent | NotAnAgent | None:
        try:
            return self._files.load(path, self._scope)
        except FileNotFoundError as error:
            if Path(path).is_symlink():
                return NotAnAgent(
                    Path(path),
                    "unreadable",
                    f"a link to nothing: {error.strerror}",
                    "Remove or repair it.",
                )
            return None


def _same_file(one: Path, other: Path) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def _rank(name: str, path: str, depth: int) -> tuple[bool, int, str]:
    return (not path.endswith(f"{os.sep}{name}.md"), depth, path)
