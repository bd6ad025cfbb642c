from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from claude_force.agents.registry import AgentRegistry
from claude_force.agents.scopes import AgentScopes, discover_scopes
from claude_force.domain.errors import (
    AgentDefinitionError,
    AgentNotFoundError,
    ConfigError,
    InvalidAgentNameError,
)

if TYPE_CHECKING:
    from pathlib import Path

FAR_FUTURE_NS = 4_000_000_000_000_000_000


def write_agent(path: Path, name: str, prompt: str = "You work.") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\nname: {name}\ndescription: Does {name}\n---\n{prompt}\n")
    return path


def registry_of(*folders: Path, now_ns: int = FAR_FUTURE_NS) -> AgentRegistry:
    """A registry of project folders, which takes every reading as settled."""
    return AgentRegistry(AgentScopes(project=folders), now_ns=lambda: now_ns)


def test_list_is_sorted_by_name_and_reads_each_file_once(tmp_path: Path) -> None:
    for name in ("b", "c", "a"):
        write_agent(tmp_path / "deep" / f"{name}.md", name)
    registry = registry_of(tmp_path)
    assert [agent.name for agent in registry.list()] == ["a", "b", "c"]
    assert registry.file_reads == 3
    registry.list()
    assert registry.file_reads == 3


def test_get_of_one_agent_reads_one_file_of_many(tmp_path: Path) -> None:
    for number in range(50):
        write_agent(tmp_path / "group" / f"agent-{number}.md", f"agent-{number}")
    registry = registry_of(tmp_path)
    assert registry.get("agent-7").name == "agent-7"
    assert registry.file_reads == 1


def test_name_of_the_frontmatter_counts_and_not_the_file(tmp_path: Path) -> None:
    write_agent(tmp_path / "file.md", "other")
    registry = registry_of(tmp_path)
    assert registry.get("other").path == tmp_path / "file.md"
    with pytest.raises(AgentNotFoundError):
        registry.get("file")


def test_file_called_like_the_agent_wins_over_one_that_is_not(tmp_path: Path) -> None:
    write_agent(tmp_path / "a-first.md", "x")
    winner = write_agent(tmp_path / "deep" / "x.md", "x")
    registry = registry_of(tmp_path)
    assert registry.get("x").path == winner
    assert [agent.path for agent in registry.list()] == [winner]
    (shadowed,) = registry.report().shadowed
    assert (shadowed.path, shadowed.winner) == (tmp_path / "a-first.md", winner)


def test_least_deep_then_first_path_wins_among_duplicates(tmp_path: Path) -> None:
    write_agent(tmp_path / "a" / "one.md", "x")
    write_agent(tmp_path / "two.md", "x")
    write_agent(tmp_path / "three.md", "x")
    registry = registry_of(tmp_path)
    assert registry.get("x").path == tmp_path / "three.md"
    assert registry.list()[0].path == tmp_path / "three.md"


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write_agent(tmp_path / "a.md", "a", "Old.")
    registry = registry_of(tmp_path)
    assert registry.get("a").prompt == "Old."
    status = path.stat()
    write_agent(path, "a", "New.")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert registry.get("a").prompt == "New."
    assert registry.list()[0].prompt == "New."


def test_replaced_file_with_the_same_time_and_size_is_read_again(tmp_path: Path) -> None:
    path = write_agent(tmp_path / "a.md", "a", "Old.")
    registry = registry_of(tmp_path)
    registry.get("a")
    status = path.stat()
    other = write_agent(tmp_path / "a.tmp", "a", "New.")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert registry.get("a").prompt == "New."


def test_reading_of_a_file_that_has_just_changed_is_not_kept(tmp_path: Path) -> None:
    path = write_agent(tmp_path / "a.md", "a")
    registry = registry_of(tmp_path, now_ns=path.stat().st_mtime_ns + 1_000_000)
    registry.get("a")
    registry.get("a")
    assert registry.file_reads == 2


def test_removed_file_is_gone_and_a_new_one_is_there(tmp_path: Path) -> None:
    path = write_agent(tmp_path / "a.md", "a")
    registry = registry_of(tmp_path)
    registry.get("a")
    path.unlink()
    with pytest.raises(AgentNotFoundError, match="not found"):
        registry.get("a")
    write_agent(tmp_path / "b.md", "b")
    assert registry.get("b").name == "b"
    assert [agent.name for agent in registry.list()] == ["b"]


