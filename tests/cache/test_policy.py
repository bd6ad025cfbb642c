"""What may be stored and served."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_force.cache.policy import Freshness, Lifetimes, may_store, shares_failure
from claude_force.domain.errors import (
    CallTimeoutError,
    ClosedError,
    IncompleteAnswerError,
    InvalidRequestError,
    RateLimitError,
)
from claude_force.domain.messages import CacheHit, MessageResponse
from claude_force.domain.usage import NO_USAGE

WHOLE = MessageResponse(
    message_id="msg_1", model="m", text="An answer.", stop_reason="end_turn", usage=NO_USAGE
)


@pytest.mark.parametrize(
    ("age_seconds", "freshness"),
    [
        (0, Freshness.FRESH),
        (99.9, Freshness.FRESH),
        (100, Freshness.REVALIDATE),
        (109.9, Freshness.REVALIDATE),
        (110, Freshness.IF_ERROR),
        (149.9, Freshness.IF_ERROR),
        (150, Freshness.EXPIRED),
    ],
)
def test_an_answer_ages_from_fresh_over_stale_to_expired(
    age_seconds: float, freshness: Freshness
) -> None:
    lifetimes = Lifetimes(
        ttl_seconds=100, stale_while_revalidate_seconds=10, stale_if_error_seconds=50
    )
    assert lifetimes.freshness(age_seconds) is freshness
    assert lifetimes.keep_seconds == 150


def test_without_windows_nothing_stale_is_served() -> None:
    assert Lifetimes(ttl_seconds=100).freshness(100) is Freshness.EXPIRED


def test_a_maximum_age_shortens_life_and_does_not_prolong_it() -> None:
    strict = Lifetimes(ttl_seconds=100)
    assert strict.freshness(10, max_age_seconds=60) is Freshness.FRESH
    assert strict.freshness(60, max_age_seconds=60) is Freshness.EXPIRED
    assert strict.freshness(100, max_age_seconds=1000) is Freshness.EXPIRED
    lenient = Lifetimes(
        ttl_seconds=100, stale_while_revalidate_seconds=30, stale_if_error_seconds=30
    )
    assert lenient.freshness(60, max_age_seconds=60) is Freshness.IF_ERROR
    assert lenient.freshness(90, max_age_seconds=60) is Freshness.EXPIRED
    assert lenient.freshness(0, max_age_seconds=0) is Freshness.IF_ERROR


def test_a_whole_answer_is_stored() -> None:
    assert may_store(WHOLE, "writer")


@pytest.mark.parametrize(
    "stop_reason",
    [None, "max_tokens", "refusal", "model_context_window_exceeded", "pause_turn", "something_new"],
)
def test_an_unfinished_answer_is_never_stored(stop_reason: str | None) -> None:
    assert not may_store(replace(WHOLE, stop_reason=stop_reason), "writer")


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_answer_is_never_stored(text: str) -> None:
    assert not may_store(replace(WHOLE, text=text), "writer")


def test_an_excluded_agent_and_a_cached_answer_are_not_stored() -> None:
    assert not may_store(WHOLE, "writer", {"writer"})
    assert not may_store(replace(WHOLE, cached=CacheHit("disk", 3.0)), "writer")


def test_what_the_provider_says_is_shared_and_a_callers_own_failure_is_not() -> None:
    assert shares_failure(InvalidRequestError("400"))
    assert shares_failure(RateLimitError("429"))
    assert shares_failure(IncompleteAnswerError("cut off", response=WHOLE))
    assert not shares_failure(CallTimeoutError("its own deadline"))
    assert not shares_failure(ClosedError("its own client"))
    assert not shares_failure(RuntimeError("a bug"))
