"""Many calls beside each other, bounded, each with an outcome of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from claude_force.domain.errors import CallError, ClaudeForceError
from claude_force.domain.results import AgentOutcome, AgentResult
from claude_force.workflows.run_stop import not_sent

if TYPE_CHECKING:
    from claude_force.agents.calls import AgentCall

# Makes one call; raises a `ClaudeForceError` when it fails.
CallRunner: TypeAlias = Callable[["AgentCall"], Awaitable[AgentResult]]


async def fan_out(
    calls: Iterable[AgentCall],
    run_call: CallRunner,
    *,
    workers: int,
    is_fatal: Callable[[ClaudeForceError], bool],
) -> AsyncGenerator[AgentOutcome, None]:
    """Outcomes of all calls, in the order in which they end.

    ``calls`` is read as places become free, and outcomes wait until they are taken, so a million calls take no more
    memory than ``workers``. After an error for which ``is_fatal`` holds, calls that were not sent yet end in an
    error of the same class; those under way are finished. Closing the generator cancels what is under way.

    Args:
        calls: what to ask; the position of each is the outcome's ``index``.
        run_call: makes one call.
        workers: calls under way at the same time at most.
        is_fatal: whether an error makes every further call pointless.
    """
    # None says that a worker has ended, an exception that the program has a fault.
    ended: asyncio.Queue[AgentOutcome | Exception | None] = asyncio.Queue(maxsize=workers)
    numbered = enumerate(calls)
    stopped_by: CallError | None = None

    async def work() -> None:
        nonlocal stopped_by
        try:
            for index, call in numbered:
                outcome = await _outcome(index, call, run_call, stopped_by)
                if isinstance(outcome.error, CallError) and is_fatal(outcome.error):
                    stopped_by = stopped_by or outcome.error
                await ended.put(outcome)
        except Exception as fault:  # noqa: BLE001 - handed to the reader, who raises it
            await ended.put(fault)
        else:
            await ended.put(None)

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    try:
        working = workers
        while working:
            item = await ended.get()
            if item is None:
                working -= 1
            elif isinstance(item, Exception):
                raise item
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _outcome(
    index: int, call: AgentCall, run_call: CallRunner, stopped_by: CallError | None
) -> AgentOutcome:
    result: AgentResult | None = None
    error: ClaudeForceError | None = None
    if stopped_by is not None:
        error = not_sent(stopped_by)
    else:
        try:
            result = await run_call(call)
        except ClaudeForceError as failure:
            error = failure
    return AgentOutcome(
        index=index,
        item_id=call.item_id if call.item_id is not None else str(index),
        agent_name=call.agent_name,
        result=result,
        error=error,
    )
