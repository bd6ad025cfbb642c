"""Sends requests in batches, and reads back what came of them, now or tomorrow."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol

from claude_force.domain.errors import (
    CallError,
    InvalidRequestError,
    RateLimitError,
    ServiceError,
    TransportError,
)
from claude_force.provider.batches_api import MAX_BATCH_BYTES, MAX_BATCH_REQUESTS, BatchResult

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from io import TextIOWrapper

    from claude_force.provider.batches_api import BatchStatus
    from claude_force.workflows.batch_ledger import BatchLedger, PendingBatch

# Between two looks at a batch that goes on.
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
# How often the results of one batch are read again when their stream breaks.
_READ_AGAIN: Final = 5
_NOT_ACCEPTED: Final = (
    "The batch with this request was never accepted, so nothing was paid for it. Run it again."
)
# A batch that was not accepted is sent again after these pauses.
_SENT_AGAIN_AFTER_SECONDS: Final = (1.0, 4.0, 15.0)
_MAY_PASS: Final = (TransportError, ServiceError, RateLimitError)
_TURN_AWAITED_SECONDS: Final = 0.05
_RESULTS_KEPT_SECONDS: Final = 29 * 86_400.0
# A batch that was sent so short a time ago is looked for again after these pauses before it counts as not accepted.
_ACCEPTED_WITHIN_SECONDS: Final = 60.0
_LOOKED_FOR_AGAIN_AFTER_SECONDS: Final = (1.0, 3.0)
# The clocks of two machines.
_SKEW_SECONDS: Final = 120.0


class NotOursError(Exception):
    """A batch holds nothing of what it was noted for."""


class Batches(Protocol):
    """What is asked of the API; `BatchesApi` is one."""

    async def create(self, items: list[bytes]) -> BatchStatus:
        """Send a batch."""

    async def status(self, batch_id: str) -> BatchStatus:
        """Where a batch stands."""

    async def created_since(self, epoch_seconds: float) -> list[BatchStatus]:
        """The batches of the workspace that are not older, the newest first."""

    def results(self, batch_id: str) -> AsyncGenerator[BatchResult, None]:
        """The results of a batch that has ended."""


class BatchRun:
    """Requests by content key, sent in batches and collected.

    What is in a batch already, of this process or another, of today or yesterday, is not sent again. A process that
    dies while a batch is on its way leaves a note; the next one finds out at the API whether it was accepted.

    Args:
        api: the batches of one key.
        ledger: what is in which batch.
        origin: the provider; the same request to another one is another.
        max_requests: the most of one batch.
        max_bytes: the largest batch.
        wall_clock: seconds since the epoch.
        sleep: waits between two looks.
    """

    def __init__(
        self,
        api: Batches,
        ledger: BatchLedger,
        *,
        origin: str,
        max_requests: int = MAX_BATCH_REQUESTS,
        max_bytes: int = MAX_BATCH_BYTES,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._origin = origin
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._wall_clock = wall_clock
        self._sleep = sleep

    async def submit(self, items: Mapping[str, Callable[[], bytes]]) -> int:
        """Send those of ``items`` that are in no batch yet; how many were sent.

        Args:
            items: what makes each request's bytes, by content key.

        Raises:
            CallError: a batch was refused, or it is not known whether it was accepted. Those before it are noted.
        """
        # Held over awaits on purpose: two processes that submit the same at once would pay twice.
        turn = await self._turn()
        try:
            oldest = self._wall_clock() - _RESULTS_KEPT_SECONDS
            await asyncio.to_thread(self._ledger.drop_before, oldest)
            return await self._submit_persistently(items)
        finally:
            turn.close()

    async def find_again(self, batch_id: str, keys: Sequence[str]) -> dict[str, str | None]:
        """The ids of the batches that do hold requests which ``batch_id`` does not: it is somebody else's.

        None is for what was never accepted. What is not noted here has no entry.
        """
        held = await asyncio.to_thread(self._ledger.where, self._origin, keys)
        ids = await asyncio.to_thread(self._ledger.batch_ids, self._origin, keys)
        for number in {held[key] for key, known in ids.items() if known == batch_id}:
            await asyncio.to_thread(self._ledger.mistaken, number)
        await self.submit({})
        ids = await asyncio.to_thread(self._ledger.batch_ids, self._origin, keys)
        return dict.fromkeys(held) | ids

    async def taken(self, keys: Iterable[str]) -> None:
        """Forget requests whose results were made use of; the same asked again is sent anew."""
        await asyncio.to_thread(self._ledger.collected, self._origin, list(keys))

    async def collect(
        self,
        keys: Iterable[str],
        *,
        on_look: Callable[[int], None] | None = None,
        forget: bool = True,
    ) -> AsyncGenerator[BatchResult, None]:
        """Results of ``keys``, batch by batch as they end.

        Keys that are in no batch are passed over. ``on_look`` is told how many requests still have no result. With
        ``forget`` a result is forgotten here once the next one is asked for; without, when `taken` is told.
        """
        wanted = _by_batch(await asyncio.to_thread(self._ledger.where, self._origin, keys))
        keys_by_batch = dict(wanted)
        pause_seconds = _FIRST_PAUSE_SECONDS
        while wanted:
            pending = await self._pending(wanted)
            for number in wanted.keys() - {batch.number for batch in pending}:
                for key in sorted(wanted.pop(number)):
                    yield BatchResult(custom_id=key, error=ServiceError(_NOT_ACCEPTED))
            for batch in [batch for batch in pending if batch.number in wanted]:
                async for result in self._ended_of(batch, wanted):
                    yield result
                if forget and batch.number not in wanted:
                    await self.taken(keys_by_batch[batch.number])
            if on_look is not None:
                on_look(sum(map(len, wanted.values())))
            if not wanted:
                return
            await self._sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 1.5, _LONGEST_PAUSE_SECONDS)

    async def _ended_of(
        self, batch: PendingBatch, wanted: dict[int, set[str]]
    ) -> AsyncGenerator[BatchResult, None]:
        """The results of a batch that has ended, which is then wanted no more."""
        if not await self.has_ended(batch):
            return
        try:
            async for result in self.results_of(batch, wanted[batch.number]):
                yield result
        except NotOursError:
            # Taken for the batch of a process that died. That one is looked for again.
            await asyncio.to_thread(self._ledger.mistaken, batch.number)
        else:
            del wanted[batch.number]

    async def _turn(self) -> TextIOWrapper:
        while True:
            turn = await asyncio.to_thread(self._ledger.take_turn)
            if turn is not None:
                return turn
            await asyncio.sleep(_TURN_AWAITED_SECONDS)

    async def _submit_persistently(self, items: Mapping[str, Callable[[], bytes]]) -> int:
        """Send what is missing, again where the API was reached or answered too badly to know what became of it."""
        sent = 0
        for pause_seconds in (*_SENT_AGAIN_AFTER_SECONDS, None):
            await self._settle_unknown()
            held = await asyncio.to_thread(self._ledger.where, self._origin, items)
            missing = {key: make for key, make in items.items() if key not in held}
            try:
                for batch in self._split(missing):
                    await self._send(batch)
                    sent += len(batch)
            except _MAY_PASS as error:
                if pause_seconds is None or error.should_retry is False:
                    raise
                asked_for = error.retry_after_seconds or 0.0
                await self._sleep(max(pause_seconds, min(asked_for, _LONGEST_PAUSE_SECONDS)))
            else:
                break
        return sent

    async def _pending(self, wanted: Mapping[int, object]) -> list[PendingBatch]:
        """Batches that are not collected; those that are wanted have an id, or are gone."""
        pending = await asyncio.to_thread(self._ledger.pending, self._origin)
        if any(batch.batch_id is None and batch.number in wanted for batch in pending):
            # Another process is sending it, or died while it did. Waits for the one, finds out about the other.
            await self.submit({})
            pending = await asyncio.to_thread(self._ledger.pending, self._origin)
        return pending

    async def has_ended(self, batch: PendingBatch) -> bool:
        """Whether every request of a batch has a result; one that is gone has none to wait for."""
        if batch.batch_id is None:
            return False
        try:
            return (await self._api.status(batch.batch_id)).ended
        except InvalidRequestError:
            # Gone, or of another workspace: `results_of` says so for each of its requests.
            return True

    async def results_of(
        self, batch: PendingBatch, wanted: set[str]
    ) -> AsyncGenerator[BatchResult, None]:
        """The results of a batch that has ended, for the keys that are wanted; each key has one.

        Raises:
            NotOursError: it has results, and none of what is wanted; `find_again` says where that is.
        """
        left = set(wanted)
        failure: CallError | None = None
        for _ in range(_READ_AGAIN):
            try:
                async for result in self._api.results(str(batch.batch_id)):
                    if result.custom_id in left:
                        yield result
                        left.discard(result.custom_id)
                failure = None
                break
            except TransportError as error:
                failure = error
                await self._sleep(_FIRST_PAUSE_SECONDS)
            except CallError as error:
                failure = error
                break
        if isinstance(failure, TransportError):
            raise failure
        if failure is None and left == wanted:
            raise NotOursError
        for key in sorted(left):
            yield BatchResult(custom_id=key, error=failure or no_result(batch))

    async def _settle_unknown(self) -> None:
        """Find out of every batch that was on its way when a process died whether it was accepted."""
        lost: list[PendingBatch] = []
        for pause_seconds in (*_LOOKED_FOR_AGAIN_AFTER_SECONDS, None):
            pending = await asyncio.to_thread(self._ledger.pending, self._origin)
            unknown = [batch for batch in pending if batch.batch_id is None]
            lost = await self._not_accepted(unknown) if unknown else []
            newest = max((batch.created_at for batch in lost), default=0.0)
            if pause_seconds is None or newest < self._wall_clock() - _ACCEPTED_WITHIN_SECONDS:
                break
            # Sent a moment ago, by a process that died since: it may be on its way yet.
            await self._sleep(pause_seconds)
        for batch in lost:
            await asyncio.to_thread(self._ledger.drop, batch.number)

    async def _not_accepted(self, unknown: Sequence[PendingBatch]) -> list[PendingBatch]:
        """Those of ``unknown`` that the API does not have; of the others the id is noted.

        A batch is known by its size and its time. Should it be somebody else's, its results say so: see `results_of`.
        """
        taken = await asyncio.to_thread(self._ledger.known_ids, self._origin)
        oldest = min(batch.created_at for batch in unknown) - _SKEW_SECONDS
        listed = await self._api.created_since(oldest)
        candidates = [status for status in listed if status.batch_id not in taken]
        lost = []
        for batch in unknown:
            found = min(
                (
                    status
                    for status in candidates
                    if status.request_count == batch.request_count
                    and status.created_at >= batch.created_at - _SKEW_SECONDS
                ),
                key=lambda status: abs(status.created_at - batch.created_at),
                default=None,
            )
            if found is None:
                lost.append(batch)
            else:
                candidates.remove(found)
                await asyncio.to_thread(self._ledger.submitted, batch.number, found.batch_id)
        return lost

    async def _send(self, batch: dict[str, bytes]) -> None:
        number = await asyncio.to_thread(
            lambda: self._ledger.intend(self._origin, list(batch), now=self._wall_clock())
        )
        try:
            status = await self._api.create(list(batch.values()))
        except (TransportError, ServiceError):
            # It may have been accepted. The note stays, and whoever submits next finds out.
            raise
        except CallError:
            await asyncio.to_thread(self._ledger.drop, number)
            raise
        await asyncio.to_thread(self._ledger.submitted, number, status.batch_id)

    def _split(self, items: Mapping[str, Callable[[], bytes]]) -> Iterator[dict[str, bytes]]:
        """Batches within the bounds of the API; each request is encoded when its batch is."""
        batch: dict[str, bytes] = {}
        size_bytes = 0
        for key, make in items.items():
            item = make()
            full = len(batch) >= self._max_requests or size_bytes + len(item) > self._max_bytes
            if batch and full:
                yield batch
                batch, size_bytes = {}, 0
            batch[key] = item
            size_bytes += len(item) + 1
        if batch:
            yield batch


def _by_batch(held: Mapping[str, int]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for key, number in held.items():
        found.setdefault(number, set()).add(key)
    return found


def no_result(batch: PendingBatch) -> ServiceError:
    """What a request comes to that its batch says nothing of."""
    what = f"The batch {batch.batch_id} has no result for this request."
    return ServiceError(f"{what} Run it again to send it anew.")
