"""Message batches: accepted at once, answered later, read back in any order.

Nothing runs in the background: what a batch has done follows from the clock, so a test with a clock of its own sees
every state without waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from claude_force.simulator.batch_results import check_requests, result_lines
from claude_force.simulator.distortions import distort, http_error
from claude_force.simulator.draws import Draws
from claude_force.simulator.errors import ApiError, JsonObject
from claude_force.simulator.messages import decode_body
from claude_force.simulator.rate_limits import rfc3339
from claude_force.simulator.validation import check_version
from claude_force.simulator.wire import JSON_TYPE, HttpRequest, Piece, Response

if TYPE_CHECKING:
    from claude_force.simulator.platform import Platform

EXPIRY_SECONDS: Final = 24 * 3600.0
RESULTS_KEPT_SECONDS: Final = 29 * 86_400.0
# How long a canceled batch is "canceling", where it is processed at all that long.
CANCEL_SECONDS: Final = 0.1


class Batch(msgspec.Struct):
    """One batch. Times are epoch seconds."""

    batch_id: str
    organisation: str
    requests: list[JsonObject]
    # Places of the requests in the order in which they are processed; seeded.
    order: list[int]
    created_at: float
    processing_seconds: float
    cancel_at: float | None = None
    # The JSONL, made when it is first asked for.
    results: bytes | None = None

    @property
    def ended_at(self) -> float:
        """When processing ends, or has ended."""
        planned = self.created_at + min(self.processing_seconds, EXPIRY_SECONDS)
        if self.cancel_at is None:
            return planned
        return min(planned, self.cancel_at + CANCEL_SECONDS)

    def status(self, now: float) -> Literal["in_progress", "canceling", "ended"]:
        """Where it stands."""
        if now >= self.ended_at:
            return "ended"
        return "in_progress" if self.cancel_at is None else "canceling"

    def outcomes(self) -> list[Literal["processed", "canceled", "expired"]]:
        """How each request ends, by its place: it was processed in time, or it was not."""
        outcomes: list[Literal["processed", "canceled", "expired"]] = ["processed"] * len(
            self.order
        )
        for rank, place in enumerate(self.order, start=1):
            done_at = self.created_at + self.processing_seconds * rank / len(self.order)
            if self.cancel_at is not None and done_at > self.cancel_at:
                outcomes[place] = "canceled"
            elif done_at > self.created_at + EXPIRY_SECONDS:
                outcomes[place] = "expired"
        return outcomes


class BatchStore:
    """The batches of one simulator, newest last."""

    def __init__(self) -> None:
        self._batches: dict[str, Batch] = {}

    def add(self, batch: Batch) -> None:
        """Keep a new batch."""
        self._batches[batch.batch_id] = batch

    def get(self, batch_id: str, organisation: str) -> Batch:
        """The batch of that id; 404 where there is none, or it is someone else's."""
        batch = self._batches.get(batch_id)
        if batch is None or batch.organisation != organisation:
            raise ApiError(404, f"message batch {batch_id} not found")
        return batch

    def of(self, organisation: str) -> list[Batch]:
        """All batches of one organisation, newest first."""
        return [b for b in reversed(self._batches.values()) if b.organisation == organisation]

    def clear(self) -> None:
        """Forget all."""
        self._batches.clear()


def create_batch(
    platform: Platform, store: BatchStore, request: HttpRequest, request_id: str
) -> Response:
    """Accept a batch, with a queued fault in its way. What its requests ask is checked when they are processed."""
    organisation = _caller(platform, request)
    body = decode_body(request)
    platform.keep(request, body)
    requests = check_requests(body)
    fault = platform.take_fault(request.path, request.body)
    if fault is not None:
        platform.counters.faults[fault.kind.value] += 1
        refusal = http_error(fault, request_id=request_id, epoch_seconds=platform.wall_clock())
        if refusal is not None:
            return refusal
    batch_id = platform.next_id("msgbatch")
    batch = Batch(
        batch_id=batch_id,
        organisation=organisation,
        requests=requests,
        order=_shuffled(len(requests), platform.seed, [r["custom_id"] for r in requests]),
        created_at=platform.wall_clock(),
        processing_seconds=platform.scenario.batch_seconds,
    )
    store.add(batch)
    response = _batch_response(platform, batch, request, request_id)
    if fault is None:
        return response
    return distort(response, fault, epoch_seconds=platform.wall_clock())


