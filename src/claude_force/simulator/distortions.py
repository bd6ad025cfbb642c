"""What each fault does to a response: pure functions from one script to another."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from msgspec.structs import replace

from claude_force.simulator.errors import error_response
from claude_force.simulator.faults import Fault, FaultKind, RetryAfter
from claude_force.simulator.wire import Piece, Response, http_date

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class _HttpError(msgspec.Struct, frozen=True):
    status: int
    message: str
    code: str | None = None
    retry_after: RetryAfter = "none"


_HTTP_ERRORS: Final[Mapping[FaultKind, _HttpError]] = {
    FaultKind.INVALID_REQUEST: _HttpError(400, "simulated: the request is not valid"),
    FaultKind.USAGE_LIMIT: _HttpError(
        400,
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
    ),
    FaultKind.AUTHENTICATION: _HttpError(401, "invalid x-api-key"),
    FaultKind.BILLING: _HttpError(402, "Your credit balance is too low to access the API."),
    FaultKind.PERMISSION: _HttpError(403, "Your API key may not use the specified resource."),
    FaultKind.NOT_FOUND: _HttpError(404, "The requested resource could not be found."),
    FaultKind.TIMEOUT: _HttpError(408, "The request took too long to arrive."),
    FaultKind.CONFLICT: _HttpError(409, "The request conflicts with another one."),
    FaultKind.TOO_LARGE: _HttpError(413, "Request exceeds the maximum size"),
    FaultKind.UNPROCESSABLE: _HttpError(422, "The request could not be processed."),
    FaultKind.RATE_LIMIT: _HttpError(
        429, "This request would exceed your organization's rate limit.", retry_after="seconds"
    ),
    FaultKind.ENFORCED_SPEND_LIMIT: _HttpError(
        429,
        "Your organization has reached the monthly usage limit of its tier.",
        "enforced_spend_limit_reached",
    ),
    FaultKind.CONTRACT_SPEND_LIMIT: _HttpError(
        429,
        "Your organization has reached the spend limit of its contract.",
        "contract_spend_limit_reached",
    ),
    FaultKind.RAMP_LIMIT: _HttpError(
        429,
        "Your usage is growing faster than the ramp limit allows.",
        "ramp_limit_exceeded",
        retry_after="seconds",
    ),
    FaultKind.API_ERROR: _HttpError(500, "Internal server error"),
    FaultKind.UNAVAILABLE: _HttpError(503, "Service unavailable"),
    FaultKind.GATEWAY_TIMEOUT: _HttpError(504, "Gateway timeout"),
    FaultKind.OVERLOADED: _HttpError(529, "Overloaded"),
}

_STREAM_ERRORS: Final = {
    FaultKind.ERROR_OVERLOADED: (b"overloaded_error", b"Overloaded", FaultKind.OVERLOADED),
    FaultKind.ERROR_API: (b"api_error", b"Internal server error", FaultKind.API_ERROR),
    FaultKind.ERROR_RATE_LIMIT: (
        b"rate_limit_error",
        b"This request would exceed your organization's rate limit.",
        FaultKind.RATE_LIMIT,
    ),
}
HUGE_HEADER_BYTES: Final = 1_000_000


def http_error(fault: Fault, *, request_id: str, epoch_seconds: float) -> Response | None:
    """The refusal that this fault stands for, or None where it is no HTTP error."""
    row = _HTTP_ERRORS.get(fault.kind)
    if row is None:
        return None
    return error_response(
        row.status,
        fault.message or row.message,
        code=row.code,
        request_id=request_id,
        headers=_retry_headers(fault, row, epoch_seconds),
    )


def _retry_headers(
    fault: Fault, row: _HttpError, epoch_seconds: float
) -> tuple[tuple[str, str], ...]:
    form = row.retry_after if fault.retry_after == "default" else fault.retry_after
    seconds = fault.retry_after_seconds
    headers: list[tuple[str, str]] = []
    if form == "seconds":
        headers.append(("retry-after", f"{seconds:g}"))
    elif form == "date":
        headers.append(("retry-after", http_date(epoch_seconds + seconds)))
    elif form == "ms":
        headers.append(("retry-after-ms", f"{seconds * 1000:g}"))
    if fault.should_retry is not None:
        headers.append(("x-should-retry", "true" if fault.should_retry else "false"))
    return tuple(headers)


def distort(response: Response, fault: Fault, *, epoch_seconds: float) -> Response:
    """The response as the client sees it with this fault. A kind that decides the answer itself changes nothing."""
    refusal = http_error(fault, request_id=response.request_id, epoch_seconds=epoch_seconds)
    if refusal is not None:
        return replace(refusal, on_end=response.on_end)
    change = _CHANGES.get(fault.kind)
    return response if change is None else change(response, fault, epoch_seconds)


def _close(response: Response, _fault: Fault, _now: float) -> Response:
    return replace(response, garbage=b"", ending="close")


def _reset(response: Response, _fault: Fault, _now: float) -> Response:
    return replace(response, garbage=b"", ending="reset")


def _slow_headers(response: Response, fault: Fault, _now: float) -> Response:
    return replace(response, head_delay_seconds=fault.seconds)


def _garbage(response: Response, _fault: Fault, _now: float) -> Response:
    return replace(
        response, garbage=b"\x16\x03\x01\x00 this is not HTTP\r\n\r\n\x00\xff", ending="close"
    )


def _wrong_content_type(response: Response, _fault: Fault, _now: float) -> Response:
    page = Piece(b"<html><body>Sign in to the network</body></html>")
    return replace(response, content_type="text/html", chunked=False, pieces=(page,))


def _huge_header(response: Response, _fault: Fault, _now: float) -> Response:
    return replace(response, headers=(*response.headers, ("x-padding", "x" * HUGE_HEADER_BYTES)))


def _redirect(response: Response, fault: Fault, _now: float) -> Response:
    headers = (*response.headers, ("location", fault.location))
    return replace(response, status=307, headers=headers, chunked=False, pieces=())


def _cut(response: Response, fault: Fault, _now: float) -> Response:
    return _shortened(response, fault, ending="close")


def _reset_stream(response: Response, fault: Fault, _now: float) -> Response:
    return _shortened(response, fault, ending="reset")


def _stall(response: Response, fault: Fault, _now: float) -> Response:
    silent = _shortened(response, fault, ending="stall")
    if fault.seconds is None:
        return silent
    # Silent for a while, then the rest: a patient client gets the whole answer.
    body = b"".join(piece.data for piece in response.pieces)
    rest = body[sum(len(piece.data) for piece in silent.pieces) :]
    return replace(response, pieces=(*silent.pieces, Piece(rest, fault.seconds)))


def _shortened(
    response: Response, fault: Fault, *, ending: Literal["close", "reset", "stall"]
) -> Response:
    size_bytes = sum(len(piece.data) for piece in response.pieces)
    left = size_bytes // 2 if fault.after_bytes is None else fault.after_bytes
    kept = []
    for piece in response.pieces:
        if left <= 0:
            break
        kept.append(Piece(piece.data[:left], piece.delay_seconds))
        left -= len(piece.data)
    return replace(response, pieces=tuple(kept), promised_bytes=size_bytes, ending=ending)


def _bad_json(response: Response, _fault: Fault, _now: float) -> Response:
    if not response.chunked:
        return _with_body(response, lambda body: body[: len(body) // 2])
    broken = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del\n\n'
    return _with_middle(response, broken)


def _bad_utf8(response: Response, _fault: Fault, _now: float) -> Response:
    if not response.chunked:
        return _with_body(response, lambda body: body.replace(b'"text":"', b'"text":"\xff\xfe', 1))
    broken = (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"\xff\xfe\xc3("}}\n\n'
    )
    return _with_middle(response, broken)


def _early_end(response: Response, _fault: Fault, _now: float) -> Response:
    if not response.chunked:
        return _with_body(response, lambda body: body[: len(body) // 2])
    # Without message_delta and message_stop: no stop reason, no final usage, a clean end of the body.
    return replace(response, pieces=response.pieces[: _middle(response) + 1])


def _error_event(response: Response, fault: Fault, now: float) -> Response:
    error_type, message, http_kind = _STREAM_ERRORS[fault.kind]
    if not response.chunked:
        return distort(response, dataclasses.replace(fault, kind=http_kind), epoch_seconds=now)
    event = (
        b'event: error\ndata: {"type":"error","error":{"type":"%b","message":"%b"},"request_id":"%b"}\n\n'
        % (error_type, message, response.request_id.encode())
    )
    kept = response.pieces[: _middle(response) + 1]
    return replace(response, pieces=(*kept, Piece(event)))


def _oversized_line(response: Response, _fault: Fault, _now: float) -> Response:
    kept = response.pieces[: _middle(response)]
    head = Piece(b"event: content_block_delta\ndata: ")
    return replace(
        response,
        chunked=True,
        pieces=(*kept, head) if response.chunked else (head,),
        ending="flood",
    )


def _middle(response: Response) -> int:
    # Behind message_start and before the last events, where there is anything in between.
    return max(1, (len(response.pieces) - 1) // 2)


def _with_middle(response: Response, data: bytes) -> Response:
    at = _middle(response)
    delay_seconds = response.pieces[at].delay_seconds if at < len(response.pieces) else 0.0
    pieces = (*response.pieces[:at], Piece(data, delay_seconds), *response.pieces[at:])
    return replace(response, pieces=pieces)


def _with_body(response: Response, change: Callable[[bytes], bytes]) -> Response:
    body = b"".join(piece.data for piece in response.pieces)
    return replace(response, pieces=(Piece(change(body)),))


_CHANGES: Final[Mapping[FaultKind, Callable[[Response, Fault, float], Response]]] = {
    FaultKind.CLOSE: _close,
    FaultKind.RESET: _reset,
    FaultKind.SLOW_HEADERS: _slow_headers,
    FaultKind.GARBAGE: _garbage,
    FaultKind.WRONG_CONTENT_TYPE: _wrong_content_type,
    FaultKind.HUGE_HEADER: _huge_header,
    FaultKind.REDIRECT: _redirect,
    FaultKind.CUT: _cut,
    FaultKind.RESET_STREAM: _reset_stream,
    FaultKind.STALL: _stall,
    FaultKind.BAD_JSON: _bad_json,
    FaultKind.BAD_UTF8: _bad_utf8,
    FaultKind.EARLY_END: _early_end,
    FaultKind.ERROR_OVERLOADED: _error_event,
    FaultKind.ERROR_API: _error_event,
    FaultKind.ERROR_RATE_LIMIT: _error_event,
    FaultKind.OVERSIZED_LINE: _oversized_line,
}
