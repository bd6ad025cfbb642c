from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.simulator import Fault, FaultKind, Latency, Scenario, SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cli, Project, Spawn

MAP = ("run", "map", "alpha", "--items", "items.jsonl", "--out", "out.jsonl", "--no-cache")
SLOW = Scenario(
    latency=Latency(
        distribution="fixed", first_event_median_seconds=0.02, output_tokens_per_second=1e9
    )
)


def tasks(*names: str) -> list[dict[str, Any]]:
    return [{"id": name, "task": f"Look at {name}."} for name in names]


def test_every_item_gets_a_line_with_its_id_and_line_number(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    project.items({"task": "first"}, {"task": "second", "id": "b"}, {"task": "third", "id": 77})
    ended = cli(*MAP)
    assert ended.code == 0
    assert ended.out == ""
    assert ended.err.startswith("3 of 3 items, $0.0")
    assert "Results: out.jsonl" in ended.err
    lines = sorted(project.lines("out.jsonl"), key=lambda line: line["line"])
    assert [(line["line"], line["id"], line["ok"]) for line in lines] == [
        (1, 1, True),
        (2, "b", True),
        (3, 77, True),
    ]
    assert all(line["text"].startswith("[simulated answer") for line in lines)
    assert all(float(line["cost_usd"]) > 0 for line in lines)
    assert "> second" in lines[1]["text"]


def test_item_may_name_its_agent_and_its_files(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    project.write("src/app.py", "APP = 1\n")
    project.items({"task": "x", "agent": "beta", "files": ["src"]}, {"task": "y"})
    assert cli(*MAP).code == 0
    by_agent = {request.body["system"][0]["text"]: request.body for request in simulator.requests}
    assert by_agent.keys() == {"You are alpha.", "You are beta."}
    assert 'path="src/app.py"' in json.dumps(by_agent["You are beta."]).replace('\\"', '"')
    assert "APP" not in json.dumps(by_agent["You are alpha."])


def test_rerun_does_only_what_is_missing(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    project.items(*tasks("a", "b"))
    cli(*MAP)
    first = (project.root / "out.jsonl").read_bytes()
    project.items(*tasks("a", "b", "c"))
    ended = cli(*MAP)
    assert ended.code == 0
    assert simulator.stats.requests == 3
    assert "out.jsonl: 2 results are kept.\n" in ended.err
    assert "3 of 3 items, 2 kept" in ended.err
    assert (project.root / "out.jsonl").read_bytes().startswith(first)
    assert [line["id"] for line in project.lines("out.jsonl")][2:] == ["c"]
    assert cli(*MAP).code == 0
    assert simulator.stats.requests == 3


def test_changed_item_is_done_again_and_its_earlier_answer_is_set_aside(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    project.items(*tasks("a", "b"))
    cli(*MAP)
    project.items({"id": "a", "task": "Something else."}, *tasks("b"))
    ended = cli(*MAP)
    assert ended.code == 0
    assert simulator.stats.requests == 3
    assert "1 answers to earlier questions were moved to out.jsonl.old" in ended.err
    assert {line["id"] for line in project.lines("out.jsonl")} == {"a", "b"}
    assert ["> Look at a." in line["text"] for line in project.lines("out.jsonl.old")] == [True]


@pytest.mark.parametrize("change", ["model", "agent", "file"])
def test_whatever_changes_the_question_makes_it_a_new_one(
    cli: Cli, project: Project, simulator: SimulatorThread, change: str
) -> None:
    project.write("src/app.py", "APP = 1\n")
    project.items({"task": "x", "files": ["src"]})
    cli(*MAP)
    options = []
    if change == "model":
        options = ["--model", "haiku"]
    elif change == "agent":
        project.agent("alpha", "You are alpha, rewritten.")
    else:
        project.write("src/app.py", "APP = 2\n")
    assert cli(*MAP, *options).code == 0
    assert simulator.stats.requests == 2


def test_without_a_key_nothing_is_moved_and_nothing_is_sent(
    cli: Cli, project: Project, simulator: SimulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.items(*tasks("a"))
    cli(*MAP)
    before = (project.root / "out.jsonl").read_bytes()
    project.items({"id": "a", "task": "Something else."})
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    ended = cli(*MAP, key=None)
    assert ended.code == 4
    assert (project.root / "out.jsonl").read_bytes() == before
    assert simulator.stats.requests == 1


def test_failed_item_is_told_kept_as_a_line_and_done_again(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    project.items(*tasks("a", "b", "c"))
    simulator.queue_fault(Fault(kind=FaultKind.REFUSAL, match="Look at b."))
    ended = cli(*MAP)
    assert ended.code == 7
    assert "1 of 3 items failed" in ended.err
    assert "b (alpha): The model refused to answer" in ended.err
    assert "Run the same command again to do what is missing." in ended.err
    (failed,) = [line for line in project.lines("out.jsonl") if not line["ok"]]
    assert failed["id"] == "b"
    assert failed["error"]["kind"] == "incomplete_answer"
    again = cli(*MAP)
    assert again.code == 0
    assert simulator.stats.requests == 4
    assert sorted(line["id"] for line in project.lines("out.jsonl")) == ["a", "b", "c"]
    assert all(line["ok"] for line in project.lines("out.jsonl"))


def test_spend_cap_stops_the_map_and_a_rerun_goes_on(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    project.items(*tasks(*(f"n{n}" for n in range(30))))
    simulator.queue_fault(Fault(kind=FaultKind.BILLING, match="Look at n10."))
    ended = cli(*MAP, "--max-concurrent", "1")
    assert ended.code == 8
    assert simulator.stats.requests <= 12
    assert simulator.stats.answers >= 9
    paid = simulator.stats.answers
    assert cli(*MAP).code == 0
    assert simulator.stats.answers == 30
    assert paid == sum(line["ok"] for line in project.lines("out.jsonl")) - (30 - paid)


def test_json_is_one_line_an_item_and_needs_no_file(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    project.items(*tasks("a", "b"))
    simulator.queue_fault(Fault(kind=FaultKind.REFUSAL, match="Look at b."))
    ended = cli("run", "map", "alpha", "--items", "items.jsonl", "--json")
    assert ended.code == 7
    lines = sorted(ended.json_lines, key=lambda line: line["id"])
    assert [(line["id"], line["ok"]) for line in lines] == [("a", True), ("b", False)]


def test_items_may_come_from_stdin(cli: Cli, project: Project) -> None:
    stdin = b'{"task": "x"}\n\n{"task": "y"}'
    ended = cli("run", "map", "alpha", "--items", "-", "--out", "out.jsonl", stdin=stdin)
    assert ended.code == 0
    assert sorted(line["id"] for line in project.lines("out.jsonl")) == [1, 3]


def test_id_with_half_a_surrogate_pair_is_written_and_found_again(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    project.write("items.jsonl", '{"task": "x", "id": "\\ud800"}\n')
    assert cli(*MAP, "--json").code == 0
    assert cli(*MAP).code == 0
    assert simulator.stats.requests == 1


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ('{"task": "x", "id": 1}\n{"task": "y", "id": "1"}\nnonsense\n', ["line 2: the id '1' stands in line 1", "line 3: not valid JSON"]),
        ('{"task": ""}\n{"task": "x", "agent": "nobody"}\n{"task": "x", "files": ["no.py"]}\n', ["line 1: The task is empty", "line 2: Agent 'nobody' not found", "line 3: "]),
        ("", ["There are no items"]),
    ],
)  # fmt: skip
def test_every_bad_item_is_reported_before_anything_is_sent(
    cli: Cli, project: Project, simulator: SimulatorThread, text: str, messages: list[str]
) -> None:
    project.write("items.jsonl", text)
    ended = cli(*MAP)
    assert ended.code == 3
    for message in messages:
        assert message in ended.err
    assert simulator.stats.requests == 0
    assert not (project.root / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody", "--items", "items.jsonl", "--out", "o"], "Agent 'nobody' not found"),
        (["alpha", "--items", "none.jsonl", "--out", "o"], "'none.jsonl': No such file"),
        (["alpha", "--items", "items.jsonl"], "Name a file for the results with --out"),
        (["alpha", "--items", "items.jsonl", "--out", "items.jsonl"], "is not a file of results"),
        (["alpha", "--items", "items.jsonl", "--out", "no/such/o"], "cannot be written"),
    ],
)
def test_command_that_cannot_work_is_refused(
    cli: Cli, project: Project, simulator: SimulatorThread, arguments: list[str], message: str
) -> None:
    items = project.items(*tasks("a"))
    before = items.read_bytes()
    ended = cli("run", "map", *arguments)
    assert ended.code == 3
    assert message in ended.err
    assert items.read_bytes() == before
    assert simulator.stats.requests == 0


def test_truncated_last_line_is_repaired(
    cli: Cli, project: Project, simulator: SimulatorThread
) -> None:
    project.items(*tasks("a", "b"))
    cli(*MAP)
    out = project.root / "out.jsonl"
    whole = out.read_bytes()
    out.write_bytes(whole[:-40])
    assert cli(*MAP).code == 0
    assert simulator.stats.requests == 3
    assert sorted(line["id"] for line in project.lines("out.jsonl")) == ["a", "b"]


def test_killed_map_goes_on_where_it_was_and_pays_again_only_what_was_in_flight(
    spawn: Spawn,
    cli: Cli,
    project: Project,
    simulator: SimulatorThread,
    until: Callable[[Any], None],
) -> None:
    simulator.use_scenario(SLOW)
    project.items(*tasks(*(f"n{n:03}" for n in range(120))))
    out = project.root / "out.jsonl"
    running = spawn(*MAP, "--max-concurrent", "4")
    until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 20)
    running.send_signal(signal.SIGKILL)
    running.wait()
    until(lambda: simulator.stats.open_connections == 0)
    written = out.read_bytes().count(b"\n")
    assert 20 <= written < 120
    ended = cli(*MAP)
    assert ended.code == 0
    assert f"{written} results are kept" in ended.err
    assert sorted(line["id"] for line in project.lines("out.jsonl")) == [
        f"n{n:03}" for n in range(120)
    ]
    # Paid twice: what was on the wire, or answered and not yet written. With a bound of 4 that is a handful.
    assert simulator.stats.requests - 120 <= 4 + 8
    assert not list(project.root.glob(".out*"))


def test_interrupted_map_keeps_what_was_done_and_says_how_to_go_on(
    spawn: Spawn,
    cli: Cli,
    project: Project,
    simulator: SimulatorThread,
    until: Callable[[Any], None],
) -> None:
    simulator.use_scenario(SLOW)
    project.items(*tasks(*(f"n{n}" for n in range(300))))
    out = project.root / "out.jsonl"
    running = spawn(*MAP, "--max-concurrent", "2")
    until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 5)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "items were not done; run the same command again to go on." in err
    assert err.endswith("Interrupted.\n")
    assert "Traceback" not in err
    simulator.use_scenario("instant")
    assert cli(*MAP).code == 0
    assert len({line["id"] for line in project.lines("out.jsonl")}) == 300


def test_second_map_to_the_same_file_is_refused(
    spawn: Spawn,
    cli: Cli,
    project: Project,
    simulator: SimulatorThread,
    until: Callable[[Any], None],
) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.STALL, after_bytes=1_000))
    project.items(*tasks("a"))
    running = spawn(*MAP)
    until(lambda: simulator.stats.requests == 1)
    ended = cli(*MAP)
    assert ended.code == 3
    assert "Another process is writing to 'out.jsonl'" in ended.err
    assert simulator.stats.requests == 1
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert cli(*MAP).code == 0


def test_map_over_the_simulator_says_that_no_model_ran(cli: Cli, project: Project) -> None:
    project.items(*tasks("a"))
    ended = cli(*MAP, "--scenario", "instant", key=None)
    assert ended.code == 0
    assert ended.err.startswith("Simulated: no model runs")


def test_file_that_disappears_on_the_way_fails_its_item_and_no_other(
    cli: Cli, project: Project, simulator: SimulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Removed while the items before it are under way: `--max-concurrent 1` reads two items ahead.
    doomed = project.write("doomed.py", "X = 1\n")
    project.items(*tasks(*"abcdef"), {"id": "z", "task": "x", "files": ["doomed.py"]})
    simulator.use_scenario(SLOW)
    from claude_force.cli import run_map

    taken = run_map._take

    def remove_and_take(*arguments: Any, **options: Any) -> None:
        doomed.unlink(missing_ok=True)
        taken(*arguments, **options)

    monkeypatch.setattr(run_map, "_take", remove_and_take)
    ended = cli(*MAP, "--max-concurrent", "1")
    assert ended.code == 7
    states = {line["id"]: line["ok"] for line in project.lines("out.jsonl")}
    assert states == {**dict.fromkeys("abcdef", True), "z": False}
