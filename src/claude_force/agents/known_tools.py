"""The tools that Claude Code has, as the ``tools`` of an agent name them."""

from __future__ import annotations

import re
from typing import Final

KNOWN_TOOLS: Final = frozenset(
    {
        "Agent",
        "AskUserQuestion",
        "Bash",
        "BashOutput",
        "CronCreate",
        "CronDelete",
        "CronList",
        "Edit",
        "EnterPlanMode",
        "EnterWorktree",
        "ExitPlanMode",
        "ExitWorktree",
        "Glob",
        "Grep",
        "KillShell",
        "LS",
        "LSP",
        "ListMcpResourcesTool",
        "Monitor",
        "MultiEdit",
        "NotebookEdit",
        "NotebookRead",
        "PowerShell",
        "Read",
        "ReadMcpResourceTool",
        "SendMessage",
        "Skill",
        "SlashCommand",
        "Task",
        "TaskCreate",
        "TaskGet",
        "TaskList",
        "TaskOutput",
        "TaskStop",
        "TaskUpdate",
        "TeamCreate",
        "TeamDelete",
        "TodoWrite",
        "ToolSearch",
        "WebFetch",
        "WebSearch",
        "Write",
    }
)

# `mcp__server` grants every tool of a server, `mcp__server__tool` one of them.
_MCP: Final = re.compile(r"\Amcp__[A-Za-z0-9_.-]+(?:__[A-Za-z0-9_.*-]+)?\Z")
# `Agent(reviewer)`, `Bash(git log:*)`: a tool, narrowed by what stands in the brackets.
_NARROWED: Final = re.compile(r"\A([A-Za-z]+)\(.+\)\Z", re.DOTALL)


def is_known_tool(entry: str) -> bool:
    """True when Claude Code would understand this entry of ``tools``."""
    narrowed = _NARROWED.match(entry)
    tool = narrowed[1] if narrowed else entry
    return tool in KNOWN_TOOLS or tool == "*" or _MCP.match(entry) is not None


def similar_tool(entry: str) -> str | None:
    """The known tool that is most likely meant, or None."""
    from difflib import get_close_matches  # noqa: PLC0415  only for a report

    by_lower_case = {tool.lower(): tool for tool in KNOWN_TOOLS}
    close = get_close_matches(entry.lower(), by_lower_case, n=1, cutoff=0.75)
    return by_lower_case[close[0]] if close else None
