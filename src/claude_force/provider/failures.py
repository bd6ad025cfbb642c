"""Turns what the API or the transport reports into errors of our tree."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import (
    AuthenticationError,
    CallError,
    InvalidRequestError,
    RateLimitError,
    ServiceError,
    SpendLimitError,
)
from claude_force.provider.wire import MALFORMED, WireError, decode_error_body
from claude_force.resilience.classification import rule_for
from claude_force.resilience.retry_after import retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_QUOTED_CHARACTERS: Final = 300
# Control characters, and those that are invisible or turn the direction of what follows.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+"
)

_NEXT_STEP: Final[dict[type[CallError], str]] = {
    InvalidRequestError: "Correct the request; sending it again would fail in the same way.",
    AuthenticationError: "Check ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN) and what it may do.",
    SpendLimitError: "Raise the limit or add credit in the Claude Console; nothing more is sent in this run.",
    RateLimitError: "Lower the number of concurrent calls, or allow more retries.",
    ServiceError: "This is usually over in a moment; run it again, or allow more retries.",
}


def response_failure(
    status: int, body: bytes, header: Callable[[str], str | None], *, now_epoch_seconds: float
) -> CallError:
    """The error for a response with a status other than 200.

    Args:
        status: HTTP status.
        body: the body, or its beginning.
        header: looks a header up by its lower-case name.
        now_epoch_seconds: the wall clock, for a Retry-After that is a date.
    """
    try:
        parsed = decode_error_body(body)
        wire, request_id = parsed.error, parsed.request_id
    except MALFORMED:
        # A gateway or proxy in between answers with a page of its own; its text says nothing about our request.
        wire, request_id = WireError(type="", message=""), None
    should_retry = {"true": True, "false": False}.get(header("x-should-retry") or "")
    return _failure(
        wire,
        status=status,
        request_id=header("request-id") or request_id,
        retry_after=retry_after_seconds(header, now_epoch_seconds=now_epoch_seconds),
        should_retry=should_retry,
        location=header("location") if 300 <= status < 400 else None,
    )


def stream_failure(wire: WireError | None, *, request_id: str | None) -> CallError:
    """The error for an ``event: error`` inside a stream."""
    return _failure(wire or WireError(), status=None, request_id=request_id)


def _failure(
    wire: WireError,
    *,
    status: int | None,
    request_id: str | None,
    retry_after: float | None = None,
    should_retry: bool | None = None,
    location: str | None = None,
) -> CallError:
    error_type = quoted(wire.type)
    code = quoted(wire.details.error_code or "") if wire.details else ""
    said = quoted(wire.message)
    if status is not None and 300 <= status < 400:
        error_class: type[CallError] = InvalidRequestError
        # It would lead to the same place again.
        should_retry = False
        message = (
            f"The API address answers with a redirect ({status}) to {quoted(location or 'nowhere')!r}; redirects are "
            "not followed, because they would carry the key elsewhere. Set the base URL to the final address."
        )
    else:
        error_class = rule_for(
            status=status, error_type=error_type, error_code=code or None, message=wire.message
        ).error
        place = f"status {status}" if status is not None else "in the middle of the answer"
        named = ", ".join(part for part in (place, error_type, code) if part)
        message = f"The API reports an error ({named}){': ' + said if said else ''}. {_NEXT_STEP[error_class]}"
    return error_class(
        message,
        status=status,
        error_type=error_type or None,
        error_code=code or None,
        request_id=quoted(request_id) if request_id else None,
        retry_after_seconds=retry_after,
        should_retry=should_retry,
    )


def quoted(text: str) -> str:
    """A foreign text for use in a message: control characters out, one line, bounded."""
    clean = _UNPRINTABLE.sub(" ", text).strip().rstrip(".")
    return clean if len(clean) <= _MAX_QUOTED_CHARACTERS else clean[:_MAX_QUOTED_CHARACTERS] + "…"
