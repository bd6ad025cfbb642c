"""What the simulator can tell about a request: which agent, how large, which files, the first lines of the task.

It reads loosely: a prompt that looks different gives fewer lines, never an error.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from claude_force.domain.tokens import estimate_tokens

if TYPE_CHECKING:
    from claude_force.simulator.prompts import Prompt

MAX_ATTACHMENTS: Final = 8
MAX_TASK_LINES: Final = 4
MAX_LINE_CHARACTERS: Final = 100
# Only so much of a prompt is looked at: the answer to a huge request is as fast as to a small one.
_LOOKED_AT_CHARACTERS: Final = 200_000
_LOOKED_AT_TAGS: Final = 200
_SYSTEM_LOOKED_AT_CHARACTERS: Final = 4_000

_OPENING = re.compile(r'<([A-Za-z][\w-]*)((?:\s+[\w-]+="[^"<>]*")+)\s*>')
_NAME = re.compile(r'\b(?:path|name|file|step|from|title)="([^"<>]*)"')
_ID = re.compile(r'\bid="([^"<>]*)"')
_ONLY_TAG = re.compile(r"</?[A-Za-z][^<>]*>\Z")


def describe_request(prompt: Prompt) -> list[str]:
    """Lines that tell a reader what this agent was given."""
    tasks = prompt.texts("user")
    text = "\n".join(tasks)
    attachments, rest = _attachments(_ends_of(text))
    # Answers of other agents say more about a run than the files that all of them get.
    attachments.sort(key=lambda attachment: attachment[0].startswith("file "))
    effort = (prompt.body.get("output_config") or {}).get("effort")
    lines = [
        f"agent: {_agent(prompt)}",
        f"model asked: {prompt.model}" + (f", effort {effort}" if effort else ""),
        f"given: about {prompt.total_tokens} tokens, {len(text.splitlines())} lines of task",
    ]
    lines += [f"attached: {name} ({size})" for name, size in attachments[:MAX_ATTACHMENTS]]
    if len(attachments) > MAX_ATTACHMENTS:
        lines.append("attached: and more")
    first_lines = _first_lines(rest)
    if first_lines:
        lines += ["the task begins:", *(f"> {line}" for line in first_lines)]
    return lines


def _ends_of(text: str) -> str:
    """Beginning and end of a long text: attachments stand first, the task last."""
    if len(text) <= 2 * _LOOKED_AT_CHARACTERS:
        return text
    return text[:_LOOKED_AT_CHARACTERS] + text[-_LOOKED_AT_CHARACTERS:]


def _agent(prompt: Prompt) -> str:
    return _agent_line("\n".join(prompt.texts("system"))[:_SYSTEM_LOOKED_AT_CHARACTERS])


# A fan-out asks with one system prompt many times.
@lru_cache(maxsize=64)
def _agent_line(system: str) -> str:
    lines = (line.strip("# \t") for line in system.splitlines())
    first = next((line for line in lines if line and not _ONLY_TAG.match(line)), "")
    return _short(first) if first else "no system prompt"


def _attachments(text: str) -> tuple[list[tuple[str, str]], str]:
    """Name and size of each delimited block, and the text without them."""
    found: list[tuple[str, str]] = []
    outside: list[str] = []
    position = 0
    for _ in range(_LOOKED_AT_TAGS):
        match = _OPENING.search(text, position)
        if match is None:
            break
        end = text.find(_closing(match), match.end())
        name = _NAME.search(match.group(2)) or _ID.search(match.group(2))
        if end < 0 or name is None:
            outside.append(text[position : match.end()])
            position = match.end()
            continue
        body = text[match.end() : end]
        if match.group(1) == "task":
            return found, body
        size = f"{len(body.strip().splitlines())} lines, about {estimate_tokens(body)} tokens"
        found.append((_short(f"{match.group(1)} {name.group(1)}"), size))
        outside.append(text[position : match.start()])
        closed = text.find(">", end)
        position = closed + 1 if closed >= 0 else len(text)
    return found, "".join([*outside, text[position:]])


def _closing(opening: re.Match[str]) -> str:
    """The mark that closes a block; one with an id is closed by that id."""
    block_id = _ID.search(opening.group(2))
    return f"</{opening.group(1)} {block_id.group(0)}" if block_id else f"</{opening.group(1)}"


def _first_lines(text: str) -> list[str]:
    lines: list[str] = []
    for raw in text[:20_000].splitlines():
        line = raw.strip()
        if line and not _ONLY_TAG.match(line):
            lines.append(_short(line))
        if len(lines) == MAX_TASK_LINES:
            break
    return lines


def _short(line: str) -> str:
    if len(line) <= MAX_LINE_CHARACTERS:
        return line
    return line[: MAX_LINE_CHARACTERS - 1].rstrip() + "…"
