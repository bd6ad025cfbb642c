"""Many calls as one run: each ends in an outcome of its own, and the run has a deadline."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from claude_force.assembly.caller import stops_run
from claude_force.assembly.options import check_number
from claude_force.domain.errors import CallTimeoutError
from claude_force.workflows.companions import look_ahead
from claude_force.workflows.fan_out import fan_out

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from claude_force.agents.calls import AgentCall
    from claude_force.assembly.caller import Caller
    from claude_force.assembly.runtime import Runtime
    from claude_force.domain.results import AgentOutcome, AgentResult
    from claude_force.workflows.run_stop import RunStop


async def run_many(
    runtime: Runtime,
    caller: Caller,
    calls: Iterable[AgentCall],
    *,
    timeout_seconds: float | None = None,
) -> AsyncGenerator[AgentOutcome, None]:
    """Outcomes in the order in which they end; see `AsyncAgentOrchestrator.run_many`."""
    check_number("timeout_seconds", timeout_seconds, minimum=0.001)
    runtime.client()
    stop = caller.new_run()
    workers = 2 * runtime.max_concurrent
    companions, accepted = look_ahead(calls, workers)

    async def run_call(call: AgentCall) -> AgentResult:
        seat = companions.seat()
        try:
            if stop.stopped:
                raise stop.refusal(sent=False)
            return await caller.run(call, stop=stop, seat=seat)
        finally:
            seat.settle()

    alarm = None if timeout_seconds is None else _deadline(stop, timeout_seconds)
    outcomes = fan_out(accepted, run_call, workers=workers, is_fatal=stops_run)
    try:
        async with aclosing(outcomes):
            async for outcome in outcomes:
                yield outcome
    finally:
        if alarm is not None:
            alarm.cancel()


def _deadline(stop: RunStop, seconds: float) -> asyncio.TimerHandle:
    """Ends the run after so many seconds, what is on the wire included."""
    cause = CallTimeoutError(
        f"The run's {seconds:g} s were over. Allow more time (--deadline, timeout_seconds), or run it again to do what "
        "is missing.",
        attempts=0,
    )
    return asyncio.get_running_loop().call_later(seconds, partial(stop.stop, cause, cut=True))
