"""Runs of workflows from the command line: fan-outs of which a part fails, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from claude_force.simulator import Fault, FaultKind

if TYPE_CHECKING:
    from tests.conftest import Cli, Project, Run

    from claude_force.simulator import SimulatorThread

MERGE = {"id": "merge", "agent": "beta", "task": "Merge.", "needs": ["each"]}


def run_fan_out(
    cli: Cli, project: Project, simulator: SimulatorThread, *options: str, **fields: Any
) -> Run:
    """A fan-out over three items, of which the second fails, and a merge."""
    each = {"id": "each", "agent": "alpha", "task": "Item {{ item }}.", "for_each": ["a", "b", "c"]}
    project.config(workflows={"flow": {"steps": [each | fields, MERGE]}, "each": {"steps": [each]}})
    simulator.queue_fault(Fault(kind=FaultKind.INVALID_REQUEST, match="Item b."))
    return cli("run", "workflow", "flow" if fields else "each", "--no-cache", *options)


def test_what_was_finished_of_a_fan_out_is_printed(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    ended = run_fan_out(cli, project, simulator)
    assert ended.code == 7
    assert ended.out.startswith("--- 1 of 3 ---\n[simulated answer: no model ran]\n")
    assert "\n\n--- 2 of 3: no answer ---\n\n--- 3 of 3 ---\n[simulated answer" in ended.out
    assert "1 of 3 items failed; the first is item 2: " in ended.err


def test_a_run_that_goes_on_without_an_item_says_so_and_is_whole(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    ended = run_fan_out(cli, project, simulator, on_error="continue")
    assert ended.code == 0
    assert "attached: result each" in ended.out
    assert "The run went on although each failed: 1 of 3 items failed" in ended.err
    assert "To do the rest: claude-force runs resume" in ended.err
    merge = simulator.requests[-1].body["messages"][0]["content"]
    assert ", null, " in str(merge)
    again = cli("runs", "resume", "--no-cache")
    assert again.code == 0
    # The item that had no answer, and the merge, whose question is another one now.
    assert len(simulator.requests) == 6


def test_json_has_every_item_of_a_fan_out(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    ended = run_fan_out(cli, project, simulator, "--json")
    (each,) = ended.json["steps"]
    assert [item["ok"] for item in each["items"]] == [True, False, True]
    assert each["items"][0]["result"]["text"].startswith("[simulated answer")
    assert each["items"][1]["error"]["kind"] == "invalid_request"


def test_the_way_on_names_the_scenario_whose_answers_are_kept(cli: Cli, project: Project) -> None:
    project.write("flaky one.json", '{"name": "flaky", "fault_rates": {"invalid_request": 1}}')
    project.config(workflows={"flow": ["alpha"]})
    ended = cli("run", "workflow", "flow", "--task", "x", "--scenario", "flaky one.json")
    assert ended.code == 7
    (line,) = [line for line in ended.err.splitlines() if "To do the rest" in line]
    assert line.endswith(" --scenario 'flaky one.json'")


@pytest.mark.parametrize("command", [("plan",), ("run", "workflow")])
def test_a_fan_out_over_files_without_files_is_refused_before_anything_is_paid(
    cli: Cli, project: Project, simulator: SimulatorThread, command: tuple[str, ...]
) -> None:
    each = {"id": "each", "agent": "alpha", "task": "Look.", "for_each": "files"}
    project.config(workflows={"flow": {"steps": [each, MERGE]}})
    ended = cli(*command, "flow", "--task", "x")
    assert ended.code == 3
    assert "Step 'each' makes a call for each file of the run, and the run has none." in ended.err
    assert not simulator.requests


def test_an_engine_that_is_none_is_named_beside_the_one_that_there_is(
    cli: Cli, project: Project
) -> None:
    project.config(workflows={"flow": ["alpha"]})
    ended = cli("run", "workflow", "flow", "--engine", "temporal")
    assert ended.code == 2
    assert "There is no engine 'temporal'. There is 'local'" in ended.err
