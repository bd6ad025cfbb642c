"""Which endpoint answers a request, and what every answer has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from claude_force.simulator.batches import (
    BatchStore,
    cancel_batch,
    create_batch,
    get_batch,
    get_results,
    list_batches,
)
from claude_force.simulator.catalogue import get_model, list_models
from claude_force.simulator.control import CONTROL_PREFIX, Control
from claude_force.simulator.distortions import distort
from claude_force.simulator.errors import ApiError, error_response
from claude_force.simulator.messages import MAX_BODY_BYTES, count_tokens, create_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.simulator.platform import Platform
    from claude_force.simulator.wire import HttpRequest, Response

_Endpoint: TypeAlias = "Callable[[HttpRequest, str], Response]"

MESSAGES_PATH: Final = "/v1/messages"
BATCHES_PATH: Final = "/v1/messages/batches"
MAX_BATCH_BODY_BYTES: Final = 256 * 1024 * 1024
_LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


def max_body_bytes(path: str) -> int:
    """The largest body that a path takes."""
    return MAX_BATCH_BODY_BYTES if path == BATCHES_PATH else MAX_BODY_BYTES


class Api:
    """All endpoints of one simulator. ``handle`` never raises: what goes wrong is a response."""

    def __init__(self, platform: Platform, control: Control) -> None:
        self._platform = platform
        self._control = control
        self.batches = BatchStore()
        self._fixed: dict[str, dict[str, _Endpoint]] = {
            MESSAGES_PATH: {"POST": lambda r, i: create_message(platform, r, i)},
            "/v1/messages/count_tokens": {"POST": lambda r, i: count_tokens(platform, r, i)},
            BATCHES_PATH: {
                "POST": lambda r, i: create_batch(platform, self.batches, r, i),
                "GET": lambda r, i: list_batches(platform, self.batches, r, i),
            },
            "/v1/models": {"GET": lambda r, i: list_models(platform, r, i)},
        }

    def handle(self, request: HttpRequest) -> Response:
        """The response to one request."""
        platform = self._platform
        request_id = platform.next_id("req")
        try:
            _check_host(request)
            if request.path.startswith(CONTROL_PREFIX):
                return self._control.handle(request, request_id)
            response = self._endpoint(request)(request, request_id)
            if request.path != MESSAGES_PATH:
                response = self._with_queued_fault(request, response)
        except (RecursionError, OverflowError):
            # JSON that can be read and not be written again: nested too deeply, or a number beyond 64 bits.
            message = "The request body is nested too deeply or has a number that is out of range"
            response = error_response(400, message, request_id=request_id)
        except ApiError as exc:
            response = error_response(exc.status, exc.message, code=exc.code, request_id=request_id)
        if response.status >= 400:
            platform.counters.errors[response.status] += 1
        return response

    def _endpoint(self, request: HttpRequest) -> _Endpoint:
        endpoints = self._fixed.get(request.path) or self._by_id(request.path)
        if endpoints is None:
            raise ApiError(404, f"Not found: {request.path}")
        endpoint = endpoints.get(request.method)
        if endpoint is None:
            raise ApiError(405, f"Method Not Allowed: {request.method} {request.path}")
        return endpoint

    def _by_id(self, path: str) -> dict[str, _Endpoint] | None:
        platform, batches = self._platform, self.batches
        if path.startswith("/v1/models/"):
            model_id = path.removeprefix("/v1/models/")
            return {"GET": lambda r, i: get_model(platform, model_id, r, i)}
        if not path.startswith(BATCHES_PATH + "/"):
            return None
        batch_id, _, action = path.removeprefix(BATCHES_PATH + "/").partition("/")
        actions: dict[str, dict[str, _Endpoint]] = {
            "": {"GET": lambda r, i: get_batch(platform, batches, batch_id, r, i)},
            "results": {"GET": lambda r, i: get_results(platform, batches, batch_id, r, i)},
            "cancel": {"POST": lambda r, i: cancel_batch(platform, batches, batch_id, r, i)},
        }
        return actions.get(action)

    def _with_queued_fault(self, request: HttpRequest, response: Response) -> Response:
        fault = self._platform.take_fault(request.path, request.body)
        if fault is None:
            return response
        self._platform.counters.faults[fault.kind.value] += 1
        return distort(response, fault, epoch_seconds=self._platform.wall_clock())


def _check_host(request: HttpRequest) -> None:
    # A page in a browser can make a name of its own point to 127.0.0.1; the Host header still tells that name.
    host = request.headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name.lower() not in _LOOPBACK_NAMES:
        raise ApiError(
            421, f"This server answers to 127.0.0.1, localhost and [::1], not to {host!r}."
        )
