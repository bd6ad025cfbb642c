"""What was computed for requests that were seen before: their keys, and the answers of their entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.cache.answers import NOTHING_PAID, response_of
from claude_force.cache.fingerprint import request_key
from claude_force.domain.messages import CacheHit, MessageResponse

if TYPE_CHECKING:
    from decimal import Decimal

    from claude_force.cache.entries import CacheEntry
    from claude_force.cache.fingerprint import CacheKey
    from claude_force.cache.store import Found
    from claude_force.domain.messages import MessageRequest

_KEPT: Final = 256


class RecentRequest:
    """One request that was seen: its key, and the answer that its entry was last decoded to."""

    __slots__ = ("_answer", "_entry", "_messages", "_plain_usd", "_request", "_saved_usd", "key")

    def __init__(self, request: MessageRequest, key: CacheKey) -> None:
        # Holds the objects whose identity it is found by.
        self._request = request
        self._messages = request.messages
        self.key = key
        self._entry: CacheEntry | None = None
        self._answer: MessageResponse | None = None
        self._saved_usd: Decimal | None = None
        self._plain_usd: Decimal | None = None

    def is_of(self, request: MessageRequest) -> bool:
        """True where ``request`` asks the same; mostly by identity of its parts."""
        return self._messages is request.messages and self._request == request

    def response_of(self, found: Found) -> MessageResponse | None:
        """As `answers.response_of`, with nothing decoded twice."""
        entry = found.entry
        if self._entry is not entry or self._answer is None:
            self._answer = response_of(found)
            self._entry = entry
            hit = None if self._answer is None else self._answer.cached
            if hit is not None:
                self._saved_usd, self._plain_usd = hit.saved_usd, hit.plain_usd
            return self._answer
        answer = self._answer
        # By hand: dataclasses.replace takes three times as long, and this runs at every hit.
        return MessageResponse(
            message_id=answer.message_id,
            model=answer.model,
            text=answer.text,
            stop_reason=answer.stop_reason,
            usage=answer.usage,
            stop_details=answer.stop_details,
            request_id=answer.request_id,
            attempts=0,
            cost_usd=NOTHING_PAID,
            cached=CacheHit(
                found.tier, found.age_seconds, found.stale, self._saved_usd, self._plain_usd
            ),
        )


class RecentRequests:
    """Requests by the identity of their messages; safe in any thread, since entries are only replaced.

    A caller that builds a request anew each time finds nothing here and pays for a key, as it would without.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._known: dict[int, RecentRequest] = {}

    def of(self, request: MessageRequest) -> RecentRequest:
        """What is known of ``request``, computed now where nothing is."""
        known = self._known.get(id(request.messages))
        if known is not None and known.is_of(request):
            return known
        known = RecentRequest(request, request_key(request, self._origin))
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._known[id(request.messages)] = known
        return known
