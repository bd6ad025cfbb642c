"""Of many items only those that changed are asked again, by the simulator's own count of requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cli, Project

    from claude_force.simulator import SimulatorThread

    Paid = Callable[[], int]

FILES = 200
EACH = {
    "steps": [
        {"id": "look", "agent": "alpha", "task": "Look for faults.", "for_each": "files"},
        {"id": "sum", "agent": "beta", "task": "Sum up.", "needs": ["look"], "files": False},
    ]
}


@pytest.fixture(autouse=True)
def with_key(monkeypatch: pytest.MonkeyPatch, simulator: SimulatorThread) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-the-tests")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)


def write_files(project: Project, count: int) -> None:
    for number in range(count):
        project.write(f"src/part_{number}.py", f"x = {number}\n")


@pytest.mark.parametrize("results", ["kept", "lost"])
def test_edited_file_of_a_map_of_200_costs_one_call(
    cli: Cli, project: Project, paid: Paid, results: str
) -> None:
    write_files(project, FILES)
    project.items(
        *({"task": "Look.", "files": [f"src/part_{number}.py"]} for number in range(FILES))
    )

    def map_all() -> int:
        return cli("run", "map", "alpha", "--items", "items.jsonl", "--out", "out.jsonl").code

    assert map_all() == 0
    assert paid() == FILES
    project.write("src/part_7.py", "x = 'edited'\n")
    if results == "lost":
        # Then the response cache has the rest.
        (project.root / "out.jsonl").unlink()
    assert map_all() == 0
    assert paid() == FILES + 1
    assert len(project.lines("out.jsonl")) == FILES
    assert all(line["ok"] for line in project.lines("out.jsonl"))
    assert map_all() == 0
    assert paid() == FILES + 1


def test_edited_file_of_a_batched_map_is_a_batch_of_one(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    write_files(project, 20)
    project.items(*({"task": "Look.", "files": [f"src/part_{number}.py"]} for number in range(20)))
    command = ("run", "map", "alpha", "--items", "items.jsonl", "--out", "out.jsonl", "--batch")
    assert cli(*command).code == 0
    project.write("src/part_7.py", "x = 'edited'\n")
    (project.root / "out.jsonl").unlink()
    assert cli(*command).code == 0
    sent = [
        len(request.body["requests"])
        for request in simulator.requests
        if (request.method, request.path) == ("POST", "/v1/messages/batches")
    ]
    assert sent == [20, 1]


def test_step_over_files_asks_only_for_the_edited_one_and_what_follows_from_it(
    cli: Cli, project: Project, paid: Paid
) -> None:
    project.write(".claude/workflows/each.json", json.dumps(EACH))
    write_files(project, 40)
    command = ("run", "workflow", "each", "--task", "Review this", "-f", "src", "--json")
    assert cli(*command).code == 0
    assert paid() == 41
    # A new run, not a resumed one: nothing has changed, so nothing is asked.
    assert cli(*command).code == 0
    assert paid() == 41
    project.write("src/part_7.py", "x = 'edited'\n")
    assert cli(*command).code == 0
    # The item, and the step that reads its answer.
    assert paid() == 43


def test_item_that_is_new_in_a_list_costs_one_call(cli: Cli, project: Project, paid: Paid) -> None:
    def run_over(names: list[str]) -> None:
        step = {"id": "greet", "agent": "alpha", "task": "Greet {{ item }}.", "for_each": names}
        project.write(".claude/workflows/greet.json", json.dumps({"steps": [step]}))
        assert cli("run", "workflow", "greet").code == 0

    run_over(["Ada", "Grace", "Edsger"])
    assert paid() == 3
    # In the middle, so that every later one has another place.
    run_over(["Ada", "Barbara", "Grace", "Edsger"])
    assert paid() == 4
