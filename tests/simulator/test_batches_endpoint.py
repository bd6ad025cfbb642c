from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.simulator import Scenario, SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.conftest import Client, Clock


BATCHES = "/v1/messages/batches"


@pytest.fixture
def sim(clock: Clock) -> Iterator[SimulatorThread]:
    with SimulatorThread(scenario=Scenario(batch_seconds=100), wall_clock=clock) as running:
        yield running


def items(client: Client, count: int) -> Any:
    return [{"custom_id": f"id-{i}", "params": client.body(f"task {i}")} for i in range(count)]


def create(sim: SimulatorThread, client: Client, requests: Any) -> Any:
    return client.call(sim, {"requests": requests}, path=BATCHES)


def read(sim: SimulatorThread, client: Client, batch_id: str) -> Any:
    return client.call(sim, path=f"{BATCHES}/{batch_id}", method="GET").json


def results(sim: SimulatorThread, client: Client, batch_id: str) -> Any:
    reply = client.call(sim, path=f"{BATCHES}/{batch_id}/results", method="GET")
    return [json.loads(line) for line in reply.data.splitlines()]


def test_batch_goes_from_in_progress_to_ended(
    sim: SimulatorThread, client: Client, clock: Clock
) -> None:
    created = create(sim, client, items(client, 3)).json
    assert created["type"] == "message_batch"
    assert created["processing_status"] == "in_progress"
    assert created["request_counts"] == counts(processing=3)
    assert created["results_url"] is None
    assert created["ended_at"] is None
    clock.now += 99
    assert read(sim, client, created["id"])["request_counts"] == counts(processing=3)
    clock.now += 1
    ended = read(sim, client, created["id"])
    assert ended["processing_status"] == "ended"
    assert ended["request_counts"] == counts(succeeded=3)
    assert ended["results_url"] == f"{sim.base_url}{BATCHES}/{created['id']}/results"


def counts(**changes: Any) -> Any:
    names = ("processing", "succeeded", "errored", "canceled", "expired")
    return dict.fromkeys(names, 0) | changes


def test_results_are_there_in_another_order_and_equal_the_direct_answers(
    sim: SimulatorThread, client: Client, clock: Clock
) -> None:
    requests = items(client, 20)
    batch_id = create(sim, client, requests).json["id"]
    clock.now += 100
    got = results(sim, client, batch_id)
    ids = [line["custom_id"] for line in got]
    assert sorted(ids) == sorted(item["custom_id"] for item in requests)
    assert ids != [item["custom_id"] for item in requests]
    by_id = {line["custom_id"]: line["result"] for line in got}
    direct = client.call(sim, requests[4]["params"]).json
    assert by_id["id-4"]["type"] == "succeeded"
    assert by_id["id-4"]["message"]["content"] == direct["content"]
    assert by_id["id-4"]["message"]["usage"]["service_tier"] == "batch"
    assert results(sim, client, batch_id) == got


def test_results_before_the_end_and_after_29_days_are_404(
    sim: SimulatorThread, client: Client, clock: Clock
) -> None:
    batch_id = create(sim, client, items(client, 1)).json["id"]
    path = f"{BATCHES}/{batch_id}/results"
    assert client.call(sim, path=path, method="GET").status == 404
    clock.now += 29 * 86_400 - 1
    assert client.call(sim, path=path, method="GET").status == 200
    clock.now += 1
    assert client.call(sim, path=path, method="GET").status == 404
    assert read(sim, client, batch_id)["archived_at"] is not None


def test_bad_parameters_become_errored_results(
    sim: SimulatorThread, client: Client, clock: Clock
) -> None:
    bad = [
        {"custom_id": "good", "params": client.body()},
        {"custom_id": "bad", "params": client.body(max_tokens=0)},
        {"custom_id": "gone", "params": client.body(model="claude-3-opus")},
    ]
    batch_id = create(sim, client, bad).json["id"]
    clock.now += 100
    by_id = {line["custom_id"]: line["result"] for line in results(sim, client, batch_id)}
    assert by_id["good"]["type"] == "succeeded"
    assert by_id["bad"]["type"] == by_id["gone"]["type"] == "errored"
    assert by_id["bad"]["error"]["error"]["type"] == "invalid_request_error"
    assert by_id["gone"]["error"]["error"]["type"] == "not_found_error"
    assert read(sim, client, batch_id)["request_counts"] == counts(succeeded=1, errored=2)