def list_batches(
    platform: Platform, store: BatchStore, request: HttpRequest, request_id: str
) -> Response:
    """A page of batches, newest first."""
    organisation = _caller(platform, request)
    # Ids and numbers need no unquoting.
    query = dict(part.partition("=")[::2] for part in request.query.split("&"))
    limit = query.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
        raise ApiError(400, "limit: Input should be from 1 to 1000")
    batches = store.of(organisation)
    ids = [batch.batch_id for batch in batches]
    start, end = 0, len(batches)
    if (after := query.get("after_id")) in ids:
        start = ids.index(after) + 1
    if (before := query.get("before_id")) in ids:
        end = ids.index(before)
        start = max(start, end - int(limit))
    page = batches[start : min(end, start + int(limit))]
    value = {
        "data": [_batch_object(platform, batch, request) for batch in page],
        "has_more": start + len(page) < end,
        "first_id": page[0].batch_id if page else None,
        "last_id": page[-1].batch_id if page else None,
    }
    return _json(value, request_id)


def get_batch(
    platform: Platform, store: BatchStore, batch_id: str, request: HttpRequest, request_id: str
) -> Response:
    """One batch as it stands now."""
    batch = store.get(batch_id, _caller(platform, request))
    return _batch_response(platform, batch, request, request_id)


def cancel_batch(
    platform: Platform, store: BatchStore, batch_id: str, request: HttpRequest, request_id: str
) -> Response:
    """Stop a batch: what is processed stays, the rest is canceled. Twice is the same as once."""
    batch = store.get(batch_id, _caller(platform, request))
    now = platform.wall_clock()
    if batch.status(now) == "ended":
        raise ApiError(400, f"Batch {batch_id} has ended and cannot be canceled.")
    if batch.cancel_at is None:
        batch.cancel_at = now
    return _batch_response(platform, batch, request, request_id)


def get_results(
    platform: Platform, store: BatchStore, batch_id: str, request: HttpRequest, request_id: str
) -> Response:
    """The results, one JSON object a line, in the order of processing."""
    batch = store.get(batch_id, _caller(platform, request))
    now = platform.wall_clock()
    if batch.status(now) != "ended":
        raise ApiError(404, f"Batch {batch_id} has no available results: it has not ended.")
    if now >= batch.created_at + RESULTS_KEPT_SECONDS:
        raise ApiError(404, f"The results of batch {batch_id} are no longer available.")
    return Response(
        status=200,
        content_type="application/x-jsonl",
        pieces=(Piece(_results(platform, batch)),),
        request_id=request_id,
    )


def _caller(platform: Platform, request: HttpRequest) -> str:
    organisation = platform.organisation(request.headers)
    check_version(request.headers)
    return organisation


def _shuffled(count: int, seed: int, custom_ids: list[str]) -> list[int]:
    draws = Draws(seed, "batch")
    return sorted(range(count), key=lambda place: draws.integer(custom_ids[place]))


def _results(platform: Platform, batch: Batch) -> bytes:
    if batch.results is None:
        batch.results = b"".join(
            result_lines(platform, batch.requests, batch.order, batch.outcomes())
        )
    return batch.results


def _counts(platform: Platform, batch: Batch, now: float) -> dict[str, int]:
    names = ("processing", "succeeded", "errored", "canceled", "expired")
    counts = dict.fromkeys(names, 0)
    if batch.status(now) != "ended":
        # As the API: nothing is counted as done before the whole batch has ended.
        counts["processing"] = len(batch.requests)
        return counts
    for line in _results(platform, batch).splitlines():
        counts[msgspec.json.decode(line)["result"]["type"]] += 1
    return counts


def _batch_object(platform: Platform, batch: Batch, request: HttpRequest) -> JsonObject:
    now = platform.wall_clock()
    ended = batch.status(now) == "ended"
    archived_at = batch.created_at + RESULTS_KEPT_SECONDS
    base = f"http://{request.headers['host']}/v1/messages/batches/{batch.batch_id}"
    return {
        "id": batch.batch_id,
        "type": "message_batch",
        "processing_status": batch.status(now),
        "request_counts": _counts(platform, batch, now),
        "created_at": rfc3339(batch.created_at),
        "expires_at": rfc3339(batch.created_at + EXPIRY_SECONDS),
        "ended_at": rfc3339(batch.ended_at) if ended else None,
        "cancel_initiated_at": None if batch.cancel_at is None else rfc3339(batch.cancel_at),
        "archived_at": rfc3339(archived_at) if now >= archived_at else None,
        "results_url": f"{base}/results" if ended else None,
    }


def _batch_response(
    platform: Platform, batch: Batch, request: HttpRequest, request_id: str
) -> Response:
    return _json(_batch_object(platform, batch, request), request_id)


def _json(value: JsonObject, request_id: str) -> Response:
    data = msgspec.json.encode(value)
    return Response(
        status=200, content_type=JSON_TYPE, pieces=(Piece(data),), request_id=request_id
    )
