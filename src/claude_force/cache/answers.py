"""An answer of the API as an entry, and back."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from claude_force.cache.entries import CacheEntry
from claude_force.cache.fingerprint import request_fields
from claude_force.domain.messages import CacheHit, MessageResponse
from claude_force.domain.usage import Usage

if TYPE_CHECKING:
    from claude_force.cache.fingerprint import CacheKey
    from claude_force.cache.store import Found
    from claude_force.domain.messages import MessageRequest

NOTHING_PAID = Decimal(0)


class _StoredAnswer(msgspec.Struct, array_like=True):
    """A `MessageResponse` without what belongs to the call that paid for it."""

    message_id: str
    model: str
    text: str
    stop_reason: str | None
    usage: tuple[int, int, int, int, int]
    stop_details: dict[str, Any] | None = None
    request_id: str | None = None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_StoredAnswer)


def entry_of(
    response: MessageResponse,
    request: MessageRequest,
    *,
    key: CacheKey,
    origin: str,
    created_at: float,
) -> CacheEntry:
    """The entry of an answer that may be stored (``policy.may_store``), with the seconds since the epoch as its time.

    Raises:
        ValueError: the text holds a lone surrogate, which no answer of the API does.
    """
    usage = response.usage
    answer = _StoredAnswer(
        message_id=response.message_id,
        model=response.model,
        text=response.text,
        stop_reason=response.stop_reason,
        usage=(
            usage.input_tokens,
            usage.cache_write_5m_tokens,
            usage.cache_write_1h_tokens,
            usage.cache_read_tokens,
            usage.output_tokens,
        ),
        stop_details=None if response.stop_details is None else dict(response.stop_details),
        request_id=response.request_id,
    )
    return CacheEntry(
        key=key,
        agent_name=request.context.agent_name,
        model=request.model,
        created_at=created_at,
        body=_ENCODER.encode(answer),
        fields=request_fields(request, origin),
        input_tokens=usage.total_input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=_text(response.cost_usd),
        plain_usd=_text(response.plain_usd),
    )


def response_of(found: Found) -> MessageResponse | None:
    """The answer in an entry that was found, marked as cached and costing nothing; None where it is not an answer.

    ``usage`` is what the answer took when it was paid for; the saving is the entry's ``cost_usd``.
    """
    try:
        answer = _DECODER.decode(found.entry.body)
        saved_usd = _amount(found.entry.cost_usd)
        plain_usd = _amount(found.entry.plain_usd)
    except (msgspec.MsgspecError, ArithmeticError):
        return None
    plain, written_5m, written_1h, read, output = answer.usage
    return MessageResponse(
        message_id=answer.message_id,
        model=answer.model,
        text=answer.text,
        stop_reason=answer.stop_reason,
        usage=Usage(
            input_tokens=plain,
            cache_write_5m_tokens=written_5m,
            cache_write_1h_tokens=written_1h,
            cache_read_tokens=read,
            output_tokens=output,
        ),
        stop_details=answer.stop_details,
        request_id=answer.request_id,
        attempts=0,
        cost_usd=NOTHING_PAID,
        cached=CacheHit(found.tier, found.age_seconds, found.stale, saved_usd, plain_usd),
    )


def shared_response(response: MessageResponse) -> MessageResponse:
    """The answer as a waiter of the same flight gets it: from memory, of this moment, paid for by the leader."""
    return replace(
        response,
        attempts=0,
        cost_usd=NOTHING_PAID,
        lost_usages=(),
        discounts=None,
        cached=CacheHit("memory", 0.0, saved_usd=response.cost_usd, plain_usd=response.plain_usd),
    )


def _text(amount_usd: Decimal | None) -> str | None:
    return None if amount_usd is None else str(amount_usd)


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def request_id_of(entry: CacheEntry) -> str | None:
    """The id that the provider gave the request of this answer; None where it gave none."""
    try:
        return _DECODER.decode(entry.body).request_id
    except msgspec.MsgspecError:
        return None
