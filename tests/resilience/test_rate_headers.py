"""Reading rate-limit headers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from claude_force.domain.rate_limits import LimitReading, RateSnapshot
from claude_force.resilience.rate_headers import read_rate_headers

NOON = 1_795_348_800.0  # 2026-11-22T12:00:00Z


def read(**headers: str) -> RateSnapshot:
    found = {f"anthropic-ratelimit-{name.replace('_', '-')}": v for name, v in headers.items()}
    return read_rate_headers(found.get, now_epoch_seconds=NOON)


def test_every_limit_that_a_response_names_is_read() -> None:
    assert read(
        requests_limit="1000",
        requests_remaining="999",
        requests_reset="2026-11-22T12:00:01Z",
        input_tokens_limit="2000000",
        input_tokens_remaining="1999000",
        input_tokens_reset="2026-11-22T13:00:30+01:00",
        output_tokens_limit="400000",
        output_tokens_remaining="0",
        output_tokens_reset="2026-11-22T11:59:00Z",
        tokens_limit="2400000",
    ) == RateSnapshot(
        requests=LimitReading(1000, 999, 1.0),
        input_tokens=LimitReading(2_000_000, 1_999_000, 30.0),
        output_tokens=LimitReading(400_000, 0, 0.0),
    )


def test_the_joint_limit_is_read_only_where_input_has_none() -> None:
    assert read(tokens_limit="80000", tokens_remaining="79000") == RateSnapshot(
        tokens=LimitReading(80_000, 79_000, None)
    )


def test_a_platform_without_headers_gives_an_empty_snapshot() -> None:
    assert not read()
    assert read() == RateSnapshot()


def test_what_cannot_be_read_counts_as_absent() -> None:
    snapshot = read(
        requests_limit="-1",
        requests_remaining="٣",
        input_tokens_limit="0",
        input_tokens_remaining="5",
        input_tokens_reset="2026-11-22T12:00:01",
        output_tokens_limit="1e9",
        tokens_limit="9" * 14,
    )
    assert snapshot == RateSnapshot(input_tokens=LimitReading(None, 5, None))


@given(values=st.lists(st.text(max_size=30), min_size=3, max_size=3))
def test_no_header_makes_the_reader_fail(values: list[str]) -> None:
    limit, remaining, reset = values
    snapshot = read(requests_limit=limit, requests_remaining=remaining, requests_reset=reset)
    if snapshot.requests is not None and snapshot.requests.reset_seconds is not None:
        assert snapshot.requests.reset_seconds >= 0
