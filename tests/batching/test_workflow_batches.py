"""Steps whose calls go out in batches, in whole runs over a real socket: half the price, and nothing sent twice."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import BatchCanceledError, InputError, WorkflowDefinitionError, open_metrics
from claude_force.simulator import Fault, FaultKind, Scenario
from claude_force.testing import ScriptedClient
from claude_force.workflows.batch_ledger import BatchLedger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cli, MakeBlocking, Project, Spawn, Until

    from claude_force.simulator import SimulatorThread

COLOURS = [f"colour {number}" for number in range(4)]


def fan_out(**fields: Any) -> dict[str, Any]:
    return {
        "id": "each",
        "agent": "alpha",
        "task": "Look at {{ item }}.",
        "for_each": COLOURS,
        **fields,
    }


def mixed(**fields: Any) -> dict[str, Any]:
    """A fan-out, a step beside it, and one behind both."""
    return {
        "steps": [
            fan_out(**fields),
            {"id": "live", "agent": "beta", "task": "Say hello.", "batch": False},
            {
                "id": "sum",
                "agent": "gamma",
                "task": "Sum up.",
                "needs": ["each", "live"],
                "batch": False,
            },
        ]
    }


@pytest.fixture
def sent(simulator: SimulatorThread) -> Callable[[], dict[str, Any]]:
    """What reached the simulator: the sizes of batches, and how many live calls."""

    def read() -> dict[str, Any]:
        posts = [request for request in simulator.requests if request.method == "POST"]
        return {
            "batches": [
                len(post.body["requests"]) for post in posts if post.path.endswith("/batches")
            ],
            "live": sum(post.path == "/v1/messages" for post in posts),
        }

    return read


def test_a_fan_out_is_one_batch_beside_the_live_calls_of_its_run_at_half_the_price(
    make_blocking: MakeBlocking, sent: Callable[[], dict[str, Any]]
) -> None:
    with make_blocking(enable_cache=False) as force:
        live = force.execute_workflow(mixed())
    assert sent() == {"batches": [], "live": 6}
    with make_blocking(enable_cache=False) as force:
        batched = force.execute_workflow(mixed(batch=True))
    assert sent() == {"batches": [4], "live": 8}
    assert batched.ok
    assert batched.results == live.results
    half = batched.steps["each"].cost_usd
    assert half is not None
    assert half * 2 == live.steps["each"].cost_usd
    assert batched.steps["live"].cost_usd == live.steps["live"].cost_usd
    for item in batched.steps["each"].items:
        assert item.result is not None
        assert item.result.discounts is not None
        assert item.result.discounts.batch_usd == item.cost_usd


def test_the_option_is_the_default_of_steps_that_say_nothing_and_can_forbid_it_to_all(
    make_blocking: MakeBlocking, sent: Callable[[], dict[str, Any]]
) -> None:
    steps = [
        {"id": "open", "agent": "alpha", "task": "One."},
        {"id": "never", "agent": "alpha", "task": "Two.", "batch": False},
        {"id": "hasty", "agent": "alpha", "task": "Three.", "timeout_seconds": 30},
        {"id": "always", "agent": "alpha", "task": "Four.", "batch": True},
    ]
    with make_blocking(enable_cache=False) as force:
        assert force.execute_workflow({"steps": steps}).ok
        assert sent() == {"batches": [1], "live": 3}
        assert force.execute_workflow({"steps": steps}, batch=True).ok
        # Calls of steps that do not fan out share a batch.
        assert sent() == {"batches": [1, 2], "live": 5}
        assert force.execute_workflow({"steps": steps}, batch=False).ok
        assert sent() == {"batches": [1, 2], "live": 9}
        assert force.execute_workflow({"batch": True, "steps": steps[:1]}).ok
        assert sent() == {"batches": [1, 2, 1], "live": 9}


def test_results_fill_the_cache_and_what_it_holds_is_not_sent(
    make_blocking: MakeBlocking, sent: Callable[[], dict[str, Any]]
) -> None:
    with make_blocking() as force:
        force.execute_workflow({"steps": [fan_out(batch=True)]})
        # Live, and answered by what the batch brought.
        assert force.execute_workflow({"steps": [fan_out()]}).cost_usd == 0
        more = fan_out(for_each=[*COLOURS, "another"])
        run = force.execute_workflow({"steps": [more]}, batch=True)
    assert run.ok
    assert sent() == {"batches": [4, 1], "live": 0}


def test_equal_items_are_one_request_and_are_paid_once(
    make_blocking: MakeBlocking, sent: Callable[[], dict[str, Any]]
) -> None:
    with make_blocking(enable_cache=False) as force:
        run = force.execute_workflow({"steps": [fan_out(for_each=["x", "x", "y"], batch=True)]})
    assert sent() == {"batches": [2], "live": 0}
    costs = [item.cost_usd for item in run.steps["each"].items]
    assert [bool(cost) for cost in costs] == [True, False, True]


def test_a_run_that_is_killed_between_submitting_and_collecting_sends_nothing_twice(
    project: Project,
    spawn: Spawn,
    simulator: SimulatorThread,
    until: Until,
    sent: Callable[[], dict[str, Any]],
) -> None:
    project.config(workflows={"mixed": mixed()})
    simulator.use_scenario(Scenario(name="patient", summary="takes a while", batch_seconds=3.0))
    # Without the cache: the ledger and the journal have to do it alone.
    killed = spawn("run", "workflow", "mixed", "--batch", "--no-cache")
    until(lambda: sent() == {"batches": [4], "live": 1})
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    resumed = spawn("runs", "resume", "last", "--no-cache", "--json")
    out, err = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, err
    assert json.loads(out)["ok"]
    after = sent()
    assert after["batches"] == [4]
    # The step beside it is in the journal, unless it was on its way at the kill; the one behind was not asked yet.
    assert after["live"] in {2, 3}
    assert noted(project, simulator) == []


def test_what_a_killed_run_had_kept_is_not_asked_again_and_leaves_no_note_behind(
    project: Project,
    spawn: Spawn,
    simulator: SimulatorThread,
    until: Until,
    sent: Callable[[], dict[str, Any]],
) -> None:
    project.config(workflows={"mixed": mixed()})
    simulator.queue_fault(Fault(kind=FaultKind.STALL, match="Sum up."))
    killed = spawn("run", "workflow", "mixed", "--batch", "--no-cache")
    # The step behind is asked: everything that it needs is in the journal. Its answer never comes.
    until(lambda: sent() == {"batches": [4], "live": 2})
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(noted(project, simulator)) == 1
    resumed = spawn("runs", "resume", "last", "--no-cache", "--json")
    out, err = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, err
    assert json.loads(out)["ok"]
    assert sent() == {"batches": [4], "live": 3}
    assert noted(project, simulator) == []


def test_what_is_in_a_batch_is_collected_although_the_workflow_says_otherwise_by_now(
    project: Project,
    spawn: Spawn,
    simulator: SimulatorThread,
    until: Until,
    sent: Callable[[], dict[str, Any]],
) -> None:
    project.config(workflows={"each": {"steps": [fan_out(batch=True)]}})
    simulator.use_scenario(Scenario(name="patient", summary="takes a while", batch_seconds=2.0))
    killed = spawn("run", "workflow", "each", "--no-cache")
    until(lambda: sent()["batches"])
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    project.config(workflows={"each": {"steps": [fan_out(for_each=[*COLOURS, "another"])]}})
    resumed = spawn("runs", "resume", "last", "--no-cache", "--no-batch")
    _, err = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, err
    assert sent() == {"batches": [4], "live": 1}
    assert noted(project, simulator) == []


def noted(project: Project, simulator: SimulatorThread) -> list[Any]:
    """Batches of which the ledger says that something has not been collected."""
    ledger = BatchLedger(project.home / "state" / "claude-force")
    try:
        return list(ledger.pending(simulator.base_url))
    finally:
        ledger.close()


def test_a_stopped_run_ends_at_once_and_its_resumption_collects(
    project: Project,
    spawn: Spawn,
    simulator: SimulatorThread,
    until: Until,
    sent: Callable[[], dict[str, Any]],
) -> None:
    project.config(workflows={"each": {"steps": [fan_out(batch=True)]}})
    simulator.use_scenario(Scenario(name="patient", summary="takes a while", batch_seconds=4.0))
    first = spawn("run", "workflow", "each", "--no-cache")
    until(lambda: sent()["batches"])
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=30)
    assert first.returncode == 130, err
    assert "runs resume" in err
    second = spawn("runs", "resume", "last", "--no-cache")
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert sent() == {"batches": [4], "live": 0}


def test_the_repair_of_an_answer_and_the_rounds_of_a_loop_go_out_in_batches_of_their_own(
    make_blocking: MakeBlocking, sent: Callable[[], dict[str, Any]], simulator: SimulatorThread
) -> None:
    looping = fan_out(batch=True, repeat_until="round == 2", max_rounds=3)
    with make_blocking(enable_cache=False) as force:
        run = force.execute_workflow({"steps": [looping]})
    assert run.ok
    assert sent() == {"batches": [4, 4], "live": 0}
    assert len(run.steps["each"].earlier) == 4
    simulator.reset()
    # No answer of the simulator is 90 characters of JSON in upper case, so that each is repaired once, in vain.
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "maxProperties": 0,
        "required": ["a"],
    }
    with make_blocking(enable_cache=False) as force:
        run = force.execute_workflow({"steps": [fan_out(batch=True, output_schema=schema)]})
    assert sent() == {"batches": [4, 4], "live": 0}
    assert [item.error.kind for item in run.steps["each"].items if item.error] == [
        "answer_schema"
    ] * 4


def test_an_item_that_meets_a_fault_of_the_api_is_sent_again_and_one_that_is_refused_is_reported(
    project: Project,
    make_blocking: MakeBlocking,
    simulator: SimulatorThread,
    sent: Callable[[], dict[str, Any]],
) -> None:
    simulator.use_scenario(
        Scenario(name="faulty", summary="half of all fails", fault_rates={"overloaded": 0.5})
    )
    with make_blocking(enable_cache=False) as force:
        run = force.execute_workflow({"steps": [fan_out(batch=True, for_each=list(range(12)))]})
    batches = sent()["batches"]
    assert batches[0] == 12
    assert 2 <= len(batches) <= 3
    assert batches == sorted(batches, reverse=True)
    answers = [item.result for item in run.steps["each"].items]
    assert {answer.attempts for answer in answers if answer is not None} >= {1, 2}
    simulator.use_scenario("refusing")
    simulator.reset()
    with make_blocking(enable_cache=False) as force:
        run = force.execute_workflow({"steps": [fan_out(batch=True, on_error="continue")]})
    assert sent()["batches"] == [4]
    errors = [item.error for item in run.steps["each"].items]
    assert [error.kind for error in errors if error] == ["incomplete_answer"] * 4


@pytest.mark.parametrize(
    ("fault", "batches"),
    [
        # Refused, so it is sent again.
        (FaultKind.OVERLOADED, [4, 4]),
        (FaultKind.RATE_LIMIT, [4, 4]),
        # Accepted, and the answer that says so is lost: the API is asked, and nothing is sent twice.
        (FaultKind.CUT, [4]),
    ],
)
def test_a_batch_that_is_not_taken_at_once_is_sent_again_unless_it_was_taken_all_the_same(
    make_blocking: MakeBlocking,
    simulator: SimulatorThread,
    sent: Callable[[], dict[str, Any]],
    fault: FaultKind,
    batches: list[int],
) -> None:
    simulator.queue_fault(Fault(kind=fault, path="/v1/messages/batches"))
    with make_blocking(enable_cache=False) as force:
        run = force.execute_workflow({"steps": [fan_out(batch=True)]})
    assert run.ok, run.steps["each"].error
    assert simulator.stats.faults == {fault.value: 1}
    assert sent() == {"batches": batches, "live": 0}


def test_the_worst_case_at_half_the_price_is_reserved_beside_that_of_live_calls(
    make_blocking: MakeBlocking, sent: Callable[[], dict[str, Any]]
) -> None:
    one = {"id": "one", "agent": "alpha", "task": "Look.", "max_tokens": 10_000}
    # 10,000 tokens of output are $0.10, and $0.05 in a batch; a little is for the prompt.
    with make_blocking(budget_usd="0.06", enable_cache=False) as force:
        assert force.execute_workflow({"steps": [one]}).steps["one"].error is not None
        assert sent() == {"batches": [], "live": 0}
        assert force.execute_workflow({"steps": [{**one, "batch": True}]}).ok
        two = [{**one, "id": "a", "batch": True}, {**one, "id": "b", "task": "See.", "batch": True}]
        run = force.execute_workflow({"steps": two})
    states = sorted(step.state for step in run.steps.values())
    assert states == ["failed", "succeeded"]
    refused = next(step.error for step in run.steps.values() if step.error)
    assert refused.kind == "budget_exceeded"
    assert sent() == {"batches": [1, 1], "live": 0}


def test_a_canceled_batch_fails_its_calls_and_is_not_sent_again(
    make_blocking: MakeBlocking, simulator: SimulatorThread, sent: Callable[[], dict[str, Any]]
) -> None:
    import http.client
    import threading
    import time

    simulator.use_scenario(Scenario(name="slow", summary="takes long", batch_seconds=60.0))

    def cancel() -> None:
        deadline = time.monotonic() + 20
        while not sent()["batches"] and time.monotonic() < deadline:
            time.sleep(0.02)
        host = simulator.base_url.removeprefix("http://")
        headers = {"x-api-key": "key-of-the-tests", "anthropic-version": "2026-10-21"}
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("GET", "/v1/messages/batches", headers=headers)
        batch_id = json.loads(connection.getresponse().read())["data"][0]["id"]
        connection.request("POST", f"/v1/messages/batches/{batch_id}/cancel", headers=headers)
        connection.getresponse().read()
        connection.close()

    canceling = threading.Thread(target=cancel)
    canceling.start()
    with make_blocking(enable_cache=False) as force:
        run = force.execute_workflow({"steps": [fan_out(batch=True, retries=2)]})
    canceling.join()
    errors = [item.error for item in run.steps["each"].items]
    assert all(isinstance(error, BatchCanceledError) for error in errors)
    assert run.cost_usd == 0
    assert sent()["batches"] == [4]


def test_what_does_not_go_together_is_said_before_anything_is_sent(
    make_blocking: MakeBlocking, sent: Callable[[], dict[str, Any]]
) -> None:
    with make_blocking() as force:
        with pytest.raises(WorkflowDefinitionError, match="timeout_seconds: bounds calls"):
            force.execute_workflow({"steps": [fan_out(batch=True, timeout_seconds=5)]})
        with pytest.raises(
            WorkflowDefinitionError, match="batch: expected true or false, found 'yes'"
        ):
            force.execute_workflow({"steps": [fan_out(batch="yes")]})
    with (
        make_blocking(client=ScriptedClient(["blue"])) as force,
        pytest.raises(InputError, match="client of your own"),
    ):
        force.execute_workflow({"steps": [fan_out(batch=True)]})
    with make_blocking(client=ScriptedClient(["blue"] * 4)) as force:
        assert force.execute_workflow({"steps": [fan_out(batch=True)]}, batch=False).ok
    assert sent() == {"batches": [], "live": 0}


def test_the_hours_of_a_batch_are_no_latency(make_blocking: MakeBlocking) -> None:
    with make_blocking(enable_cache=False) as force:
        force.execute_workflow({"steps": [fan_out(batch=True)]})
    with closing(open_metrics()) as metrics:
        batched = metrics.summary().value.totals
    assert (batched.calls, batched.p95_seconds) == (4, None)
    with make_blocking(enable_cache=False) as force:
        live = force.run_agent("alpha", "Look.")
    with closing(open_metrics()) as metrics:
        mixed_up = metrics.summary().value.totals
    assert mixed_up.calls == 5
    assert mixed_up.p95_seconds == pytest.approx(live.seconds, rel=0.05)


def test_a_plan_shows_what_batches_cost(
    make_blocking: MakeBlocking, cli: Cli, project: Project
) -> None:
    with make_blocking() as force:
        live = force.plan_workflow(mixed())
        batched = force.plan_workflow(mixed(), batch=True)
    by_id = {step.step_id: step for step in live.steps}
    for step in batched.steps:
        assert step.batch is (step.step_id == "each")
        for part in ("least", "expected", "most"):
            amount = getattr(by_id[step.step_id].cost_usd, part)
            assert isinstance(amount, Decimal)
            share = Decimal("0.5") if step.batch else 1
            assert getattr(step.cost_usd, part) == amount * share
    assert batched.seconds > 3600 > live.seconds
    project.config(workflows={"mixed": mixed()})
    shown = cli("plan", "mixed", "--batch")
    assert shown.code == 0, shown.err
    assert "by batch" in shown.out
    assert "Steps by batch cost half" in shown.out
    assert cli("plan", "mixed", "--batch", "--json").json["steps"][0]["batch"] is True
