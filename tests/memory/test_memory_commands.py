"""The group `memory`, over a store that the program's own runs have filled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cli, Process, Project


@pytest.fixture
def filled(cli: Cli) -> None:
    """Two memories of alpha and one of beta."""
    for agent, task in (
        ("alpha", "Review the retry loop of payments"),
        ("alpha", "Translate the greeting into French"),
        ("beta", "Write release notes for payments"),
    ):
        assert cli("run", "agent", agent, "--task", task, "--memory", "--json").code == 0


@pytest.mark.usefixtures("filled")
def test_list_shows_the_newest_first(cli: Cli) -> None:
    shown = cli("memory", "list")
    assert shown.code == 0
    head, *lines = shown.out.splitlines()
    assert head.split() == ["id", "when", "(UTC)", "agent", "task"]
    assert [line.split()[0] for line in lines] == ["3", "2", "1"]
    assert lines[0].endswith("beta   Write release notes for payments")
    assert [one["id"] for one in cli("memory", "list", "--agent", "alpha", "--json").json] == [2, 1]
    assert len(cli("memory", "list", "--limit", "1", "--json").json) == 1


@pytest.mark.usefixtures("filled")
def test_search_shows_the_best_first_with_its_score(cli: Cli) -> None:
    shown = cli("memory", "search", "alpha", "retrying payments", "--explain")
    assert shown.code == 0
    head, *lines = shown.out.splitlines()
    assert head.split()[:2] == ["score", "id"]
    assert [line.split()[1] for line in lines] == ["1"]
    assert (
        "query cache: miss, a command begins with an empty one; read 1 candidates of 2 records;"
        in shown.err
    )
    (found,) = cli("memory", "search", "alpha", "retrying payments", "--json").json
    assert found["task"] == "Review the retry loop of payments"
    assert 0 < found["score"] <= 1


@pytest.mark.usefixtures("filled")
def test_show_has_all_of_one(cli: Cli, project: Project) -> None:
    shown = cli("memory", "show", "1")
    assert shown.code == 0
    assert shown.out.startswith(f"agent: alpha\nproject: {project.root}\nwhen: 20")
    assert "\ntask\nReview the retry loop of payments\n" in shown.out
    assert "\noutcome\n[simulated answer: no model ran]\n" in shown.out
    assert set(cli("memory", "show", "1", "--json").json) == {
        *("id", "project", "agent", "recorded_at", "model", "task", "digest", "outcome"),
    }


@pytest.mark.usefixtures("filled")
def test_forget_removes_one(cli: Cli) -> None:
    assert cli("memory", "forget", "2", "--yes").out == "1 memory removed.\n"
    assert [one["id"] for one in cli("memory", "list", "--json").json] == [3, 1]


@pytest.mark.usefixtures("filled")
def test_forget_asks_before_it_removes(cli: Cli, process: Process) -> None:
    refused = process("memory", "forget", "--agent", "alpha", stdin="n\n")
    assert refused.code == 130
    assert "Forget 2 memories of alpha in " in refused.err
    assert refused.err.endswith("Nothing was forgotten.\n")
    assert len(cli("memory", "list", "--json").json) == 3
    unanswered = process("memory", "forget", "--all", stdin="")
    assert unanswered.code == 130
    assert len(cli("memory", "list", "--json").json) == 3
    agreed = process("memory", "forget", "--agent", "alpha", "--json", stdin="y\n")
    assert agreed.json == {"removed": 2}
    assert [one["agent"] for one in cli("memory", "list", "--json").json] == ["beta"]


def test_nothing_to_forget_asks_nothing(cli: Cli) -> None:
    assert cli("memory", "forget", "--agent", "alpha").out == "0 memories removed.\n"


@pytest.mark.usefixtures("filled")
def test_forget_all_removes_what_there_is_of_the_project(cli: Cli) -> None:
    assert cli("memory", "forget", "--all", "--yes", "--json").json == {"removed": 3}
    assert cli("memory", "list").out.startswith("No agent remembers anything of ")


@pytest.mark.usefixtures("filled")
def test_export_is_json_lines_the_oldest_first(cli: Cli, project: Project) -> None:
    assert [one["id"] for one in cli("memory", "export").json_lines] == [1, 2, 3]
    done = cli("memory", "export", "--agent", "beta", "--output", "out.jsonl")
    assert done.err == "out.jsonl: 1 memory.\n"
    assert [one["id"] for one in project.lines("out.jsonl")] == [3]
    assert (project.root / "out.jsonl").stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("filled")
def test_another_project_has_its_own(cli: Cli, project: Project) -> None:
    other = project.root.parent / "other"
    other.mkdir()
    assert cli("memory", "list", "--project", str(other), "--json").json == []
    everywhere = cli("memory", "list", "--project", str(other), "--all-projects")
    assert "project" in everywhere.out.splitlines()[0]
    assert len(everywhere.out.splitlines()) == 4
    assert cli("memory", "forget", "--all", "--project", str(other), "--yes", "--json").json == {
        "removed": 0
    }


def test_memories_of_simulated_runs_lie_apart(cli: Cli) -> None:
    simulated = ("run", "agent", "alpha", "--task", "Look", "--memory", "--simulate", "--json")
    assert cli(*simulated, key=None).code == 0
    assert cli("memory", "list", "--json").json == []
    assert len(cli("memory", "list", "--simulated", "--json").json) == 1


def test_a_map_and_a_workflow_remember(cli: Cli, project: Project) -> None:
    project.items({"task": "Review part one"}, {"task": "Review part two"})
    project.config(workflows={"pair": ["alpha", "beta"]})
    mapped = cli("run", "map", "gamma", "--items", "items.jsonl", "--json", "--memory")
    assert mapped.code == 0
    assert cli("run", "workflow", "pair", "--task", "Do it", "--memory", "--json").code == 0
    agents = sorted(one["agent"] for one in cli("memory", "list", "--json").json)
    assert agents == ["alpha", "beta", "gamma", "gamma"]


def test_no_memory_goes_before_the_agents_file(cli: Cli, project: Project) -> None:
    project.agent("keeper", memory="project")
    for option, count in (("--no-memory", 0), ("--memory", 1)):
        run = cli("run", "agent", "keeper", "--task", f"Look {option}", option, "--json")
        assert run.code == 0
        assert len(cli("memory", "list", "--json").json) == count


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "7"], 3, "There is no memory 7."),
        (["show", "seven"], 2, "'seven' is not a valid integer"),
        (["forget", "7", "--yes"], 3, "There is no memory 7."),
        (["forget"], 2, "Name one memory by its ID, or an agent with --agent, or --all."),
        (["forget", "1", "--all"], 2, "Name one memory by its ID"),
        (["forget", "1", "--all-projects"], 2, "--all-projects goes with --agent or --all"),
        (["list", "--dir", "/no/such"], 3, "There is no folder '/no/such'"),
        (["search", "alpha"], 2, "Missing argument 'QUERY'"),
    ],
)
def test_what_cannot_be_done_is_said(
    cli: Cli, arguments: list[str], code: int, message: str
) -> None:
    ended = cli("memory", *arguments)
    assert ended.code == code
    assert message in ended.err


def test_a_batch_refuses_a_memory(cli: Cli, project: Project) -> None:
    project.items({"task": "Look"})
    ended = cli("run", "map", "alpha", "--items", "items.jsonl", "--json", "--batch", "--memory")
    assert ended.code == 3
    assert "--memory is not for --batch" in ended.err


def test_a_plan_counts_what_would_be_recalled(cli: Cli, project: Project) -> None:
    project.config(workflows={"one": ["alpha"]})
    task = ("--task", "Review the retry loop of payments")
    plain = cli("plan", "one", *task, "--json").json
    assert cli("run", "agent", "alpha", *task, "--memory", "--json").code == 0
    more = cli("plan", "one", "--task", "Review retries of payments", "--memory", "--json").json
    assert _expected_input(more) > _expected_input(plain) + 50


def _expected_input(plan: dict[str, object]) -> int:
    return int(json.loads(json.dumps(plan))["input_tokens"]["expected"])
