"""Runs on record: going on with them, stopping them, looking at them."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import AgentOrchestrator, AsyncAgentOrchestrator, InputError, JournalError
from claude_force.simulator import Latency, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cli, MakeBlocking, Project, Spawn, Until

    from claude_force.simulator import SimulatorThread

Sent = "Callable[[], list[str]]"
SLOW = Scenario(
    name="slow",
    summary="half a second",
    latency=Latency(distribution="fixed", first_event_median_seconds=0.5),
)


def three(middle: str = "Do two.") -> dict[str, Any]:
    return {
        "steps": [
            {"id": "one", "agent": "alpha", "task": "Do one."},
            {"id": "two", "agent": "beta", "task": middle, "needs": ["one"]},
            {"id": "three", "agent": "gamma", "task": "Do three.", "needs": ["two"]},
        ]
    }


def own_tasks(sent: list[str]) -> list[str]:
    """What the steps were asked, without the task of the run."""
    return [text.split("\n")[0] for text in sent]


class TestResume:
    def test_a_whole_run_asks_nothing_again(
        self, make_blocking: MakeBlocking, simulator: SimulatorThread
    ) -> None:
        with make_blocking(enable_cache=False) as force:
            run = force.execute_workflow(three(), "Go.")
            again = force.resume_workflow(run.run_id)
        assert len(simulator.requests) == 3
        assert again.results == run.results
        assert again.run_id == run.run_id
        assert again.cost_usd == 0
        tiers = [step.result.cached.tier for step in again.steps.values() if step.result]  # type: ignore[union-attr] # all are
        assert tiers == ["journal"] * 3

    def test_a_changed_step_is_asked_with_what_is_behind_it(
        self, make_blocking: MakeBlocking, project: Project, tasks_sent: Callable[[], list[str]]
    ) -> None:
        project.config(workflows={"flow": three()})
        with make_blocking(enable_cache=False) as force:
            run = force.execute_workflow("flow", "Go.")
        project.config(workflows={"flow": three(middle="Do two better.")})
        with make_blocking(enable_cache=False) as force:
            force.resume_workflow(run.run_id)
        assert own_tasks(tasks_sent()) == [
            "Do one.",
            "Do two.",
            "Do three.",
            "Do two better.",
            "Do three.",
        ]

    def test_steps_that_were_moved_or_added_ask_for_the_new_ones_alone(
        self, make_blocking: MakeBlocking, project: Project, tasks_sent: Callable[[], list[str]]
    ) -> None:
        project.config(workflows={"flow": three()})
        with make_blocking(enable_cache=False) as force:
            run = force.execute_workflow("flow", "Go.")
        steps = three()["steps"]
        new = {"id": "four", "agent": "alpha", "task": "Do four.", "needs": ["three"]}
        project.config(workflows={"flow": {"steps": [new, *reversed(steps)]}})
        with make_blocking(enable_cache=False) as force:
            result = force.resume_workflow("last")
        assert result.ok
        assert result.run_id == run.run_id
        assert own_tasks(tasks_sent()[3:]) == ["Do four."]

    def test_a_file_that_changed_is_read_again(
        self, cli: Cli, project: Project, simulator: SimulatorThread
    ) -> None:
        project.config(
            workflows={
                "flow": {
                    "steps": [
                        {"id": "one", "agent": "alpha", "task": "Do one."},
                        {"id": "two", "agent": "beta", "task": "Do two.", "files": False},
                    ]
                }
            }
        )
        project.write("a.txt", "first")
        assert cli("run", "workflow", "flow", "-f", "a.txt").code == 0
        project.write("a.txt", "second")
        assert cli("runs", "resume").code == 0
        assert len(simulator.requests) == 3
        assert "second" in json.dumps(simulator.requests[2].body)

    def test_a_run_without_a_name_is_taken_as_it_was_kept(
        self, make_blocking: MakeBlocking, simulator: SimulatorThread
    ) -> None:
        with make_blocking(enable_cache=False) as force:
            run = force.execute_workflow(["alpha", "beta"], "Go.")
        with make_blocking(enable_cache=False) as force:
            assert force.resume_workflow(run.run_id).results == run.results
        assert len(simulator.requests) == 2

    def test_an_unknown_run_is_refused_and_near_ones_are_named(
        self, make_blocking: MakeBlocking
    ) -> None:
        with make_blocking() as force:
            with pytest.raises(InputError, match="No run is on record yet"):
                force.resume_workflow("last")
            run = force.execute_workflow(["alpha"], "Go.")
            with pytest.raises(InputError, match=f"The last ones are: {run.run_id}"):
                force.resume_workflow("zzzz")

    def test_of_two_processes_one_goes_on_and_the_other_says_so(
        self, cli: Cli, spawn: Spawn, project: Project, simulator: SimulatorThread, until: Until
    ) -> None:
        project.config(workflows={"flow": three()})
        simulator.use_scenario(SLOW)
        running = spawn("run", "workflow", "flow", "--task", "Go.", "--no-cache")
        until(lambda: simulator.requests)
        second = cli("runs", "resume", "--no-cache")
        assert second.code == 1
        assert "Another process works on run" in second.err
        assert "claude-force runs cancel" in second.err
        assert running.wait(30) == 0
        assert len(simulator.requests) == 3


class TestCancel:
    def test_a_run_of_another_process_ends_what_is_on_its_way_and_sends_no_more(
        self, cli: Cli, spawn: Spawn, project: Project, simulator: SimulatorThread, until: Until
    ) -> None:
        project.config(workflows={"flow": three()})
        simulator.use_scenario(SLOW)
        running = spawn("run", "workflow", "flow", "--task", "Go.", "--no-cache")
        until(lambda: simulator.requests)
        told = cli("runs", "cancel", "--json")
        assert told.json["told"] is True
        _, err = running.communicate(timeout=30)
        assert running.returncode == 130
        assert "claude-force runs resume" in err
        sent = len(simulator.requests)
        assert sent < 3
        simulator.use_scenario("instant")
        assert cli("runs", "resume", "--no-cache").code == 0
        assert len(simulator.requests) == 3

    def test_a_run_that_has_ended_cannot_be_stopped(self, cli: Cli) -> None:
        assert cli("runs", "cancel").code == 3
        cli("run", "agent", "alpha", "--task", "x")
        assert "No run is on record yet" in cli("runs", "cancel").err


class TestLooking:
    def test_list_and_show_tell_how_steps_ended(self, cli: Cli, project: Project) -> None:
        project.config(workflows={"flow": three()})
        assert cli("run", "workflow", "flow", "--task", "Go.").code == 0
        (entry,) = cli("runs", "list", "--json").json
        assert (entry["workflow"], entry["state"]) == ("flow", "succeeded")
        shown = cli("runs", "show", entry["run_id"][:6], "--json").json
        assert [(step["id"], step["state"]) for step in shown["steps"]] == [
            ("one", "succeeded"),
            ("two", "succeeded"),
            ("three", "succeeded"),
        ]
        assert [len(step["calls"]) for step in shown["steps"]] == [1, 1, 1]
        assert "flow" in cli("runs", "show").out

    def test_a_killed_run_was_interrupted(
        self, cli: Cli, spawn: Spawn, project: Project, simulator: SimulatorThread, until: Until
    ) -> None:
        project.config(workflows={"flow": three()})
        simulator.use_scenario(
            Scenario(latency=Latency(distribution="fixed", first_event_median_seconds=9))
        )
        running = spawn("run", "workflow", "flow", "--no-cache")
        until(lambda: "running   one" in cli("runs", "show").out)
        running.send_signal(signal.SIGKILL)
        running.wait(30)
        (entry,) = cli("runs", "list", "--json").json
        assert entry["state"] == "interrupted"
        assert "cut off   one" in cli("runs", "show").out

    def test_prune_removes_old_runs_with_their_texts(
        self, cli: Cli, project: Project, make_blocking: MakeBlocking
    ) -> None:
        project.config(workflows={"flow": three()})
        for task in ("Alpha task.", "Beta task."):
            assert cli("run", "workflow", "flow", "--task", task).code == 0
        assert cli("runs", "prune", "--keep", "1", "--json").json == {"removed": 1}
        assert len(cli("runs", "list", "--json").json) == 1
        with make_blocking() as force:
            kept = force.run_store().load(force.run_store().find("last"))
        texts = " ".join(
            part.text for step in kept.steps for call in step.calls for part in call.prompt
        )
        assert "Beta task." in texts
        assert cli("runs", "prune").code == 3

    def test_report_is_written_and_replaces_only_a_report(self, cli: Cli, project: Project) -> None:
        project.config(workflows={"flow": three()})
        assert cli("run", "workflow", "flow", "--report", "out.html").code == 0
        page = (project.root / "out.html").read_text()
        assert "Do three." in page
        assert (project.root / "out.html").stat().st_mode & 0o777 == 0o600
        assert cli("runs", "report", "--html", "out.html").code == 0
        project.write("notes.html", "mine")
        refused = cli("runs", "report", "--html", "notes.html")
        assert refused.code == 3
        assert "is no report" in refused.err
        assert (project.root / "notes.html").read_text() == "mine"
        assert cli("runs", "report", "--html", "notes.html", "--force").code == 0

    def test_a_report_that_cannot_be_written_is_said_before_anything_is_paid(
        self, cli: Cli, project: Project, simulator: SimulatorThread
    ) -> None:
        project.config(workflows={"flow": three()})
        for arguments in (["--report", "no/such/out.html"], ["--report", "x.html", "--no-journal"]):
            assert cli("run", "workflow", "flow", *arguments).code == 3
        assert not simulator.requests

    def test_facts_of_a_report_name_the_critical_path(self, cli: Cli, project: Project) -> None:
        project.config(workflows={"flow": three()})
        cli("run", "workflow", "flow")
        facts = cli("runs", "report", "--json").json
        assert facts["critical_steps"] == ["one", "two", "three"]
        assert facts["calls"] == 3


class TestFailingJournal:
    def test_a_journal_that_cannot_be_opened_stops_the_run_before_anything_is_paid(
        self, make_blocking: MakeBlocking, simulator: SimulatorThread, tmp_path: Path
    ) -> None:
        state = tmp_path / "state"
        state.mkdir()
        (state / "runs.db").mkdir()
        with (
            make_blocking(state_dir=state) as force,
            pytest.raises(JournalError, match="--no-journal"),
        ):
            force.execute_workflow(three(), "Go.")
        assert not simulator.requests

    def test_a_journal_that_breaks_in_a_run_stops_it_before_the_next_call(
        self, project: Project, simulator: SimulatorThread, tmp_path: Path
    ) -> None:
        state = tmp_path / "state"

        def break_it(event: object) -> None:
            if type(event).__name__ == "AnswerStarted":
                with sqlite3.connect(state / "runs.db") as database:
                    database.execute(
                        "CREATE TRIGGER broken BEFORE INSERT ON calls BEGIN SELECT RAISE(ABORT, 'disk'); END"
                    )
                database.close()

        async def main() -> Any:
            async with AsyncAgentOrchestrator(
                api_key="k",
                base_url=simulator.base_url,
                state_dir=state,
                enable_cache=False,
                listeners=[break_it],
            ) as force:
                return await force.execute_workflow(three(), "Go.")

        result = asyncio.run(main())
        assert not result.ok
        assert isinstance(result.steps["one"].error, JournalError)
        assert result.steps["two"].state == "skipped"
        assert len(simulator.requests) == 1

    def test_without_a_journal_nothing_is_kept(
        self, make_blocking: MakeBlocking, tmp_path: Path
    ) -> None:
        with make_blocking(state_dir=tmp_path / "state") as force:
            assert force.execute_workflow(three(), "Go.", journal=False).ok
            assert force.run_store().recent() == []


def test_a_double_that_shares_nothing_leaves_no_journal(project: Project) -> None:
    from claude_force.testing import ScriptedClient

    with AgentOrchestrator(client=ScriptedClient()) as force:
        assert force.execute_workflow(three(), "Go.").ok
        assert force.run_store().recent() == []
