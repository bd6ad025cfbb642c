from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from claude_force.simulator import SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.conftest import Client


@pytest.fixture(scope="module")
def sim() -> Iterator[SimulatorThread]:
    with SimulatorThread(keep_requests=3) as running:
        yield running


def test_health_needs_no_token(sim: SimulatorThread, client: Client) -> None:
    reply = client.call(sim, path="/_simulator/health", method="GET")
    assert reply.json == {"status": "ok", "simulated": True}


@pytest.mark.parametrize("name", ["stats", "faults", "reset", "scenario"])
@pytest.mark.parametrize("token", [None, "", "wrong", "wröng"])
def test_everything_else_needs_the_token(
    sim: SimulatorThread, client: Client, name: str, token: str | None
) -> None:
    headers = {"x-simulator-token": token}
    for method in ("GET", "POST"):
        path = f"/_simulator/{name}"
        assert client.call(sim, path=path, method=method, headers=headers).status == 401


def test_token_is_random_where_none_is_given() -> None:
    with SimulatorThread() as one, SimulatorThread() as other:
        assert len(one.control_token) == 32
        assert one.control_token != other.control_token


def test_stats_are_told_as_json_with_kept_requests(sim: SimulatorThread, client: Client) -> None:
    client.control(sim, "reset")
    client.call(sim, client.body("count me"))
    stats = client.control(sim, "stats", method="GET").json
    assert (stats["requests"], stats["answers"]) == (1, 1)
    assert stats["requests_by_model"] == {"claude-sonnet-5-5": 1}
    assert list(stats["answers_by_fingerprint"].values()) == [1]
    assert stats["usage"]["input_tokens"] == 2
    assert stats["kept_requests"][0]["body"]["messages"][0]["content"] == "count me"
    assert "x-api-key" not in stats["kept_requests"][0]["headers"]
    assert sim.stats.answers == 1


def test_faults_are_queued_over_http(sim: SimulatorThread, client: Client) -> None:
    reply = client.control(sim, "faults", [{"kind": "overloaded", "match": "boom"}])
    assert reply.json == {"queued": 1}
    assert client.call(sim, client.body("quiet")).status == 200
    assert client.call(sim, client.body("boom")).status == 529


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([{"kind": "explode"}], "explode"),
        ([{"kind": "cut", "bytes": 1}], "unknown field 'bytes'; allowed are kind"),
        ([{"kind": "cut", "times": "two"}], "times"),
        ({"kind": "cut"}, "JSON list"),
        ([1], "faults"),
    ],
)
def test_fault_that_makes_no_sense_is_refused_with_its_name(
    sim: SimulatorThread, client: Client, body: Any, message: str
) -> None:
    reply = client.control(sim, "faults", body)
    assert reply.status == 400
    assert message in reply.json["error"]["message"]


def test_scenario_changes_by_name_and_by_fields(sim: SimulatorThread, client: Client) -> None:
    assert client.control(sim, "scenario", "refusing").json == {"scenario": "refusing"}
    assert client.call(sim, client.body()).json["stop_reason"] == "refusal"
    fields = {"name": "mine", "fault_rates": {"conflict": 1}}
    assert client.control(sim, "scenario", fields).json == {"scenario": "mine"}
    assert client.call(sim, client.body()).status == 409
    reply = client.control(sim, "scenario", {"speed": 9})
    assert (reply.status, "unknown field 'speed'" in reply.json["error"]["message"]) == (400, True)
    assert client.control(sim, "scenario", "sunny").status == 400
    assert client.control(sim, "scenario", "/etc/passwd.json").status == 400
    client.control(sim, "scenario", "instant")


def test_reset_forgets_counts_caches_faults_and_batches(
    sim: SimulatorThread, client: Client
) -> None:
    marked = {"type": "text", "text": "w " * 9000, "cache_control": {"type": "ephemeral"}}
    body = client.body(system=[marked])
    batch = {"requests": [{"custom_id": "a", "params": client.body()}]}
    batch_id = client.call(sim, batch, path="/v1/messages/batches").json["id"]
    first = client.call(sim, body).json["usage"]
    assert first["cache_creation_input_tokens"] > 0
    client.control(sim, "faults", [{"kind": "overloaded"}])
    assert client.control(sim, "reset").json == {"status": "ok"}
    assert client.call(sim, body).json["usage"] == first
    assert sim.stats.requests == 1
    path = f"/v1/messages/batches/{batch_id}"
    assert client.call(sim, path=path, method="GET").status == 404
