"""Submitted today, collected tomorrow: by another process, into the file that was asked for, and never paid twice."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import AgentCall, BudgetExceededError, ConfigError, InputError
from claude_force.simulator import Fault, FaultKind, Scenario
from claude_force.workflows.batch_ledger import BatchLedger
from claude_force.workflows.submissions import SubmissionStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cli, MakeAsync, MakeBlocking, Process, Project, Spawn, Until

    from claude_force.simulator import SimulatorThread
    from claude_force.workflows.submissions import BatchSubmission

ITEMS = [
    {"id": "red", "task": "Look at red."},
    {"id": 7, "task": "Look at blue."},
    {"task": "Green."},
]
SUBMIT = ("batch", "submit", "alpha", "--items", "items.jsonl", "--out", "out.jsonl")


@pytest.fixture
def batches(simulator: SimulatorThread) -> Callable[[], list[int]]:
    """How many requests each batch had that the simulator was sent."""

    def read() -> list[int]:
        return [
            len(request.body["requests"])
            for request in simulator.requests
            if (request.method, request.path) == ("POST", "/v1/messages/batches")
        ]

    return read


def test_results_are_written_by_another_process_into_the_file_that_was_asked_for(
    project: Project, process: Process, batches: Callable[[], list[int]]
) -> None:
    project.items(*ITEMS)
    submitted = process(*SUBMIT)
    assert submitted.code == 0, submitted.err
    assert "Submitted 3 calls in 1 batch." in submitted.out
    submission_id = submitted.out.split()[-1]
    collected = process("batch", "collect", submission_id, "--wait")
    assert collected.code == 0, collected.err
    lines = {line["line"]: line for line in project.lines("out.jsonl")}
    assert {number: (line["id"], line["ok"]) for number, line in lines.items()} == {
        1: ("red", True),
        2: (7, True),
        3: (3, True),
    }
    assert batches() == [3]
    # The same lines as of a map, so that one goes on from them.
    mapped = process("run", "map", "alpha", "--items", "items.jsonl", "--out", "out.jsonl")
    assert mapped.code == 0, mapped.err
    assert "3 results are kept" in mapped.err
    again = process(*SUBMIT)
    assert again.code == 3
    assert "nothing to submit" in again.err


def test_a_second_collect_costs_nothing_and_brings_a_lost_file_back(
    project: Project, cli: Cli, simulator: SimulatorThread, batches: Callable[[], list[int]]
) -> None:
    project.items(*ITEMS)
    assert cli(*SUBMIT, "--no-cache").code == 0
    assert cli("batch", "collect", "last", "--wait").code == 0
    first = project.lines("out.jsonl")
    (project.root / "out.jsonl").unlink()
    again = cli("batch", "collect", "last", "--json")
    assert again.code == 0, again.err
    second = project.lines("out.jsonl")
    assert {line["id"]: line["text"] for line in second} == {
        line["id"]: line["text"] for line in first
    }
    assert {line["cost_usd"] for line in second} == {"0"}
    assert [line["cached"]["tier"] for line in again.json_lines] == ["journal"] * 3
    third = cli("batch", "collect", "last")
    assert third.code == 0, third.err
    assert project.lines("out.jsonl") == second
    assert batches() == [3]
    assert [request.path for request in simulator.requests] == ["/v1/messages/batches"]


def test_who_comes_too_early_is_told_so_and_gets_what_is_there(
    project: Project, cli: Cli, simulator: SimulatorThread
) -> None:
    simulator.use_scenario(Scenario(name="long", summary="takes an hour", batch_seconds=3600.0))
    project.items(*ITEMS)
    assert cli(*SUBMIT).code == 0
    early = cli("batch", "collect")
    assert early.code == 7
    assert "3 of 3 results are not there yet" in early.err
    assert project.lines("out.jsonl") == []
    status = cli("batch", "status", "last")
    assert status.code == 0
    assert "goes on" in status.out
    assert cli("batch", "status", "--json").json["waiting"] == 3
    listed = cli("batch", "list")
    assert "0 of 3 collected, 1 batch" in listed.out
    assert [one["waiting"] for one in cli("batch", "list", "--json").json] == [3]


def test_a_canceled_submission_ends_its_calls_unpaid_and_they_can_be_submitted_again(
    project: Project, cli: Cli, simulator: SimulatorThread, batches: Callable[[], list[int]]
) -> None:
    simulator.use_scenario(Scenario(name="long", summary="takes an hour", batch_seconds=3600.0))
    project.items(*ITEMS)
    assert cli(*SUBMIT, "--no-cache").code == 0
    assert cli("batch", "cancel", "last").code == 0
    collected = cli("batch", "collect", "last", "--wait")
    assert collected.code == 7
    assert "3 of 3 calls failed" in collected.err
    kinds = [line["error"]["kind"] for line in project.lines("out.jsonl")]
    assert kinds == ["batch_canceled"] * 3
    # What failed stays known, and nobody is asked for it again.
    assert cli("batch", "collect", "last").code == 7
    simulator.use_scenario("instant")
    assert cli(*SUBMIT, "--no-cache").code == 0
    assert cli("batch", "collect", "last", "--wait").code == 0
    assert [line["ok"] for line in project.lines("out.jsonl")] == [True] * 3
    assert batches() == [3, 3]


def test_a_process_that_dies_while_it_sends_leaves_a_submission_that_can_be_collected(
    project: Project,
    spawn: Spawn,
    simulator: SimulatorThread,
    until: Until,
    batches: Callable[[], list[int]],
) -> None:
    project.items(*ITEMS)
    # The batch is accepted, and the answer that says so never comes.
    simulator.queue_fault(Fault(kind=FaultKind.STALL, path="/v1/messages/batches"))
    killed = spawn(*SUBMIT)
    until(batches)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    collected = spawn("batch", "collect", "last", "--wait")
    _, err = collected.communicate(timeout=60)
    assert collected.returncode == 0, err
    assert batches() == [3]
    assert [line["ok"] for line in project.lines("out.jsonl")] == [True] * 3


def test_a_process_that_dies_before_it_sends_leaves_calls_that_failed_unpaid(
    project: Project, make_blocking: MakeBlocking, make_force: MakeAsync
) -> None:
    calls = [("alpha", "Look."), ("alpha", "See.")]
    with make_blocking() as force:
        first = force.submit_batch(calls)
    state = project.home / "state" / "claude-force"
    store = SubmissionStore(state)
    kept = store.questions(first.submission_id)
    ledger = BatchLedger(state)
    ledger.collected(first.origin, [question.key for question in kept])
    unsent = [replace(question, batch_id=None) for question in kept]
    store.add("f" * 16, unsent, origin=first.origin, note="", now=first.created_at + 1)
    store.close()
    ledger.close()
    with make_blocking() as force:
        outcomes = list(force.collect_batch("last"))
        again = list(force.collect_batch("last"))
    for outcome in (*outcomes, *again):
        assert outcome.error is not None
        assert outcome.error.kind == "service"
        assert "Submit it again" in str(outcome.error)
        assert outcome.cost_usd == 0


CALLS = [("alpha", "Look."), ("alpha", "See.")]


@pytest.fixture
def submit_theirs(make_blocking: MakeBlocking, tmp_path: Path) -> Callable[[], BatchSubmission]:
    """Submits as many other calls as another machine with the same key."""

    def submit() -> BatchSubmission:
        with make_blocking(state_dir=tmp_path / "theirs") as machine:
            return machine.submit_batch([("alpha", "Taste."), ("alpha", "Smell.")])

    return submit


def test_a_batch_of_another_machine_that_was_taken_for_a_lost_one_is_found_out(
    project: Project,
    make_blocking: MakeBlocking,
    submit_theirs: Callable[[], BatchSubmission],
    batches: Callable[[], list[int]],
) -> None:
    state = project.home / "state" / "claude-force"
    with make_blocking(enable_cache=False) as force:
        force.submit_batch(CALLS)
        theirs = submit_theirs()
        # As if it had died before it was told the id, and its clock were nearer to the time of the other batch.
        with contextlib.closing(sqlite3.connect(state / "submissions.db")) as database, database:
            database.execute("UPDATE questions SET batch_id = NULL")
        with contextlib.closing(sqlite3.connect(state / "batches.db")) as database, database:
            database.execute(
                "UPDATE batches SET batch_id = NULL, created_at = ?", (theirs.created_at,)
            )
        again = force.submit_batch(CALLS)
        assert again.batch_ids == theirs.batch_ids
        first = force.batch_submissions()[1].submission_id
        outcomes = [
            outcome
            for name in (again.submission_id, first)
            for outcome in force.collect_batch(name, wait=False)
        ]
    assert [str(outcome.error) for outcome in outcomes] == ["None"] * 4
    assert batches() == [2, 2]


def test_what_was_never_accepted_does_not_stay_with_the_batch_of_another_machine(
    project: Project, make_blocking: MakeBlocking, submit_theirs: Callable[[], BatchSubmission]
) -> None:
    state = project.home / "state" / "claude-force"
    with make_blocking() as force:
        sent, theirs = force.submit_batch(CALLS), submit_theirs()
        store, ledger = SubmissionStore(state), BatchLedger(state)
        unsent = [
            replace(question, key=f"{question.position:032x}", batch_id=None)
            for question in store.questions(sent.submission_id)
        ]
        store.add("f" * 16, unsent, origin=sent.origin, note="", now=sent.created_at + 1)
        ledger.intend(sent.origin, [one.key for one in unsent], now=theirs.created_at - 61)
        outcomes = list(force.collect_batch("last", wait=False))
        assert ledger.known_ids(sent.origin) == {*sent.batch_ids, *theirs.batch_ids}
        store.close()
        ledger.close()
    assert {str(outcome.error) for outcome in outcomes} == {
        "The batch with this call was never accepted, so nothing was paid for it. Submit it again."
    }


def test_what_the_cache_has_is_not_sent_and_what_is_collected_fills_it(
    make_blocking: MakeBlocking, batches: Callable[[], list[int]]
) -> None:
    with make_blocking() as force:
        paid = force.run_agent("alpha", "One.")
        submission = force.submit_batch([("alpha", "One."), ("alpha", "Two."), ("alpha", "Two.")])
        assert (submission.waiting, submission.succeeded) == (2, 1)
        outcomes = {one.index: one for one in force.collect_batch("last", wait=True)}
        assert force.run_agent("alpha", "Two.").cached is not None
        found = force.find_submission(submission.submission_id[:6])
    assert batches() == [1]
    assert [outcomes[index].ok for index in range(3)] == [True] * 3
    first = outcomes[0].result
    assert first is not None
    assert first.text == paid.text
    costs = [outcomes[index].cost_usd for index in range(3)]
    assert [bool(cost) for cost in costs] == [False, True, False]
    assert (found.waiting, found.succeeded, found.failed) == (0, 3, 0)


def test_what_is_in_a_batch_already_is_not_sent_again_and_both_submissions_get_it(
    make_blocking: MakeBlocking, batches: Callable[[], list[int]]
) -> None:
    calls = [AgentCall(agent_name="alpha", task="One.")]
    with make_blocking(enable_cache=False) as force:
        first = force.submit_batch(calls)
        second = force.submit_batch([*calls, ("alpha", "Two.")])
        assert [one.ok for one in force.collect_batch(first.submission_id, wait=True)] == [True]
        later = list(force.collect_batch(second.submission_id, wait=True))
        assert [one.submission_id for one in force.batch_submissions()] == [
            second.submission_id,
            first.submission_id,
        ]
    assert sorted(one.index for one in later if one.ok) == [0, 1]
    assert batches() == [1, 1]


def test_a_budget_holds_the_worst_case_of_all_before_anything_is_sent(
    make_blocking: MakeBlocking, batches: Callable[[], list[int]]
) -> None:
    calls = [("alpha", f"Look at {number}.") for number in range(100)]
    with make_blocking(budget_usd="0.10") as force:
        with pytest.raises(BudgetExceededError):
            force.submit_batch(calls)
        assert force.batch_submissions() == []
        assert force.submit_batch(calls[:2]).waiting == 2
    assert batches() == [2]


def test_what_cannot_be_is_said(
    project: Project, make_blocking: MakeBlocking, cli: Cli, batches: Callable[[], list[int]]
) -> None:
    with make_blocking() as force:
        with pytest.raises(InputError, match="There is no submission 'x'"):
            force.batch_status("x")
        submission = force.submit_batch([("alpha", "Look.")])
    with (
        make_blocking(base_url="http://127.0.0.1:9") as elsewhere,
        pytest.raises(ConfigError, match="was sent to"),
    ):
        elsewhere.batch_status(submission.submission_id)
    with make_blocking() as force, pytest.raises(InputError, match="continue_truncated"):
        force.submit_batch([AgentCall(agent_name="alpha", task="x", continue_truncated=2)])
    project.items(*ITEMS)
    simulated = cli(*SUBMIT, "--simulate")
    assert simulated.code == 3
    assert "has gone when you come back" in simulated.err
    # Submitted in Python, so nobody has said where the results go.
    nowhere = cli("batch", "collect", "last", "--wait")
    assert nowhere.code == 3
    assert "--out" in nowhere.err
    assert cli("batch", "collect", "last", "--wait", "--out", "o.jsonl").code == 0
    assert [line["id"] for line in project.lines("o.jsonl")] == ["0"]
    assert batches() == [1]


def test_results_of_newer_questions_are_left_in_the_file(
    project: Project, cli: Cli, simulator: SimulatorThread
) -> None:
    simulator.use_scenario(Scenario(name="long", summary="takes a while", batch_seconds=1.0))
    project.items({"id": "a", "task": "Old."}, {"id": "b", "task": "Same."})
    assert cli(*SUBMIT, "--no-cache").code == 0
    project.items({"id": "a", "task": "New."}, {"id": "c", "task": "Another."})
    mapped = cli(
        *("run", "map", "alpha", "--items", "items.jsonl", "--out", "out.jsonl", "--no-cache")
    )
    assert mapped.code == 0, mapped.err
    newer = {line["id"]: line["key"] for line in project.lines("out.jsonl")}
    assert cli("batch", "collect", "last", "--wait").code == 0
    lines: dict[str, Any] = {line["id"]: line["key"] for line in project.lines("out.jsonl")}
    assert len(project.lines("out.jsonl")) == 3
    assert {name: lines[name] for name in newer} == newer
    assert set(lines) == {"a", "b", "c"}
    assert json.dumps(lines)
