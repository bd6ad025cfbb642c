"""What each failure means: the published table, row by row."""

from __future__ import annotations

import pytest

from claude_force.domain.errors import (
    AuthenticationError,
    CallError,
    CallTimeoutError,
    CertificateError,
    CircuitOpenError,
    InvalidRequestError,
    RateLimitError,
    ServiceError,
    SpendLimitError,
    TransportError,
)
from claude_force.resilience.classification import Action, action_for, rule_for

SPEND_CAP_TEXT = "You have reached your specified API usage limits. You will regain access on …"


@pytest.mark.parametrize(
    ("status", "error_type", "error_code", "message", "error", "action"),
    [
        (400, "invalid_request_error", None, "bad", InvalidRequestError, Action.FAIL),
        (400, "invalid_request_error", None, SPEND_CAP_TEXT, SpendLimitError, Action.STOP_RUN),
        (401, "authentication_error", None, "", AuthenticationError, Action.STOP_RUN),
        (402, "billing_error", None, "", SpendLimitError, Action.STOP_RUN),
        (403, "permission_error", None, "", AuthenticationError, Action.STOP_RUN),
        (403, None, None, "", AuthenticationError, Action.FAIL),
        (404, "not_found_error", None, "", InvalidRequestError, Action.FAIL),
        (408, None, None, "", ServiceError, Action.RETRY),
        (409, None, None, "", ServiceError, Action.RETRY),
        (413, "request_too_large", None, "", InvalidRequestError, Action.FAIL),
        (422, None, None, "", InvalidRequestError, Action.FAIL),
        (429, "rate_limit_error", None, "", RateLimitError, Action.RETRY_SHRINK),
        (429, "rate_limit_error", "ramp_limit_exceeded", "", RateLimitError, Action.RETRY_SLOWER),
        (
            429,
            "rate_limit_error",
            "enforced_spend_limit_reached",
            "",
            SpendLimitError,
            Action.STOP_RUN,
        ),
        (
            429,
            "rate_limit_error",
            "contract_spend_limit_reached",
            "",
            SpendLimitError,
            Action.STOP_RUN,
        ),
        (500, "api_error", None, "", ServiceError, Action.RETRY),
        (502, None, None, "", ServiceError, Action.RETRY),
        (503, None, None, "", ServiceError, Action.RETRY),
        (504, "timeout_error", None, "", ServiceError, Action.RETRY),
        (529, "overloaded_error", None, "", ServiceError, Action.RETRY),
        (418, None, None, "", InvalidRequestError, Action.FAIL),
        # In the middle of a stream there is a type and no status, or a misleading 200.
        (None, "overloaded_error", None, "", ServiceError, Action.RETRY),
        (200, "api_error", None, "", ServiceError, Action.RETRY),
        (None, "rate_limit_error", None, "", RateLimitError, Action.RETRY_SHRINK),
        (None, "invalid_request_error", None, "", InvalidRequestError, Action.FAIL),
        (None, "something_else", None, "", ServiceError, Action.RETRY),
    ],
)
def test_a_reported_error_means_what_the_table_says(  # noqa: PLR0917 - the columns of the table
    status: int | None,
    error_type: str | None,
    error_code: str | None,
    message: str,
    error: type[CallError],
    action: Action,
) -> None:
    rule = rule_for(status=status, error_type=error_type, error_code=error_code, message=message)
    assert (rule.error, rule.action) == (error, action)
    failed = error(message, status=status, error_type=error_type, error_code=error_code)
    assert action_for(failed) is action


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (TransportError("cut"), Action.RETRY),
        (TransportError("not a stream", status=200), Action.RETRY),
        (CertificateError("expired"), Action.STOP_RUN),
        (CallTimeoutError("an attempt", should_retry=True), Action.RETRY),
        (CallTimeoutError("late"), Action.FAIL),
        (CircuitOpenError("open"), Action.RETRY),
        (ServiceError("down", status=503, should_retry=False), Action.FAIL),
        (InvalidRequestError("bad", status=400, should_retry=True), Action.RETRY),
        (RateLimitError("slow", status=429, should_retry=True), Action.RETRY_SHRINK),
        (RateLimitError("slow", status=429, should_retry=False), Action.FAIL),
        # No header can talk us into spending past a cap.
        (SpendLimitError("cap", status=429, should_retry=True), Action.STOP_RUN),
    ],
)
def test_what_follows_from_a_failure_obeys_the_header_but_for_spend_caps(
    error: CallError, action: Action
) -> None:
    assert action_for(error) is action
