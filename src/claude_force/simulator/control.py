"""The endpoints under ``/_simulator/``: what a test or a person asks of the simulator itself."""

from __future__ import annotations

import hmac
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import msgspec

from claude_force.domain.errors import ConfigError
from claude_force.simulator.errors import ApiError, JsonObject
from claude_force.simulator.faults import Fault
from claude_force.simulator.scenarios import Scenario, scenario_from_json, scenario_named
from claude_force.simulator.wire import JSON_TYPE, HttpRequest, Piece, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.simulator.stats import RequestRecord, SimulatorStats

CONTROL_PREFIX: Final = "/_simulator/"
MAX_QUEUED_FAULTS: Final = 100_000


class Control:
    """Answers the control endpoints. All but ``health`` need the token in ``x-simulator-token``."""

    def __init__(
        self,
        *,
        token: str,
        stats: Callable[[], SimulatorStats],
        requests: Callable[[], tuple[RequestRecord, ...]],
        queue_fault: Callable[[Fault], None],
        use_scenario: Callable[[Scenario], None],
        reset: Callable[[], None],
    ) -> None:
        self._token = token.encode()
        self._stats = stats
        self._requests = requests
        self._queue_fault = queue_fault
        self._use_scenario = use_scenario
        self._reset = reset
        self._endpoints: dict[tuple[str, str], Callable[[HttpRequest], JsonObject]] = {
            ("GET", "stats"): self._get_stats,
            ("POST", "faults"): self._post_faults,
            ("POST", "scenario"): self._post_scenario,
            ("POST", "reset"): self._post_reset,
        }

    def handle(self, request: HttpRequest, request_id: str) -> Response:
        """The response to one control request."""
        name = request.path.removeprefix(CONTROL_PREFIX)
        if (request.method, name) == ("GET", "health"):
            return _json({"status": "ok", "simulated": True}, request_id)
        given = request.headers.get("x-simulator-token", "").encode("latin-1")
        if not hmac.compare_digest(given, self._token):
            raise ApiError(401, "x-simulator-token: missing or wrong")
        endpoint = self._endpoints.get((request.method, name))
        if endpoint is None:
            allowed = ", ".join(f"{verb} {CONTROL_PREFIX}{noun}" for verb, noun in self._endpoints)
            raise ApiError(404, f"Not found: {request.method} {request.path}; there are {allowed}.")
        try:
            return _json(endpoint(request), request_id)
        except ConfigError as exc:
            raise ApiError(400, str(exc)) from exc

    def _get_stats(self, _request: HttpRequest) -> JsonObject:
        records = [
            {"method": r.method, "path": r.path, "headers": dict(r.headers), "body": r.body}
            for r in self._requests()
        ]
        return {**stats_object(self._stats()), "kept_requests": records}

    def _post_faults(self, request: HttpRequest) -> JsonObject:
        faults = _faults(request.body)
        for fault in faults:
            self._queue_fault(fault)
        return {"queued": len(faults)}

    def _post_scenario(self, request: HttpRequest) -> JsonObject:
        scenario = _scenario(request.body)
        self._use_scenario(scenario)
        return {"scenario": scenario.name}

    def _post_reset(self, _request: HttpRequest) -> JsonObject:
        self._reset()
        return {"status": "ok"}


def stats_object(stats: SimulatorStats) -> JsonObject:
    """The statistics as JSON, with the field names of `SimulatorStats`."""
    value: JsonObject = {
        name: getattr(stats, name) for name in stats.__dataclass_fields__ if name != "usage"
    }
    for name, field in value.items():
        if not isinstance(field, int):
            value[name] = {str(key): number for key, number in field.items()}
    return {**value, "usage": asdict(stats.usage)}


def _faults(body: bytes) -> list[Fault]:
    value = _decoded(body)
    if not isinstance(value, list) or len(value) > MAX_QUEUED_FAULTS:
        raise ConfigError(
            f"faults are a JSON list of at most {MAX_QUEUED_FAULTS} objects with "
            f"{', '.join(Fault.__dataclass_fields__)}."
        )
    allowed = Fault.__dataclass_fields__
    for index, item in enumerate(value):
        unknown = [name for name in item if name not in allowed] if isinstance(item, dict) else []
        if unknown:
            raise ConfigError(
                f"fault {index}: unknown field {unknown[0]!r}; allowed are {', '.join(allowed)}."
            )
    try:
        return msgspec.convert(value, list[Fault])
    except msgspec.ValidationError as exc:
        raise ConfigError(f"faults: {exc}.") from exc


def _scenario(body: bytes) -> Scenario:
    """A name as a JSON string, or the fields of a scenario as an object."""
    value = _decoded(body)
    if isinstance(value, str):
        return scenario_named(value)
    return scenario_from_json(body, where="POST /_simulator/scenario")


def _decoded(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as exc:
        raise ConfigError(f"the body is not valid JSON: {exc}.") from exc


def _json(value: JsonObject, request_id: str) -> Response:
    data = msgspec.json.encode(value)
    return Response(
        status=200, content_type=JSON_TYPE, pieces=(Piece(data),), request_id=request_id
    )
