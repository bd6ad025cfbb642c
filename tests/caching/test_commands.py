"""`claude-force cache`: what it shows, what it removes, its exit codes, and the way to another machine."""

from __future__ import annotations

import json
import stat
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.caching.conftest import AnswerFile
    from tests.conftest import Cli, Process, Project

    Paid = Callable[[], int]
    Later = Callable[[float], None]

DAY = 24 * 3600.0


def run(cli: Cli, agent: str = "alpha", task: str = "Look at this", *more: str) -> None:
    assert cli("run", "agent", agent, "--task", task, *more).code == 0


# ---- an empty cache


def test_an_empty_cache_holds_nothing_and_that_is_no_error(
    cli: Cli, user_answers: AnswerFile
) -> None:
    stats = cli("cache", "stats", "--json")
    assert stats.code == 0
    assert stats.json == {
        "folder": str(user_answers.folder),
        "worth_usd": "0",
        "entries": 0,
        "size_bytes": 0,
        "max_bytes": 100 * 1024 * 1024,
    }
    assert "entries: 0" in cli("cache", "stats").out
    cleared = cli("cache", "clear", "--json")
    assert (cleared.code, cleared.json["removed"]) == (0, 0)
    verified = cli("cache", "verify", "--json")
    assert (verified.code, verified.json["valid"], verified.json["invalid"]) == (0, 0, 0)
    # Looking makes nothing.
    assert not user_answers.folder.exists()


def test_a_folder_that_is_named_has_to_be_there(cli: Cli, tmp_path: Path) -> None:
    for command in (("stats",), ("clear",), ("verify",), ("why",), ("export", "answers.jsonl")):
        told = cli("cache", *command, "--dir", str(tmp_path / "nowhere"))
        assert told.code == 3
        assert told.out == ""
        assert f"There is no cache at '{tmp_path / 'nowhere'}'" in told.err
    assert not (tmp_path / "nowhere").exists()


def test_why_of_an_empty_cache_says_what_can_be_named(cli: Cli) -> None:
    told = cli("cache", "why")
    assert told.code == 3
    assert told.out == ""
    assert told.err.startswith("Error: ")


# ---- stats


def test_stats_say_how_much_there_is_and_what_it_was_worth(
    cli: Cli, user_answers: AnswerFile
) -> None:
    ask = ("run", "agent", "alpha", "--json", "--task")
    costs = [cli(*ask, task).json["cost_usd"] for task in ("One", "Two")]
    shown = cli("cache", "stats")
    assert shown.code == 0
    assert shown.out.splitlines() == [
        str(user_answers.folder),
        "entries: 2",
        "size: 0.0 of 100 MB",
        f"worth: ${sum(map(Decimal, costs))} were paid for the answers in it",
    ]
    stats = cli("cache", "stats", "--json").json
    assert stats["entries"] == 2
    assert stats["size_bytes"] == sum(map(len, user_answers.records()))
    assert Decimal(stats["worth_usd"]) == sum(map(Decimal, costs))


def test_stats_take_the_limit_from_the_config(cli: Cli, project: Project) -> None:
    project.config(cache={"max_size_mb": 7})
    assert cli("cache", "stats", "--json").json["max_bytes"] == 7 * 1024 * 1024
    other = project.write("other.json", json.dumps({"cache": {"max_size_mb": 9}}))
    named = cli("cache", "stats", "--json", "--config", str(other)).json
    assert named["max_bytes"] == 9 * 1024 * 1024


# ---- clear


def test_clear_removes_everything(cli: Cli, paid: Paid, user_answers: AnswerFile) -> None:
    run(cli)
    run(cli, "beta")
    cleared = cli("cache", "clear")
    assert cleared.code == 0
    assert cleared.out == f"{user_answers.folder}: 2 answers removed.\n"
    assert user_answers.count() == 0
    run(cli)
    assert paid() == 3


def test_clear_can_be_of_one_agent(cli: Cli, paid: Paid) -> None:
    for agent in ("alpha", "beta"):
        run(cli, agent)
    assert cli("cache", "clear", "--agent", "alpha", "--json").json["removed"] == 1
    assert cli("cache", "clear", "--agent", "nobody", "--json").json["removed"] == 0
    run(cli, "beta")
    assert paid() == 2
    run(cli, "alpha")
    assert paid() == 3


def test_clear_can_be_by_age(cli: Cli, project: Project, paid: Paid, later: Later) -> None:
    project.config(cache={"ttl_hours": 24 * 30})
    run(cli, "alpha", "Old")
    run(cli, "beta", "Old")
    later(8 * DAY)
    run(cli, "alpha", "Young")
    age = ("--older-than", "7d")
    assert cli("cache", "clear", "--agent", "beta", *age, "--json").json["removed"] == 1
    assert cli("cache", "clear", *age, "--json").json["removed"] == 1
    run(cli, "alpha", "Young")
    assert paid() == 3
    run(cli, "alpha", "Old")
    assert paid() == 4


@pytest.mark.parametrize("arguments", [("--older-than", "7"), ("--agent",), ("--everything",)])
def test_a_clear_that_cannot_be_meant_removes_nothing(
    cli: Cli, user_answers: AnswerFile, arguments: tuple[str, ...]
) -> None:
    run(cli)
    assert cli("cache", "clear", *arguments).code == 2
    assert user_answers.count() == 1


# ---- why