def test_cancel_keeps_what_is_processed_and_cancels_the_rest(
    sim: SimulatorThread, client: Client, clock: Clock
) -> None:
    batch_id = create(sim, client, items(client, 10)).json["id"]
    clock.now += 40
    canceling = client.call(sim, path=f"{BATCHES}/{batch_id}/cancel").json
    assert canceling["processing_status"] == "canceling"
    assert canceling["cancel_initiated_at"] is not None
    clock.now += 1
    assert read(sim, client, batch_id)["request_counts"] == counts(succeeded=4, canceled=6)
    kinds = [line["result"]["type"] for line in results(sim, client, batch_id)]
    assert kinds == ["succeeded"] * 4 + ["canceled"] * 6
    assert client.call(sim, path=f"{BATCHES}/{batch_id}/cancel").status == 400


def test_what_is_not_processed_in_a_day_expires(client: Client, clock: Clock) -> None:
    scenario = Scenario(batch_seconds=2 * 86_400)
    with SimulatorThread(scenario=scenario, wall_clock=clock) as sim:
        batch_id = create(sim, client, items(client, 10)).json["id"]
        clock.now += 86_400
        assert read(sim, client, batch_id)["request_counts"] == counts(succeeded=5, expired=5)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "at least one request"),
        ([{"custom_id": "a b", "params": {}}], "requests.0.custom_id"),
        ([{"custom_id": "x" * 65, "params": {}}], "requests.0.custom_id"),
        ([{"custom_id": "a\n", "params": {}}], "requests.0.custom_id"),
        ([{"custom_id": "a", "params": 1}], "requests.0.params"),
        ([{"custom_id": "a", "params": {}}, {"custom_id": "a", "params": {}}], "not unique"),
        ([{"custom_id": str(i), "params": {}} for i in range(100_001)], "100000 maximum"),
    ],
    ids=["none", "pattern", "long", "newline", "params", "twice", "too-many"],
)
def test_batch_that_breaks_a_rule_is_400(
    sim: SimulatorThread, client: Client, requests: Any, message: str
) -> None:
    reply = create(sim, client, requests)
    assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")
    assert message in reply.json["error"]["message"]


def test_list_has_the_newest_first_and_pages(sim: SimulatorThread, client: Client) -> Any:
    ids = [create(sim, client, items(client, 1)).json["id"] for _ in range(3)]

    def page(query: Any) -> Any:
        return client.call(sim, path=f"{BATCHES}?{query}", method="GET").json

    first = page("limit=2")
    assert [b["id"] for b in first["data"]] == [ids[2], ids[1]]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, ids[2], ids[1])
    second = page(f"limit=2&after_id={ids[1]}")
    assert [b["id"] for b in second["data"]] == [ids[0]]
    assert second["has_more"] is False
    assert [b["id"] for b in page(f"before_id={ids[1]}")["data"]] == [ids[2]]
    assert client.call(sim, path=f"{BATCHES}?limit=0", method="GET").status == 400


def test_batches_of_another_key_are_not_found(sim: SimulatorThread, client: Client) -> None:
    batch_id = create(sim, client, items(client, 1)).json["id"]
    other: dict[str, str | None] = {"x-api-key": "other"}
    path = f"{BATCHES}/{batch_id}"
    assert client.call(sim, path=path, method="GET", headers=other).status == 404
    assert client.call(sim, path=BATCHES, method="GET", headers=other).json["data"] == []


def test_faults_of_the_scenario_become_errored_results(client: Client) -> None:
    with SimulatorThread(
        scenario=Scenario(batch_seconds=0, fault_rates={"overloaded": 1.0})
    ) as sim:
        batch_id = create(sim, client, items(client, 2)).json["id"]
        kinds = {
            line["result"]["error"]["error"]["type"] for line in results(sim, client, batch_id)
        }
    assert kinds == {"overloaded_error"}
