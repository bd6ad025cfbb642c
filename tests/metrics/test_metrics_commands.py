"""The group `metrics`, over a store that the program's own runs have filled."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest

from claude_force.metrics.rows import CallRow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cli, Project
    from tests.metrics.conftest import MakeRow


@pytest.fixture
def recorded(cli: Cli) -> None:
    """Two answers of alpha, one of them from the cache, and one of beta."""
    for agent in ("alpha", "alpha", "beta"):
        assert cli("run", "agent", agent, "--task", "Look at this", "--json").code == 0


@pytest.mark.usefixtures("recorded")
def test_summary_tells_what_was_run(cli: Cli) -> None:
    shown = cli("metrics", "summary")
    assert shown.code == 0
    assert "calls    3 in the last 7 d; 100% succeeded, 0 failed\n" in shown.out
    assert "by the response cache: 1 answer, 33.3% of all" in shown.out
    told = cli("metrics", "summary", "--json", "--since", "1h").json
    assert (told["calls"], told["cached"], told["calls_without_price"]) == (3, 1, 0)
    assert float(told["cost_usd"]) > 0


@pytest.mark.usefixtures("recorded")
def test_groups_have_a_line_each(cli: Cli) -> None:
    lines = cli("metrics", "agents").out.splitlines()
    assert lines[0].split() == [
        *(
            "agent",
            "calls",
            "failed",
            "cached",
            "p50",
            "p95",
            "p99",
            "tokens",
            "in",
            "out",
            "cost",
            "saved",
        ),
    ]
    assert {line.split()[0]: line.split()[1] for line in lines[1:]} == {"alpha": "2", "beta": "1"}
    assert [one["model"] for one in cli("metrics", "models", "--json").json] == [
        "claude-sonnet-5-5"
    ]
    assert "(no workflow)" in cli("metrics", "workflows").out
    assert "alpha · claude-sonnet-5-5" in cli("metrics", "costs").out
    assert len(cli("metrics", "trends", "--by", "hour", "--json").json) in {1, 2}


@pytest.mark.usefixtures("recorded")
def test_single_calls_are_listed(cli: Cli) -> None:
    slow = cli("metrics", "slowest", "--limit", "2", "--json").json
    assert len(slow) == 2
    assert slow[0]["seconds"] >= slow[1]["seconds"]
    assert cli("metrics", "failures").out == "No call failed in the last 7 d.\n"


@pytest.mark.usefixtures("recorded")
def test_explain_says_on_stderr_what_was_read(cli: Cli) -> None:
    shown = cli("metrics", "agents", "--explain", "--json")
    assert isinstance(shown.json, list)
    assert shown.err.startswith("query cache: miss, a command begins with an empty one; read ")


@pytest.mark.usefixtures("recorded")
def test_export_has_every_call(cli: Cli, project: Project) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("metrics", "export").out)))
    assert [row["agent_name"] for row in rows] == ["alpha", "alpha", "beta"]
    assert list(rows[0]) == list(CallRow._fields)
    done = cli("metrics", "export", "--format", "json", "--output", "calls.jsonl")
    assert done.err == "calls.jsonl: 3 calls.\n"
    assert [line["cost_usd"] for line in project.lines("calls.jsonl")] == [
        row["cost_usd"] for row in rows
    ]


def test_failures_name_their_kind(cli: Cli) -> None:
    assert cli("run", "agent", "alpha", "--task", "x", "--timeout", "0.001").code == 9
    told = cli("metrics", "failures", "--json").json
    assert [(one["error_kind"], one["agent"], one["calls"]) for one in told["counts"]] == [
        ("timeout", "alpha", 1)
    ]
    assert told["last"][0]["error_kind"] == "timeout"


def test_nothing_recorded_is_said_and_makes_nothing(cli: Cli, project: Project) -> None:
    for command in ("summary", "agents", "trends", "slowest"):
        assert cli("metrics", command).out == "No calls were recorded in the last 7 d.\n"
    assert cli("metrics", "export", "--format", "json").out == ""
    assert cli("metrics", "alerts", "--check").code == 0
    assert not (project.home / "state").exists()


def test_check_of_alerts_is_1_when_one_fires(
    cli: Cli, store_path: Path, fill: Callable[[list[CallRow]], None], make_row: MakeRow
) -> None:
    import time

    now = time.time()
    fill([make_row(now - 30, error_kind="timeout" if n < 20 else None) for n in range(40)])
    folder = str(store_path.parent)
    shown = cli("metrics", "alerts", "--check", "--dir", folder)
    assert shown.code == 1
    assert shown.out.startswith("FIRING           error_rate          50.0% of the calls")
    assert cli("metrics", "alerts", "--dir", folder).code == 0
    told = json.loads(cli("metrics", "alerts", "--dir", folder, "--json").out)
    assert told["firing"] is True


def test_thresholds_come_from_claude_json(
    cli: Cli,
    project: Project,
    store_path: Path,
    fill: Callable[[list[CallRow]], None],
    make_row: MakeRow,
) -> None:
    import time

    fill([make_row(time.time() - 30, seconds=4.0) for _ in range(40)])
    folder = str(store_path.parent)
    assert cli("metrics", "alerts", "--check", "--dir", folder).code == 0
    project.config(metrics={"alerts": {"p95_seconds": 3}})
    assert cli("metrics", "alerts", "--check", "--dir", folder).code == 1
    project.config(metrics={"alerts": {"p95_seconds": None}})
    assert cli("metrics", "alerts", "--check", "--dir", folder).code == 0
    project.config(metrics={"alerts": {"p95_seconds": "3", "succes_rate": 0.5}})
    failed = cli("metrics", "alerts", "--dir", folder)
    assert failed.code == 3
    assert "metrics.alerts.p95_seconds: expected a number of 0 or more, or null" in failed.err
    checked = cli("config", "check").out
    assert "metrics.alerts.succes_rate: nothing reads this key; did you mean" in checked


def test_calls_of_simulated_runs_are_pointed_at_where_there_are_no_others(cli: Cli) -> None:
    assert cli("run", "agent", "alpha", "--task", "x", "--simulate").code == 0
    said = "No calls of beta were recorded in the last 1 h."
    assert cli("metrics", "agents", "--agent", "beta", "--since", "1h").out == (
        f"{said} Those of --simulate lie apart: add --simulated.\n"
    )
    shown = cli("metrics", "agents", "--agent", "beta", "--since", "1h", "--simulated")
    assert shown.out == f"{said}\n"


def test_a_store_that_cannot_be_used_costs_a_run_one_warning_and_no_answer(
    cli: Cli, project: Project
) -> None:
    folder = project.home / "state" / "claude-force"
    folder.mkdir(parents=True)
    (folder / "metrics.db").write_text("this is no database")
    project.items({"task": "One"}, {"task": "Two"}, {"task": "Three"})
    done = cli("run", "map", "alpha", "--items", "items.jsonl", "--out", "out.jsonl")
    assert done.code == 0
    assert [line for line in done.err.splitlines() if line.startswith("Warning: ")] == [
        (
            "Warning: metrics cannot be recorded; calls go on without them "
            f"({str(folder / 'metrics.db')!r} was not written by claude-force; "
            "move it away or name another folder)"
        )
    ]
    assert all(line["ok"] for line in project.lines("out.jsonl"))


def test_folder_that_is_not_there_is_3(cli: Cli) -> None:
    assert cli("metrics", "summary", "--dir", "nowhere").code == 3


def test_names_cannot_steer_the_terminal_or_a_spreadsheet(
    cli: Cli, store_path: Path, fill: Callable[[list[CallRow]], None], make_row: MakeRow
) -> None:
    import time

    fill([make_row(time.time(), model="=cmd()\x1b[31m", workflow_name="x" * 90)])
    folder = str(store_path.parent)
    assert "\x1b" not in cli("metrics", "models", "--dir", folder).out
    assert len(cli("metrics", "workflows", "--dir", folder).out.splitlines()[1]) < 140
    (row,) = csv.DictReader(io.StringIO(cli("metrics", "export", "--dir", folder).out))
    assert row["model"].startswith("'=cmd()")
