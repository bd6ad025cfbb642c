from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.domain.errors import ConfigError
from claude_force.simulator import RateLimits, Scenario, SimulatorThread
from claude_force.simulator.rate_limits import TokenBucket

if TYPE_CHECKING:
    from tests.simulator.conftest import Client, Clock


def limited(clock: Clock, **limits: Any) -> Any:
    scenario = Scenario(rate_limits=RateLimits(**limits))
    return SimulatorThread(scenario=scenario, monotonic=clock, wall_clock=clock)


def test_empty_request_bucket_is_a_429_that_says_when_to_come_back(
    client: Client, clock: Clock
) -> None:
    with limited(clock, requests_per_minute=2) as sim:
        assert [client.call(sim, client.body()).status for _ in range(3)] == [200, 200, 429]
        refused = client.call(sim, client.body())
        assert refused.json["error"]["type"] == "rate_limit_error"
        assert refused.headers["retry-after"] == "30"
        assert "retry-after-ms" not in refused.headers
        clock.now += 29
        assert client.call(sim, client.body()).status == 429
        clock.now += 1
        assert client.call(sim, client.body()).status == 200
        assert sim.stats.rate_limited == 3
        assert sim.stats.errors == {429: 3}


def test_headers_tell_limit_remaining_and_reset_of_every_bucket(
    client: Client, clock: Clock
) -> None:
    with limited(
        clock,
        requests_per_minute=60,
        input_tokens_per_minute=6000,
        output_tokens_per_minute=600,
    ) as sim:
        headers = client.call(sim, client.body("x" * 380)).headers
    limits = {n: headers[f"anthropic-ratelimit-{n}-limit"] for n in NAMES}
    remaining = {n: headers[f"anthropic-ratelimit-{n}-remaining"] for n in NAMES}
    assert limits == dict(zip(NAMES, ["60", "6000", "600", "6600"], strict=True))
    assert remaining == dict(zip(NAMES, ["59", "5900", "600", "6500"], strict=True))
    reset = datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
    assert reset.timestamp() == clock.now + 1
    assert headers["anthropic-ratelimit-requests-reset"].endswith("Z")


NAMES = ["requests", "input-tokens", "output-tokens", "tokens"]


def test_platform_without_limits_sends_no_headers(client: Client) -> None:
    with SimulatorThread() as sim:
        headers = client.call(sim, client.body()).headers
    assert not [name for name in headers if name.startswith("anthropic-ratelimit")]


def test_model_classes_and_keys_have_buckets_of_their_own(client: Client, clock: Clock) -> None:
    with limited(clock, requests_per_minute=1) as sim:
        assert client.call(sim, client.body()).status == 200
        assert client.call(sim, client.body(model="claude-sonnet-4-6")).status == 429
        assert client.call(sim, client.body(model="claude-haiku-5-5")).status == 200
        assert client.call(sim, client.body(), headers={"x-api-key": "b"}).status == 200


def test_cache_reads_are_free_and_writes_are_not(client: Client, clock: Clock) -> None:
    system = [{"type": "text", "text": "x" * 3800, "cache_control": {"type": "ephemeral"}}]
    body = client.body("Go.", model="claude-opus-5", system=system)
    with limited(clock, input_tokens_per_minute=1010) as sim:
        assert client.call(sim, body).status == 200
        second = client.call(sim, body)
        assert second.status == 200
        assert second.headers["anthropic-ratelimit-input-tokens-remaining"] == "8"


def test_output_is_charged_when_it_is_known_and_its_debt_is_paid_off(
    client: Client, clock: Clock
) -> None:
    with limited(clock, output_tokens_per_minute=60) as sim:
        first = client.call(sim, client.body("One."))
        used = first.json["usage"]["output_tokens"]
        assert used > 60
        refused = client.call(sim, client.body("Two."))
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) == used - 60 + 1
        clock.now += used - 60 + 1
        assert client.call(sim, client.body("Two.")).status == 200


def test_count_tokens_is_free_and_has_its_own_limit(client: Client, clock: Clock) -> None:
    body = client.body(max_tokens=...)
    path = "/v1/messages/count_tokens"
    with limited(clock, requests_per_minute=1, count_requests_per_minute=2) as sim:
        assert [client.call(sim, body, path=path).status for _ in range(3)] == [200, 200, 429]
        assert client.call(sim, client.body()).status == 200


def test_scaled_minute_passes_faster_and_is_told_in_milliseconds(
    client: Client, clock: Clock
) -> None:
    with limited(clock, requests_per_minute=1, time_scale=60) as sim:
        client.call(sim, client.body())
        clock.now += 0.5
        refused = client.call(sim, client.body())
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["retry-after-ms"] == "500"
        clock.now += 0.5
        assert client.call(sim, client.body()).status == 200


@pytest.mark.parametrize("changes", [{"requests_per_minute": 0}, {"time_scale": 0}])
def test_limit_that_never_lets_anything_through_is_a_config_error(changes: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        RateLimits(**changes)


@given(
    capacity=st.integers(1, 1000),
    steps=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 200)), max_size=60),
)
def test_bucket_never_gives_more_than_it_held_and_what_flowed_in(capacity: Any, steps: Any) -> None:
    bucket = TokenBucket(capacity, time_scale=1, now=0.0)
    now, taken = 0.0, 0
    for wait, amount in steps:
        now += wait
        if bucket.level(now) >= amount:
            bucket.take(amount, now)
            taken += amount
        assert taken <= capacity + capacity * now / 60 + 1e-6
        assert 0 <= bucket.level(now) <= capacity