def test_renamed_agent_is_found_by_its_present_name_only(tmp_path: Path) -> None:
    path = write_agent(tmp_path / "a.md", "a")
    registry = registry_of(tmp_path)
    registry.get("a")
    write_agent(path, "renamed")
    assert registry.get("renamed").path == path
    with pytest.raises(AgentNotFoundError):
        registry.get("a")


def test_nearest_project_folder_wins_and_user_comes_last(tmp_path: Path) -> None:
    near, far, user = tmp_path / "near", tmp_path / "far", tmp_path / "user"
    for folder in (near, far, user):
        write_agent(folder / "a.md", "a", folder.name)
    write_agent(user / "b.md", "b")
    registry = AgentRegistry(AgentScopes(project=(near, far), user=user))
    assert (registry.get("a").prompt, registry.get("a").scope) == ("near", "project")
    assert registry.get("b").scope == "user"
    assert [(entry.path.parent, entry.scope) for entry in registry.report().shadowed] == [
        (far, "project"),
        (user, "user"),
    ]


def test_explicit_folder_wins_over_the_registry_and_the_registry_over_the_project(
    tmp_path: Path,
) -> None:
    explicit, project = tmp_path / "explicit", tmp_path / "project"
    write_agent(explicit / "a.md", "a", "explicit")
    for name in ("a", "b"):
        write_agent(tmp_path / "agents" / f"{name}.md", name, "registry")
        write_agent(project / f"{name}.md", name, "project")
    registry = AgentRegistry(
        AgentScopes(
            explicit=explicit,
            registry={
                "a": {"file": "agents/a.md"},
                "b": {"path": "agents/b.md", "domains": ["quality"], "priority": 1},
            },
            registry_folder=tmp_path,
            project=(project,),
        )
    )
    assert registry.get("a").prompt == "explicit"
    found = registry.get("b")
    assert (found.prompt, found.scope, found.domains, found.priority) == (
        "registry",
        "registry",
        ("quality",),
        1,
    )


def test_registered_name_counts_where_the_file_says_another(tmp_path: Path) -> None:
    write_agent(tmp_path / "x.md", "own")
    registry = AgentRegistry(
        AgentScopes(registry={"mine": {"file": "x.md"}}, registry_folder=tmp_path)
    )
    assert registry.get("mine").name == "mine"
    assert registry.report().agents[0].notes == ("registered as 'mine', while the file says 'own'",)


@pytest.mark.parametrize("kind", ["parent", "absolute", "link"])
def test_registered_file_outside_of_the_registry_is_refused(tmp_path: Path, kind: str) -> None:
    secret = write_agent(tmp_path / "secret.md", "a")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "link.md").symlink_to(secret)
    file = {"parent": "../secret.md", "absolute": str(secret), "link": "link.md"}[kind]
    registry = AgentRegistry(AgentScopes(registry={"a": {"file": file}}, registry_folder=folder))
    with pytest.raises(AgentDefinitionError, match="outside"):
        registry.get("a")
    assert [problem.kind for problem in registry.report().not_agents] == ["outside"]


@pytest.mark.parametrize("entry", [None, [], {}, {"file": ""}, {"file": 3}, {"file": "a\0b"}])
def test_registry_entry_without_a_file_is_an_error(tmp_path: Path, entry: object) -> None:
    registry = AgentRegistry(AgentScopes(registry={"a": entry}, registry_folder=tmp_path))
    with pytest.raises(AgentDefinitionError, match="names no file"):
        registry.get("a")


def test_missing_registered_file_does_not_fall_through_to_another_scope(tmp_path: Path) -> None:
    write_agent(tmp_path / "user" / "a.md", "a")
    registry = AgentRegistry(
        AgentScopes(
            registry={"a": {"file": "gone.md"}}, registry_folder=tmp_path, user=tmp_path / "user"
        )
    )
    with pytest.raises(AgentNotFoundError, match=r"not found: claude\.json registers .*gone\.md"):
        registry.get("a")


