from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.domain.errors import ConfigError
from claude_force.simulator import (
    SCENARIOS,
    Latency,
    RateLimits,
    Scenario,
    SimulatorThread,
    load_scenario,
)
from claude_force.simulator.draws import Draws

if TYPE_CHECKING:
    from pathlib import Path

    from tests.simulator.conftest import Client


def test_built_in_scenarios_have_their_names() -> None:
    assert sorted(SCENARIOS) == [
        "calm", "flaky", "instant", "limited", "outage", "refusing", "slow", "storm", "truncated"
    ]  # fmt: skip
    assert all(scenario.name == name for name, scenario in SCENARIOS.items())
    limits = SCENARIOS["limited"].rate_limits
    assert limits is not None
    assert limits.requests_per_minute == 600


@pytest.mark.parametrize(
    ("name", "statuses", "stop_reason"),
    [
        ("instant", {200}, "end_turn"),
        ("refusing", {200}, "refusal"),
        ("truncated", {200}, "max_tokens"),
        ("outage", {500, 503, 529}, None),
    ],
)
def test_scenario_behaves_as_its_name_says(
    client: Client, name: str, statuses: Any, stop_reason: Any
) -> None:
    with SimulatorThread(scenario=name) as sim:
        replies = [client.call(sim, client.body(f"t{i}")) for i in range(20)]
    assert {reply.status for reply in replies} == statuses
    assert {reply.json.get("stop_reason") for reply in replies} == {stop_reason}


def test_file_gives_a_scenario_with_the_same_field_names(tmp_path: Path, client: Client) -> None:
    path = tmp_path / "mine.json"
    path.write_text(
        json.dumps(
            {
                "name": "mine",
                "latency": {"distribution": "fixed", "first_event_median_seconds": 0.01},
                "rate_limits": {"requests_per_minute": 7},
                "fault_rates": {"cut": 0.5},
                "retry_after": "date",
            }
        )
    )
    expected = Scenario(
        name="mine",
        latency=Latency(distribution="fixed", first_event_median_seconds=0.01),
        rate_limits=RateLimits(requests_per_minute=7),
        fault_rates={"cut": 0.5},
        retry_after="date",
    )
    assert load_scenario(path) == expected
    with SimulatorThread(scenario=str(path)) as sim:
        assert sim.scenario == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "a scenario is a JSON object with name, summary, latency"),
        ('{"speed": 1}', "unknown field 'speed'; allowed are name, summary, latency"),
        ('{"latency": {"ttft": 1}}', r"unknown field 'latency.ttft'; allowed are distribution"),
        ('{"rate_limits": {"rpm": 1}}', "unknown field 'rate_limits.rpm'; allowed are requests"),
        ('{"text_blocks": "two"}', "text_blocks"),
        ('{"latency": {"distribution": "odd"}}', "odd"),
        ('{"text_blocks": 0}', "text_blocks is 0"),
        ('{"fault_rates": {"explode": 0.1}}', "there is no fault 'explode'"),
        ('{"fault_rates": {"cut": 0.6, "reset": 0.6}}', "add up to 1.2"),
        ('{"fault_rates": {"cut": -1}}', "fault_rates.cut is -1"),
        ('{"rate_limits": {"requests_per_minute": 0}}', "requests_per_minute is 0"),
        ('{"min_output_tokens": 9, "max_output_tokens": 3}', "max_output_tokens is 3"),
    ],
)
def test_file_that_is_wrong_is_a_config_error_with_file_and_field(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_scenario(path)
    assert str(path) in str(caught.value)


def test_unknown_name_and_missing_file_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no scenario 'sunny'; there are instant, calm"):
        SimulatorThread(scenario="sunny")
    with pytest.raises(ConfigError, match="cannot read the scenario"):
        SimulatorThread(scenario=str(tmp_path / "none.json"))


def test_lognormal_latency_has_its_median_and_is_the_same_for_the_same_request() -> None:
    latency = SCENARIOS["calm"].latency
    waits = [latency.first_event_seconds(Draws(0, i)) for i in range(4001)]
    assert statistics.median(waits) == pytest.approx(0.25, rel=0.05)
    assert min(waits) > 0
    assert waits == [latency.first_event_seconds(Draws(0, i)) for i in range(4001)]
