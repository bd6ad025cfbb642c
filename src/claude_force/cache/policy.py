"""What may be stored, what may be served, and who shares a failure. Decisions only: no clock, no file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import (
    AuthenticationError,
    IncompleteAnswerError,
    InvalidRequestError,
    RateLimitError,
    ServiceError,
    SpendLimitError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from claude_force.domain.messages import MessageResponse


class Freshness(StrEnum):
    """What an answer of some age is good for."""

    # Serve it.
    FRESH = "fresh"
    # Serve it, say that it is stale, and ask again beside it.
    REVALIDATE = "revalidate"
    # Ask again; serve it only if that fails.
    IF_ERROR = "if_error"
    # As if it were not there.
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long an answer is good, counted from its creation. Both stale windows begin when it stops being fresh."""

    ttl_seconds: float
    stale_while_revalidate_seconds: float = 0.0
    stale_if_error_seconds: float = 0.0

    @property
    def keep_seconds(self) -> float:
        """The age from which an answer is good for nothing and may be swept."""
        return self.ttl_seconds + max(
            self.stale_while_revalidate_seconds, self.stale_if_error_seconds
        )

    def freshness(self, age_seconds: float, *, max_age_seconds: float | None = None) -> Freshness:
        """What an answer of ``age_seconds`` is good for.

        ``max_age_seconds`` is what one caller asks for: it can shorten the life of an answer, not prolong it, and
        what is older is not served while the provider can be asked.
        """
        life_seconds = self.ttl_seconds
        if max_age_seconds is not None:
            life_seconds = min(life_seconds, max_age_seconds)
        stale_seconds = age_seconds - life_seconds
        if stale_seconds < 0:
            return Freshness.FRESH
        if stale_seconds < self.stale_while_revalidate_seconds and max_age_seconds is None:
            return Freshness.REVALIDATE
        if stale_seconds < self.stale_if_error_seconds:
            return Freshness.IF_ERROR
        return Freshness.EXPIRED


def may_store(
    response: MessageResponse, agent_name: str, exclude_agents: Collection[str] = ()
) -> bool:
    """True for a complete answer of the model that was asked, not from a cache, of an agent that is not excluded.

    An answer of a fallback model is not stored: it would stand in for the better one when that is back.
    """
    return (
        response.complete
        and response.cached is None
        and response.fallback_from is None
        and agent_name not in exclude_agents
    )


# What the provider says about the request itself. Everything else (a caller's own deadline, budget, closed client
# or bug) is the leader's alone, and the next one in the flight tries.
_SHARED_FAILURES: Final = (
    AuthenticationError,
    IncompleteAnswerError,
    InvalidRequestError,
    RateLimitError,
    ServiceError,
    SpendLimitError,
    TransportError,
)


def shares_failure(error: BaseException) -> bool:
    """True when equal requests in the same flight would meet the same failure, so that they all get it."""
    return isinstance(error, _SHARED_FAILURES)