def test_unknown_agent_is_told_with_close_matches_and_places(tmp_path: Path) -> None:
    write_agent(tmp_path / "code-reviewer.md", "code-reviewer")
    with pytest.raises(AgentNotFoundError) as caught:
        registry_of(tmp_path).get("code-reviewr")
    assert str(caught.value) == (
        "Agent 'code-reviewr' not found among 1 agents. Did you mean 'code-reviewer'? "
        f"Searched: project {tmp_path}."
    )


def test_unknown_agent_without_any_folder_names_the_way_on(tmp_path: Path) -> None:
    with pytest.raises(AgentNotFoundError, match=r"create one with `claude-force init`"):
        registry_of(tmp_path / "none").get("a")


def test_file_that_is_no_agent_says_why_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\nname: a\n---\nBody")
    with pytest.raises(
        AgentDefinitionError, match=r"Agent 'a' not found: .*a\.md' is not an agent: no description"
    ):
        registry_of(tmp_path).get("a")


@pytest.mark.parametrize("name", ["../a", "a\n", "", "a/b"])
def test_bad_name_is_refused_before_any_file_is_touched(tmp_path: Path, name: str) -> None:
    write_agent(tmp_path / "a.md", "a")
    registry = registry_of(tmp_path / "b")
    with pytest.raises(InvalidAgentNameError):
        registry.get(name)
    assert registry.file_reads == 0


def test_missing_explicit_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        AgentRegistry(AgentScopes(explicit=tmp_path / "none")).list()


def test_links_in_circles_and_to_nothing_are_survived(tmp_path: Path) -> None:
    write_agent(tmp_path / "a.md", "a")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.md").symlink_to(tmp_path / "self.md")
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere.md")
    report = registry_of(tmp_path).report()
    assert [agent.definition.name for agent in report.agents] == ["a"]
    assert [(entry.path.name, entry.kind) for entry in report.not_agents] == [
        ("gone.md", "unreadable"),
        ("self.md", "unreadable"),
    ]


def test_named_pipe_is_reported_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    (problem,) = registry_of(tmp_path).report().not_agents
    assert (problem.kind, problem.reason) == ("unreadable", "not a regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser can read every folder")
def test_unreadable_folder_is_reported(tmp_path: Path) -> None:
    write_agent(tmp_path / "a.md", "a")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    try:
        report = registry_of(tmp_path).report()
    finally:
        closed.chmod(0o700)
    assert [entry.path for entry in report.not_agents] == [closed]
    assert len(report.agents) == 1


def test_project_folders_are_found_up_to_the_repository_root(tmp_path: Path) -> None:
    repository, home = tmp_path / "repository", tmp_path / "home"
    (repository / ".git").mkdir(parents=True)
    cwd = repository / "src" / "deep"
    cwd.mkdir(parents=True)
    scopes = discover_scopes(cwd, home)
    assert scopes.project == tuple(
        folder / ".claude" / "agents" for folder in (cwd, cwd.parent, repository)
    )
    assert scopes.user == home / ".claude" / "agents"


def test_home_is_the_user_scope_only_even_below_it(tmp_path: Path) -> None:
    write_agent(tmp_path / ".claude" / "agents" / "a.md", "a")
    (tmp_path / "work").mkdir()
    scopes = discover_scopes(tmp_path / "work", tmp_path)
    assert tmp_path / ".claude" / "agents" not in scopes.project
    assert AgentRegistry(scopes).get("a").scope == "user"


def test_folder_made_after_the_registry_is_noticed(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    registry = AgentRegistry(discover_scopes(tmp_path, tmp_path / "home"))
    assert registry.list() == ()
    write_agent(tmp_path / ".claude" / "agents" / "a.md", "a")
    assert registry.get("a").scope == "project"


def test_get_and_list_agree_on_every_public_agent(shared_agents: Path) -> None:
    listed = AgentRegistry(AgentScopes(explicit=shared_agents)).list()
    single = AgentRegistry(AgentScopes(explicit=shared_agents))
    assert len(listed) == 158
    assert sum(agent.lenient for agent in listed) == 8
    assert [single.get(agent.name) for agent in listed] == list(listed)
