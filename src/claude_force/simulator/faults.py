"""Every fault that the simulated API can show, by name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

RetryAfter = Literal["default", "seconds", "date", "ms", "none"]
RETRY_AFTER_FORMS: Final = ("default", "seconds", "date", "ms", "none")
# The discard port: a client that follows the redirect finds nobody.
NOWHERE: Final = "http://127.0.0.1:9/v1/messages"


class FaultKind(StrEnum):
    """What goes wrong. The value is its name in scenario files, at the control endpoint and in the statistics."""

    # Refused with an HTTP status, before anything is generated.
    INVALID_REQUEST = "invalid_request"
    USAGE_LIMIT = "usage_limit"
    AUTHENTICATION = "authentication"
    BILLING = "billing"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    TIMEOUT = "timeout"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNPROCESSABLE = "unprocessable"
    RATE_LIMIT = "rate_limit"
    ENFORCED_SPEND_LIMIT = "enforced_spend_limit"
    CONTRACT_SPEND_LIMIT = "contract_spend_limit"
    RAMP_LIMIT = "ramp_limit"
    API_ERROR = "api_error"
    UNAVAILABLE = "unavailable"
    GATEWAY_TIMEOUT = "gateway_timeout"
    OVERLOADED = "overloaded"
    # The connection or the response as a whole.
    CLOSE = "close"
    RESET = "reset"
    SLOW_HEADERS = "slow_headers"
    GARBAGE = "garbage"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    HUGE_HEADER = "huge_header"
    REDIRECT = "redirect"
    # In the middle of the body.
    CUT = "cut"
    RESET_STREAM = "reset_stream"
    STALL = "stall"
    BAD_JSON = "bad_json"
    BAD_UTF8 = "bad_utf8"
    EARLY_END = "early_end"
    ERROR_OVERLOADED = "error_overloaded"
    ERROR_API = "error_api"
    ERROR_RATE_LIMIT = "error_rate_limit"
    OVERSIZED_LINE = "oversized_line"
    # The answer arrives whole, and is not what was hoped for.
    REFUSAL = "refusal"
    MAX_TOKENS = "max_tokens"
    CONTEXT_EXCEEDED = "context_exceeded"
    PAUSE_TURN = "pause_turn"
    STOP_SEQUENCE = "stop_sequence"
    TOOL_USE = "tool_use"
    NO_STOP_REASON = "no_stop_reason"
    EMPTY_TEXT = "empty_text"


STOP_REASONS: Final[Mapping[FaultKind, str | None]] = {
    FaultKind.REFUSAL: "refusal",
    FaultKind.MAX_TOKENS: "max_tokens",
    FaultKind.CONTEXT_EXCEEDED: "model_context_window_exceeded",
    FaultKind.PAUSE_TURN: "pause_turn",
    FaultKind.STOP_SEQUENCE: "stop_sequence",
    FaultKind.TOOL_USE: "tool_use",
    FaultKind.NO_STOP_REASON: None,
    FaultKind.EMPTY_TEXT: "end_turn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, queued or drawn."""

    kind: FaultKind
    # How a refusal says when to come back; `default` is what the API does for this error.
    retry_after: RetryAfter = "default"
    retry_after_seconds: float = 1.0
    # Sets x-should-retry.
    should_retry: bool | None = None
    # Replaces the message of an HTTP error.
    message: str | None = None
    # Length of a stall or of slow headers; None lasts until the client leaves.
    seconds: float | None = None
    # Body bytes before a cut, a reset of the stream or a stall; None is half of the body.
    after_bytes: int | None = None
    # Where a redirect points to.
    location: str = NOWHERE
    # Only for a request whose body contains this text.
    match: str | None = None
    # Only for requests to this path.
    path: str = "/v1/messages"
    # For how many requests.
    times: int = 1

    def __post_init__(self) -> None:
        # A name is as good as the kind itself.
        object.__setattr__(self, "kind", fault_kind(self.kind))
        if self.retry_after not in RETRY_AFTER_FORMS:
            raise ConfigError(
                f"retry_after is {self.retry_after!r}; it can be {', '.join(RETRY_AFTER_FORMS)}."
            )
        if self.times < 1:
            raise ConfigError(f"times is {self.times!r}; a fault happens at least once.")
        if "\r" in self.location or "\n" in self.location:
            raise ConfigError(f"location {self.location!r} has a line break; give a URL.")


def fault_kind(name: str) -> FaultKind:
    """The kind of that name; a name that there is not is a `ConfigError` that lists them all."""
    try:
        return FaultKind(name)
    except ValueError:
        raise ConfigError(
            f"there is no fault {name!r}; there are {', '.join(FaultKind)}."
        ) from None
