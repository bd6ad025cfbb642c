"""One table that says what a failed call means and what follows from it.

Source: the error table of the API, as collected in November 2026. An unknown status of 500 and more counts as a
fault of the service, any other unknown one as a refused request.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from claude_force.domain.errors import (
    AuthenticationError,
    CallError,
    CallTimeoutError,
    CertificateError,
    IncompleteAnswerError,
    InvalidRequestError,
    RateLimitError,
    RunStoppedError,
    ServiceError,
    SpendLimitError,
    TransportError,
)


class Action(StrEnum):
    """What follows from a failure."""

    # Send it again.
    RETRY = "retry"
    # Send it again, with fewer requests at the same time.
    RETRY_SHRINK = "retry_shrink"
    # Send it again, and add load more slowly.
    RETRY_SLOWER = "retry_slower"
    # Nothing of this run can succeed: stop it, keep what was finished.
    STOP_RUN = "stop_run"
    # This call failed for good.
    FAIL = "fail"


RETRYING: Final = frozenset({Action.RETRY, Action.RETRY_SHRINK, Action.RETRY_SLOWER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row: the first rule whose every given condition holds decides."""

    error: type[CallError]
    action: Action
    status: int | None = None
    error_type: str | None = None
    error_code: str | None = None
    # A part of the message.
    text: str | None = None


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        text="reached your specified API usage limits",
        error=SpendLimitError,
        action=Action.STOP_RUN,
    ),
    Rule(error_code="enforced_spend_limit_reached", error=SpendLimitError, action=Action.STOP_RUN),
    Rule(error_code="contract_spend_limit_reached", error=SpendLimitError, action=Action.STOP_RUN),
    Rule(error_code="ramp_limit_exceeded", error=RateLimitError, action=Action.RETRY_SLOWER),
    Rule(status=400, error=InvalidRequestError, action=Action.FAIL),
    Rule(status=401, error=AuthenticationError, action=Action.STOP_RUN),
    Rule(status=402, error=SpendLimitError, action=Action.STOP_RUN),
    Rule(
        status=403,
        error_type="permission_error",
        error=AuthenticationError,
        action=Action.STOP_RUN,
    ),
    # Not of the API: a gateway or firewall on the way, which may dislike this one request.
    Rule(status=403, error=AuthenticationError, action=Action.FAIL),
    Rule(status=404, error=InvalidRequestError, action=Action.FAIL),
    Rule(status=408, error=ServiceError, action=Action.RETRY),
    Rule(status=409, error=ServiceError, action=Action.RETRY),
    Rule(status=413, error=InvalidRequestError, action=Action.FAIL),
    Rule(status=422, error=InvalidRequestError, action=Action.FAIL),
    Rule(status=429, error=RateLimitError, action=Action.RETRY_SHRINK),
    Rule(status=500, error=ServiceError, action=Action.RETRY),
    Rule(status=503, error=ServiceError, action=Action.RETRY),
    Rule(status=504, error=ServiceError, action=Action.RETRY),
    Rule(status=529, error=ServiceError, action=Action.RETRY),
)

# An `event: error` inside a stream has a type and no status; these are the statuses it stands for.
STATUS_BY_ERROR_TYPE: Final[dict[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def rule_for(
    *,
    status: int | None,
    error_type: str | None = None,
    error_code: str | None = None,
    message: str = "",
) -> Rule:
    """The row of the table for an error that the API reported."""
    if status is None or status < 300:
        status = STATUS_BY_ERROR_TYPE.get(error_type or "", 500)
    for rule in RULES:
        if _matches(rule, status, error_type, error_code, message):
            return rule
    if status >= 500:
        return Rule(error=ServiceError, action=Action.RETRY)
    return Rule(error=InvalidRequestError, action=Action.FAIL)


def action_for(error: CallError) -> Action:
    """What follows from a failed call.

    ``x-should-retry`` of the response overrides the status, except for a spend cap, which no retry can pass.
    """
    match error:
        case SpendLimitError() | RunStoppedError() | CertificateError():
            return Action.STOP_RUN
        case TransportError():
            return Action.RETRY
        case CallTimeoutError():
            # That of an attempt says that there is time for another one.
            return _overridden(Action.FAIL, error.should_retry)
        case IncompleteAnswerError():
            return Action.FAIL
        case _:
            rule = rule_for(
                status=error.status,
                error_type=error.error_type,
                error_code=error.error_code,
                message=str(error),
            )
            return _overridden(rule.action, error.should_retry)


def _overridden(action: Action, should_retry: bool | None) -> Action:  # noqa: FBT001 - a header's value
    if should_retry is None or (action in RETRYING) == should_retry:
        return action
    return Action.RETRY if should_retry else Action.FAIL


def _matches(
    rule: Rule, status: int, error_type: str | None, error_code: str | None, message: str
) -> bool:
    return (
        (rule.status is None or rule.status == status)
        and (rule.error_type is None or rule.error_type == error_type)
        and (rule.error_code is None or rule.error_code == error_code)
        and (rule.text is None or rule.text in message)
    )
