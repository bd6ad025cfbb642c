"""From a file to an agent, or to the reason why it is none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from claude_force.agents.frontmatter import Frontmatter, read_frontmatter, split_markdown
from claude_force.agents.names import NAME_RULE, is_agent_name
from claude_force.domain.agents import AgentDefinition

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.domain.agents import AgentScope
    from claude_force.domain.messages import Effort

MAX_AGENT_FILE_BYTES: Final = 1_000_000

NotAnAgentKind = Literal[
    "documentation",
    "unterminated",
    "bad_yaml",
    "no_name",
    "invalid_name",
    "no_description",
    "empty_body",
    "missing",
    "unreadable",
    "encoding",
    "too_large",
    "outside",
]

EFFORTS: Final = ("low", "medium", "high", "max")
_MEMORIES: Final = ("user", "project", "local")
_COMMA_OUTSIDE_BRACKETS: Final = r",(?![^()]*\))"


@dataclass(frozen=True, slots=True)
class NotAnAgent:
    """A file among the agents that is none."""

    path: Path
    kind: NotAnAgentKind
    # What is wrong, in one sentence without a full stop.
    reason: str
    # What to do about it.
    hint: str


@dataclass(frozen=True, slots=True)
class LoadedAgent:
    """An agent, and what was left out or changed while its file was read."""

    definition: AgentDefinition
    notes: tuple[str, ...] = ()


def read_agent(data: bytes, path: Path, scope: AgentScope) -> LoadedAgent | NotAnAgent:
    """The agent that the bytes of a file define; touches no disk."""
    if len(data) > MAX_AGENT_FILE_BYTES:
        return too_large(path, len(data))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return NotAnAgent(
            path, "encoding", f"not UTF-8 (byte {error.start})", "Save the file as UTF-8."
        )
    split = split_markdown(text)
    if split.header is None:
        return _without_frontmatter(path, unterminated=split.unterminated)
    frontmatter = read_frontmatter(split.header)
    prompt = split.body.strip()
    problem = _what_is_missing(frontmatter, prompt, path)
    if problem is not None:
        return problem
    late = ("blank lines stand before the frontmatter",) if split.late else ()
    return _agent(frontmatter, prompt, path, scope, notes=late, late=split.late)


def too_large(path: Path, size_bytes: int) -> NotAnAgent:
    """The report of a file that is too large to be an agent."""
    return NotAnAgent(
        path,
        "too_large",
        f"{size_bytes:,} bytes, at most {MAX_AGENT_FILE_BYTES:,} are read",
        "An agent is a system prompt; move the material into files and attach them to the task.",
    )


def unreadable(path: Path, error: OSError) -> NotAnAgent:
    """The report of a file that cannot be opened or read."""
    reason = error.strerror or type(error).__name__
    return NotAnAgent(
        path, "unreadable", f"cannot be read: {reason}", "Check the file and its rights."
    )


def _without_frontmatter(path: Path, *, unterminated: bool) -> NotAnAgent:
    if unterminated:
        return NotAnAgent(
            path,
            "unterminated",
            "the frontmatter is opened on the first line and never closed",
            "Close it with a line `---` before the body.",
        )
    return NotAnAgent(
        path,
        "documentation",
        "no frontmatter, so it is read as documentation",
        "To make it an agent, start it with `---`, a `name:` line, a `description:` line and `---`.",
    )


def _what_is_missing(frontmatter: Frontmatter, prompt: str, path: Path) -> NotAnAgent | None:
    name, description = frontmatter.fields.get("name"), frontmatter.fields.get("description")
    because = f" (the YAML is not valid: {frontmatter.problem})" if frontmatter.lenient else ""
    if name is None or name == "":
        if frontmatter.lenient and not frontmatter.fields:
            return NotAnAgent(
                path,
                "bad_yaml",
                f"the YAML is not valid: {frontmatter.problem}",
                "Write `key: value` lines.",
            )
        return NotAnAgent(
            path, "no_name", f"no name{because}", "Add a line `name: my-agent` to the frontmatter."
        )
    if not isinstance(name, str) or not is_agent_name(name):
        return NotAnAgent(
            path,
            "invalid_name",
            f"invalid agent name {name!r:.80}{because}",
            f"A name has {NAME_RULE}.",
        )
    if not isinstance(description, str) or not description.strip():
        said = "no description" if description in (None, "") else "the description is not text"
        return NotAnAgent(
            path,
            "no_description",
            f"{said}{because}",
            'Add a line `description: "When to use it"`.',
        )
    if not prompt:
        return NotAnAgent(
            path,
            "empty_body",
            "nothing stands below the frontmatter",
            "Write the agent's system prompt there.",
        )
    return None


def _agent(
    frontmatter: Frontmatter,
    prompt: str,
    path: Path,
    scope: AgentScope,
    *,
    notes: tuple[str, ...],
    late: bool,
) -> LoadedAgent:
    fields = frontmatter.fields
    found = [*notes, *frontmatter.notes]
    if frontmatter.problem is not None:
        found.append(
            f"the YAML is not valid ({frontmatter.problem}) and was read by the lenient rule"
        )
    model = _word(fields.get("model"), "model", found)
    definition = AgentDefinition(
        name=cast("str", fields["name"]),
        description=cast("str", fields["description"]).strip(),
        prompt=prompt,
        path=path,
        scope=scope,
        model=None if model == "inherit" else model,
        effort=cast("Effort | None", _one_of(EFFORTS, fields.get("effort"), "effort", found)),
        tools=_tools(fields.get("tools"), "tools", found),
        disallowed_tools=_tools(fields.get("disallowedTools"), "disallowedTools", found) or (),
        memory=_one_of(_MEMORIES, fields.get("memory"), "memory", found),
        lenient=frontmatter.lenient or late,
    )
    return LoadedAgent(definition, tuple(found))


def _word(value: object, key: str, notes: list[str]) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and len(value.split()) == 1:
        return value.strip()
    notes.append(f"`{key}` is {value!r:.80}, which is not one word, and is left out")
    return None


def _one_of(allowed: tuple[str, ...], value: object, key: str, notes: list[str]) -> str | None:
    word = _word(value, key, notes)
    if word is None or word in allowed:
        return word
    notes.append(
        f"`{key}` is {word!r:.80}, which is not one of {', '.join(allowed)}, and is left out"
    )
    return None


def _tools(value: object, key: str, notes: list[str]) -> tuple[str, ...] | None:
    """Entries of a list or of a comma-separated text; commas inside brackets, as in `Agent(a, b)`, do not separate."""
    if value is None:
        return None
    if isinstance(value, str):
        entries = re.split(_COMMA_OUTSIDE_BRACKETS, value) if "(" in value else value.split(",")
    elif isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        entries = value
    else:
        notes.append(f"`{key}` is {value!r:.80}, which is no list of names, and is left out")
        return None
    return tuple(entry.strip() for entry in entries if entry.strip())
