"""Laws of the retry policy, and what responses say about waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.domain.errors import (
    CallTimeoutError,
    InvalidRequestError,
    RateLimitError,
    ServiceError,
    SpendLimitError,
)
from claude_force.resilience.retries import RetryPolicy
from claude_force.resilience.retry_after import retry_after_seconds

attempts = st.integers(1, 60)
units = st.floats(0, 1, exclude_max=True)
waits = st.floats(0, 86_400)
LONG = 1e9
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@given(attempt=attempts, unit=units)
def test_a_wait_lies_within_the_doubling_ceiling(attempt: int, unit: float) -> None:
    policy = RetryPolicy(max_retries=100, first_wait_seconds=0.5, max_wait_seconds=30)
    wait = policy.wait_seconds(
        ServiceError("down", status=503),
        attempt=attempt,
        remaining_seconds=LONG,
        random_unit=unit,
    )
    assert wait is not None
    assert 0 <= wait <= min(30, 0.5 * 2 ** (attempt - 1))


@given(attempt=st.integers(1, 10), unit=units, asked=waits)
def test_retry_after_is_a_floor_and_at_most_a_second_is_added(
    attempt: int, unit: float, asked: float
) -> None:
    wait = RetryPolicy(max_retries=10).wait_seconds(
        RateLimitError("slow", status=429, retry_after_seconds=asked),
        attempt=attempt,
        remaining_seconds=LONG,
        random_unit=unit,
    )
    assert wait is not None
    assert asked <= wait <= asked + 1


@given(attempt=attempts, unit=units, asked=st.none() | waits, remaining=waits)
def test_a_wait_always_ends_before_the_deadline(
    attempt: int, unit: float, asked: float | None, remaining: float
) -> None:
    wait = RetryPolicy(max_retries=100).wait_seconds(
        ServiceError("down", status=529, retry_after_seconds=asked),
        attempt=attempt,
        remaining_seconds=remaining,
        random_unit=unit,
    )
    assert wait is None or wait < remaining


@given(max_retries=st.integers(0, 20))
def test_max_retries_is_the_number_of_requests_beyond_the_first(max_retries: int) -> None:
    policy = RetryPolicy(max_retries=max_retries)
    requests = 1
    while (
        policy.wait_seconds(
            ServiceError("down", status=503),
            attempt=requests,
            remaining_seconds=LONG,
            random_unit=0.5,
        )
        is not None
    ):
        requests += 1
    assert requests == max_retries + 1


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError("bad", status=400),
        SpendLimitError("cap", status=429),
        CallTimeoutError("late"),
        ServiceError("down", status=503, should_retry=False),
    ],
)
def test_what_no_retry_can_help_is_not_sent_again(error: ServiceError) -> None:
    assert (
        RetryPolicy().wait_seconds(error, attempt=1, remaining_seconds=LONG, random_unit=0) is None
    )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=90), usegmt=True)}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "999999999"}, 86_400.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_retry_after_is_read_in_each_of_its_forms(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_seconds(headers.get, now_epoch_seconds=NOW.timestamp()) == seconds


@given(value=st.text(max_size=40))
def test_no_header_makes_the_reader_fail(value: str) -> None:
    wait = retry_after_seconds({"retry-after": value}.get, now_epoch_seconds=0)
    assert wait is None or 0 <= wait <= 86_400