@pytest.mark.parametrize(
    ("more", "field"),
    [
        (("--model", "opus"), "model"),
        (("--max-tokens", "4000"), "max_tokens"),
        (("--effort", "low"), "effort"),
    ],
)
def test_why_names_the_field_that_differs(cli: Cli, more: tuple[str, ...], field: str) -> None:
    run(cli)
    run(cli, "alpha", "Look at this", *more)
    told = cli("cache", "why", "--json")
    assert told.code == 0
    assert told.json["agent"] == "alpha"
    assert told.json["changed"] == [field]
    assert told.json["nearest"] != told.json["key"]
    shown = cli("cache", "why", "last").out.splitlines()
    assert shown[0].startswith(told.json["key"])
    assert shown[-1] == f"differs in: {field}"


def test_why_takes_a_request_id_or_the_beginning_of_a_key(cli: Cli, project: Project) -> None:
    bought = cli("run", "agent", "alpha", "--task", "One", "--json").json
    project.agent("alpha", "You are strict.")
    run(cli, "alpha", "One")
    by_id = cli("cache", "why", bought["request_id"], "--json").json
    assert by_id["changed"] == ["system[0]"]
    assert len(by_id["key"]) == 32
    by_key = cli("cache", "why", by_id["key"][:10], "--json").json
    assert by_key == by_id
    assert cli("cache", "why", by_id["nearest"], "--json").json["nearest"] == by_id["key"]


def test_why_of_the_only_answer_and_of_an_unknown_one(cli: Cli) -> None:
    run(cli)
    alone = cli("cache", "why")
    assert alone.code == 0
    assert "There is no other answer to compare it with." in alone.out
    assert cli("cache", "why", "--json").json["nearest"] is None
    unknown = cli("cache", "why", "req_unknown")
    assert unknown.code == 3
    assert "The cache holds no answer to 'req_unknown'" in unknown.err


# ---- export and import


def test_answers_travel_to_a_machine_with_the_same_secret(
    process: Process, project: Project, paid: Paid
) -> None:
    here = {"CLAUDE_CACHE_SECRET": "shared", "XDG_CACHE_HOME": str(project.home / "here")}
    there = {"CLAUDE_CACHE_SECRET": "shared", "XDG_CACHE_HOME": str(project.home / "there")}
    ask = ("run", "agent", "alpha", "--task", "Look at this")
    bought = process(*ask, env=here)
    exported = process("cache", "export", "answers.jsonl", env=here)
    assert exported.code == 0
    assert exported.out == "answers.jsonl: 1 answer.\n"
    assert stat.S_IMODE((project.root / "answers.jsonl").stat().st_mode) == 0o600
    # Nothing was ever answered there.
    imported = process("cache", "import", "answers.jsonl", "--json", env=there)
    assert imported.code == 0, imported.err
    assert imported.json == {"file": "answers.jsonl", "imported": 1, "refused": 0}
    hit = process(*ask, env=there)
    assert hit.out == bought.out
    assert "from the cache (disk, " in hit.err
    assert paid() == 1


def test_answers_of_another_secret_are_refused(
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    project: Project,
    user_answers: AnswerFile,
    paid: Paid,
) -> None:
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", "theirs")
    run(cli)
    assert cli("cache", "export", "answers.jsonl", "--json").json["exported"] == 1
    assert cli("cache", "clear").code == 0
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", "mine")
    refused = cli("cache", "import", "answers.jsonl")
    assert refused.code == 1
    assert "0 answers taken, 1 refused." in refused.out
    assert "another CLAUDE_CACHE_SECRET" in refused.out
    assert user_answers.count() == 0
    run(cli)
    assert paid() == 2


def test_an_edited_line_is_refused_and_the_others_are_taken(
    cli: Cli, project: Project, paid: Paid
) -> None:
    for task in ("One", "Two", "Three"):
        run(cli, "alpha", task)
    assert cli("cache", "export", "answers.jsonl").code == 0
    lines = project.lines("answers.jsonl")
    lines[1]["record"] = lines[1]["record"][:-8] + "AAAAAAA="
    # What stands beside the record is for people.
    lines[0]["agent_name"] = "somebody else"
    project.write("edited.jsonl", "".join(json.dumps(line) + "\n" for line in lines) + "no JSON\n")
    cli("cache", "clear")
    taken = cli("cache", "import", "edited.jsonl", "--json")
    assert taken.code == 1
    assert (taken.json["imported"], taken.json["refused"]) == (2, 2)
    for task in ("One", "Two", "Three"):
        run(cli, "alpha", task)
    assert paid() == 4


def test_an_export_overwrites_nothing_and_an_import_needs_a_file(
    cli: Cli, project: Project
) -> None:
    run(cli)
    project.write("thesis.txt", "years of work")
    refused = cli("cache", "export", "thesis.txt")
    assert refused.code == 3
    assert "thesis.txt" in refused.err
    assert (project.root / "thesis.txt").read_text() == "years of work"
    missing = cli("cache", "import", "nowhere.jsonl")
    assert missing.code == 3
    assert "nowhere.jsonl" in missing.err


def test_an_imported_answer_keeps_its_age(cli: Cli, later: Later, paid: Paid) -> None:
    run(cli)
    assert cli("cache", "export", "answers.jsonl").code == 0
    assert cli("cache", "clear").code == 0
    later(23 * 3600)
    assert cli("cache", "import", "answers.jsonl").code == 0
    run(cli)
    assert paid() == 1
    later(2 * 3600)
    run(cli)
    assert paid() == 2
