"""``GET /v1/models`` and ``GET /v1/models/{id}``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from claude_force.domain.models import known_model_ids, model_class, model_facts
from claude_force.simulator.errors import ApiError, JsonObject
from claude_force.simulator.generations import is_served
from claude_force.simulator.validation import check_version
from claude_force.simulator.wire import JSON_TYPE, HttpRequest, Piece, Response

if TYPE_CHECKING:
    from claude_force.simulator.platform import Platform


def list_models(platform: Platform, request: HttpRequest, request_id: str) -> Response:
    """Every model that is served today, on one page."""
    platform.organisation(request.headers)
    check_version(request.headers)
    ids = [model_id for model_id in known_model_ids() if is_served(model_id, platform.today())]
    page = {
        "data": [_model_object(model_id) for model_id in ids],
        "has_more": False,
        "first_id": ids[0],
        "last_id": ids[-1],
    }
    return _json(page, request_id)


def get_model(platform: Platform, model_id: str, request: HttpRequest, request_id: str) -> Response:
    """One model."""
    platform.organisation(request.headers)
    check_version(request.headers)
    if not is_served(model_id, platform.today()):
        raise ApiError(404, f"model: {model_id}")
    return _json(_model_object(model_id), request_id)


def _model_object(model_id: str) -> JsonObject:
    facts = model_facts(model_id)
    retires = facts.retired_on if facts else None
    return {
        "type": "model",
        "id": model_id,
        "display_name": model_id.replace("-", " ").title(),
        # The API gives the epoch where it knows no date; the simulator knows none.
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active" if retires is None else "deprecated",
        "line": model_class(model_id),
        "max_input_tokens": facts.context_tokens if facts else None,
        "retires_at": f"{retires.isoformat()}T00:00:00Z" if retires else None,
    }


def _json(value: JsonObject, request_id: str) -> Response:
    data = msgspec.json.encode(value)
    return Response(
        status=200, content_type=JSON_TYPE, pieces=(Piece(data),), request_id=request_id
    )
