from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from claude_force.agents.doctor import DoctorReport, check
from claude_force.agents.known_tools import is_known_tool, similar_tool
from claude_force.agents.registry import AgentRegistry
from claude_force.agents.scopes import AgentScopes

if TYPE_CHECKING:
    from pathlib import Path

TODAY = date(2026, 11, 22)


def check_folder(folder: Path, today: date = TODAY) -> DoctorReport:
    return check(AgentRegistry(AgentScopes(explicit=folder)), today=today)


def findings(
    folder: Path, header: str = "", body: str = "You work.", today: date = TODAY
) -> list[tuple[str, str]]:
    (folder / "a.md").write_text(f"---\nname: a\ndescription: b\n{header}---\n{body}")
    return [(found.severity, found.message) for found in check_folder(folder, today).findings]


def test_good_agent_has_no_finding(tmp_path: Path) -> None:
    assert (
        findings(
            tmp_path, "model: sonnet\ntools: Read, Bash(git log:*), Agent(x), mcp__server__tool\n"
        )
        == []
    )


def test_unknown_tool_is_a_warning_with_the_tool_that_is_meant(tmp_path: Path) -> None:
    assert findings(tmp_path, "tools: read, context-manager\n") == [
        ("warning", "unknown tool 'context-manager'"),
        ("warning", "unknown tool 'read'"),
    ]
    assert check_folder(tmp_path).findings[1].hint == "Did you mean 'Read'?"


@pytest.mark.parametrize(
    ("model", "today", "expected"),
    [
        (
            "claude-3-5-haiku-20241022",
            TODAY,
            ("error", "the model 'claude-3-5-haiku-20241022' is retired since 2026-02-19"),
        ),
        (
            "claude-sonnet-4-5",
            TODAY,
            ("warning", "the model 'claude-sonnet-4-5' retires on 2026-11-30"),
        ),
        (
            "claude-sonnet-4-5",
            date(2026, 11, 30),
            ("error", "the model 'claude-sonnet-4-5' is retired since 2026-11-30"),
        ),
        ("gpt-9", TODAY, ("warning", "unknown model 'gpt-9'")),
    ],
)
def test_model_without_a_future_is_told(
    tmp_path: Path, model: str, today: date, expected: tuple[str, str]
) -> None:
    assert findings(tmp_path, f"model: {model}\n", today=today) == [expected]


@pytest.mark.parametrize(
    ("model", "today"),
    [
        ("claude-sonnet-4-5", date(2026, 8, 1)),
        ("claude-opus-4-5-20251101", TODAY),
        ("inherit", TODAY),
    ],
)
def test_model_with_a_future_is_no_finding(tmp_path: Path, model: str, today: date) -> None:
    assert findings(tmp_path, f"model: {model}\n", today=today) == []


def test_hidden_characters_are_told(tmp_path: Path) -> None:
    assert findings(tmp_path, body="You work.\U000e0041\u200b") == [
        ("warning", "2 hidden or control characters, which are not sent")
    ]


def test_file_that_is_no_agent_is_an_error_and_documentation_is_not(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Read me")
    (tmp_path / "a.md").write_text("---\nname: a\n---\nBody")
    report = check_folder(tmp_path)
    assert [(found.severity, found.path.name) for found in report.findings] == [
        ("error", "a.md"),
        ("info", "README.md"),
    ]
    assert report.findings[0].message == "not an agent: no description"
    assert (report.ok, report.agent_count) == (False, 0)


def test_duplicate_is_a_warning_and_another_file_name_an_info(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.md").write_text("---\nname: a\ndescription: b\n---\nBody")
    report = check_folder(tmp_path)
    assert [(found.severity, found.path.name) for found in report.findings] == [
        ("warning", "two.md"),
        ("info", "one.md"),
    ]
    assert report.ok


def test_agent_hidden_by_a_higher_scope_is_an_info(tmp_path: Path) -> None:
    for folder in ("project", "user"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.md").write_text("---\nname: a\ndescription: b\n---\nBody")
    registry = AgentRegistry(AgentScopes(project=(tmp_path / "project",), user=tmp_path / "user"))
    (found,) = check(registry, today=TODAY).findings
    assert (found.severity, found.path) == ("info", tmp_path / "user" / "a.md")


def test_prompt_size_is_compared_with_the_minimum_of_its_model(tmp_path: Path) -> None:
    findings(tmp_path, "model: claude-opus-5\n", "x" * 3800)
    (size,) = check_folder(tmp_path).prompt_sizes
    assert (size.model, size.prompt_tokens, size.cache_minimum_tokens, size.cacheable) == (
        "claude-opus-5",
        1000,
        512,
        True,
    )
    findings(tmp_path, "model: claude-haiku-4-5\n", "x" * 3800)
    assert not check_folder(tmp_path).prompt_sizes[0].cacheable


def test_lookalikes_are_read_and_their_yaml_is_told(lookalikes: Path) -> None:
    report = check_folder(lookalikes)
    assert (report.agent_count, report.ok) == (4, True)
    dropped_elsewhere = [
        found.path.name for found in report.findings if "Claude Code drops" in found.hint
    ]
    assert dropped_elsewhere == [
        "colon-and-literal-breaks.md", "example-block.md", "late-and-crlf.md", "raw-dialogue.md"
    ]  # fmt: skip
    assert [
        found.path.name for found in report.findings if found.message.startswith("documentation")
    ] == ["NOTES.md"]


@pytest.mark.parametrize(
    "entry", ["Read", "Task", "Agent(x, y)", "Bash(git *)", "mcp__a", "mcp__a__b", "mcp__a__*"]
)
def test_tool_is_known(entry: str) -> None:
    assert is_known_tool(entry)


@pytest.mark.parametrize("entry", ["read", "Agent()", "mcp__", "mcp_a_b", "x:y", "Reader(x)", ""])
def test_tool_is_unknown(entry: str) -> None:
    assert not is_known_tool(entry)


def test_no_similar_tool_is_made_up() -> None:
    assert similar_tool("pied-piper") is None


def test_public_collection_loads_whole(shared_agents: Path) -> None:
    report = check_folder(shared_agents)
    assert (report.agent_count, report.count("error")) == (158, 0)
    documentation = [
        found for found in report.findings if found.message.startswith("documentation")
    ]
    assert [found.path.name for found in documentation] == ["README.md"] * 10
    assert sum("lenient rule" in found.message for found in report.findings) == 8
