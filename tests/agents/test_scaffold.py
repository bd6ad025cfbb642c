from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING

import pytest

from claude_force.agents.doctor import check
from claude_force.agents.registry import AgentRegistry
from claude_force.agents.scaffold import starter_files, write_starter
from claude_force.agents.scopes import AgentScopes
from claude_force.config.claude_json import load_settings
from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

AGENTS = (
    "bug-hunter",
    "code-reviewer",
    "docs-writer",
    "fact-checker",
    "file-analyst",
    "fix-planner",
    "merger",
    "security-reviewer",
    "summarizer",
    "test-reviewer",
)
WORKFLOW_FILES = ("docs", "fix-plan", "map-reduce")
FILES = (
    *(f".claude/agents/{name}.md" for name in AGENTS),
    ".claude/claude.json",
    *(f".claude/workflows/{name}.yaml" for name in WORKFLOW_FILES),
)


def test_starter_set_is_written_whole(tmp_path: Path) -> None:
    report = write_starter(tmp_path)
    assert (report.created, report.kept, report.unchanged, report.overwritten) == (
        FILES,
        (),
        (),
        (),
    )
    assert sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    ) == sorted(FILES)


def test_starter_agents_are_found_in_both_scopes_without_a_finding(tmp_path: Path) -> None:
    folder = write_starter(tmp_path).folder
    settings = load_settings(folder / "claude.json")
    registry = AgentRegistry(
        AgentScopes(registry=settings.agents, registry_folder=folder, project=(folder / "agents",))
    )
    assert tuple(agent.name for agent in registry.list()) == AGENTS
    assert {agent.scope for agent in registry.list()} == {"registry"}
    assert check(registry, today=date(2026, 11, 22)).findings == ()
    assert all(20 <= len(agent.prompt.splitlines()) <= 45 for agent in registry.list())


def test_starter_workflows_name_starter_agents_only() -> None:
    document = json.loads(starter_files()["claude.json"])
    review, chain = document["workflows"]["review"], document["workflows"]["document"]
    assert [step["agent"] for step in review["steps"]] == [
        "code-reviewer", "security-reviewer", "test-reviewer", "summarizer"
    ]  # fmt: skip
    assert [step["dependencies"] for step in review["steps"]] == [
        [],
        [],
        [],
        ["code", "security", "tests"],
    ]
    assert chain == ["code-reviewer", "docs-writer"]
    performance = document["performance"]
    assert (
        performance["max_concurrent_agents"],
        performance["timeout_seconds"],
        performance["max_retries"],
    ) == (10, 120, 3)


def test_second_call_changes_nothing(tmp_path: Path) -> None:
    write_starter(tmp_path)
    assert write_starter(tmp_path).unchanged == FILES


def test_changed_file_is_kept_unless_forced(tmp_path: Path) -> None:
    changed = write_starter(tmp_path).folder / "agents" / "summarizer.md"
    changed.write_text("mine")
    assert write_starter(tmp_path).kept == (".claude/agents/summarizer.md",)
    assert changed.read_text() == "mine"
    assert write_starter(tmp_path, force=True).overwritten == (".claude/agents/summarizer.md",)
    assert changed.read_bytes() == starter_files()["agents/summarizer.md"]


def test_interrupted_start_is_completed_by_the_next_call(tmp_path: Path) -> None:
    folder = write_starter(tmp_path).folder
    (folder / "claude.json").unlink()
    assert write_starter(tmp_path).created == (".claude/claude.json",)


def test_failure_leaves_no_half_file_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / "agents").write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_starter(tmp_path)
    assert [path.name for path in (tmp_path / ".claude").iterdir()] == ["agents"]


def test_link_that_leads_out_of_the_project_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".claude").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigError, match="leads out of"):
        write_starter(tmp_path / "project", force=True)
    assert list((tmp_path / "outside").iterdir()) == []
