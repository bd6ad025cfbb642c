"""The agents that claude.json registers by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from claude_force.agents.loading import LoadedAgent, NotAnAgent
from claude_force.agents.names import NAME_RULE, is_agent_name
from claude_force.domain.errors import AgentDefinitionError, AgentNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from claude_force.agents.folders import AgentFiles


class RegisteredAgents:
    """Agents by the names that a registry gives them.

    The registered name counts, also where the file's own name differs. A file has to stay inside the registry's
    folder after links are resolved: a project cannot name files of its user.
    """

    def __init__(
        self, entries: Mapping[str, object], folder: Path | None, files: AgentFiles
    ) -> None:
        self._entries = entries
        self._folder = folder
        self._files = files
        # What an entry came to, by its name, with the reading of its file that it rests on. While the reading is the
        # same, the file is the one that was found to be inside.
        self._known: dict[str, tuple[str, LoadedAgent | NotAnAgent, LoadedAgent]] = {}

    def find(self, name: str) -> LoadedAgent | None:
        """The agent registered as ``name``; None where the registry has no such entry.

        An entry that leads to no agent is an error and does not fall through to a lower scope, where another agent
        may have the same name.

        Raises:
            AgentNotFoundError: the registered file does not exist.
            AgentDefinitionError: the entry or its file cannot be used.
        """
        if name not in self._entries:
            return None
        known = self._unchanged(name)
        if known is not None:
            return known
        loaded = self._load(name, self._entries[name])
        if isinstance(loaded, LoadedAgent):
            return loaded
        error = AgentNotFoundError if loaded.kind == "missing" else AgentDefinitionError
        raise error(
            f"Agent {name!r} not found: claude.json registers {str(loaded.path)!r}: {loaded.reason}. {loaded.hint}"
        )

    def all(self) -> Iterator[LoadedAgent | NotAnAgent]:
        """Every entry, in the order of their names."""
        for name in sorted(self._entries):
            yield self._load(name, self._entries[name])

    def _load(self, name: str, entry: object) -> LoadedAgent | NotAnAgent:
        folder = self._folder or Path()
        if not is_agent_name(name):
            return NotAnAgent(
                folder / "claude.json",
                "invalid_name",
                f"invalid agent name {name!r:.80}",
                f"A name has {NAME_RULE}.",
            )
        fields = entry if isinstance(entry, dict) else {}
        file = fields.get("file", fields.get("path"))
        if not isinstance(file, str) or not file or "\0" in file:
            return NotAnAgent(
                folder / "claude.json",
                "unreadable",
                f"the entry of {name!r} names no file",
                'Write {"file": "agents/my-agent.md"}.',
            )
        path = folder / file
        problem = _outside(path, folder)
        if problem is not None:
            return problem
        try:
            loaded = self._files.load(str(path), "registry")
        except FileNotFoundError:
            return NotAnAgent(
                path, "missing", "the file does not exist", "Correct the path, or remove the entry."
            )
        if isinstance(loaded, NotAnAgent):
            return loaded
        registered = _registered(loaded, name, fields)
        self._known[name] = (str(path), loaded, registered)
        return registered

    def _unchanged(self, name: str) -> LoadedAgent | None:
        known = self._known.get(name)
        if known is None:
            return None
        path, reading, registered = known
        try:
            same = self._files.load(path, "registry") is reading
        except FileNotFoundError:
            same = False
        return registered if same else None


def _outside(path: Path, folder: Path) -> NotAnAgent | None:
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle: RuntimeError before Python 3.13
        inside = False
    if inside:
        return None
    return NotAnAgent(
        path,
        "outside",
        f"the file is outside of {str(folder)!r}, the folder of claude.json",
        "Move the file into that folder: a registry cannot reach out of its own.",
    )


def _registered(loaded: LoadedAgent, name: str, fields: Mapping[str, object]) -> LoadedAgent:
    domains, priority = fields.get("domains"), fields.get("priority")
    fallback = fields.get("fallback")
    notes = loaded.notes
    own_name = loaded.definition.name
    if own_name != name:
        notes += (f"registered as {name!r}, while the file says {own_name!r}",)
    return LoadedAgent(
        replace(
            loaded.definition,
            name=name,
            domains=tuple(d for d in domains if isinstance(d, str))
            if isinstance(domains, list | tuple)
            else (),
            priority=priority
            if isinstance(priority, int) and not isinstance(priority, bool)
            else None,
            fallback=tuple(fallback) if isinstance(fallback, list) else (),
        ),
        notes,
    )
