"""Refusals of the simulated API, in the shape in which the API sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from claude_force.simulator.wire import JSON_TYPE, Piece, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

JsonObject: TypeAlias = dict[str, Any]

TYPE_BY_STATUS: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    421: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ApiError(Exception):
    """The request is refused with ``status``; ``message`` says why, as the API would."""

    def __init__(self, status: int, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        # `error.details.error_code`.
        self.code = code


def error_object(
    error_type: str, message: str, *, code: str | None = None, request_id: str
) -> JsonObject:
    """The JSON body of an error; ``details`` is there only with a code."""
    error: JsonObject = {"type": error_type, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    return {"type": "error", "error": error, "request_id": request_id}


def error_response(
    status: int,
    message: str,
    *,
    request_id: str,
    code: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    close: bool = False,
) -> Response:
    """A whole HTTP answer that refuses."""
    body = error_object(TYPE_BY_STATUS[status], message, code=code, request_id=request_id)
    return Response(
        status=status,
        content_type=JSON_TYPE,
        request_id=request_id,
        headers=headers,
        pieces=(Piece(msgspec.json.encode(body)),),
        close=close,
    )
