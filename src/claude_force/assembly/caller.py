"""From a call to its result: the agent, the request, the chain, and who listens."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING
from weakref import WeakSet

from claude_force.agents.request_memo import RequestMemo, in_context
from claude_force.domain.errors import CallError, ClaudeForceError, RunStoppedError
from claude_force.domain.messages import CallContext
from claude_force.provider.ask import ask, compose
from claude_force.provider.event_log import event_loggers
from claude_force.resilience.classification import Action, action_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from decimal import Decimal

    from claude_force.agents.calls import AgentCall
    from claude_force.assembly.prepared_calls import PreparedCall
    from claude_force.assembly.runtime import Runtime
    from claude_force.domain.companions import Seat
    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.messages import MessageRequest
    from claude_force.domain.results import AgentResult
    from claude_force.provider.client import ModelClient
    from claude_force.workflows.run_stop import RunStop


class Caller:
    """Makes the calls of one orchestrator. Any number of tasks, threads and event loops may use it at the same time.

    Args:
        runtime: what calls run on.
        listeners: told of everything that happens, on the event loop.
    """

    def __init__(self, runtime: Runtime, listeners: Sequence[EventListener]) -> None:
        self._runtime = runtime
        self._listeners = tuple(listeners)
        # Requests that were put together before.
        self.requests = RequestMemo()
        # Runs of many calls that go on; what nobody holds any more has ended.
        self._runs: WeakSet[RunStop] = WeakSet()

    def listener(self, on_event: EventListener | None) -> EventListener | None:
        """The listeners of the orchestrator and ``on_event`` as one; None where nobody listens."""
        own = () if on_event is None else (on_event,)
        return compose((*self._listeners, *own, *self._runtime.recorders(), *event_loggers()))

    def new_run(self) -> RunStop:
        """What stops a run of many calls; it is stopped with `stop` too, for as long as somebody holds it."""
        from claude_force.workflows.run_stop import RunStop  # noqa: PLC0415 - one call needs none

        run = RunStop(stops_run)
        self._runs.add(run)
        return run

    def stop(self) -> None:
        """Send nothing more in the runs that go on."""
        for run in tuple(self._runs):
            run.stop(RunStoppedError("the user has stopped the run", attempts=0))

    async def run(
        self,
        call: AgentCall,
        *,
        on_event: EventListener | None = None,
        stop: RunStop | None = None,
        run_id: str | None = None,
        step_id: str | None = None,
        item_index: int | None = None,
        step_budget_usd: Decimal | None = None,
        seat: Seat | None = None,
        prepared: PreparedCall | None = None,
        batched: ModelClient | None = None,
    ) -> AgentResult:
        """The result of one call, which belongs to a run where ``stop`` is given, and has companions where ``seat`` is.

        ``prepared`` is what the call comes to, where that is known already. ``batched`` answers it in place of the chain:
        within a day, so that no deadline holds, and without fallback or semantic cache.

        Raises:
            ClaudeForceError: see `AsyncAgentOrchestrator.run_agent`.
        """
        if prepared is None:
            definition = self._runtime.registry.get(call.agent_name)
        else:
            definition = prepared.definition
        context = CallContext(
            call_id=new_id(),
            agent_name=call.agent_name,
            run_id=run_id,
            step_id=step_id,
            item_index=item_index,
            step_budget_usd=step_budget_usd,
            timeout_seconds=None
            if batched is not None
            else call.timeout_seconds or self._runtime.timeout_seconds,
            cache=call.cache,
            semantic=None if batched is not None else self._runtime.semantic.use(call, definition),
            fallback=() if batched is not None else call.models_after(definition),
            continue_rounds=call.rounds_after(),
            seat=seat,
            halt=stop,
        )
        if prepared is None:
            request = self.requests.request(call, definition, context)
        else:
            request = in_context(prepared.request, context)
        listener = self.listener(on_event)
        memory = self._runtime.memories.of(call, definition)
        if memory is None:
            return await self._ask(request, listener, stop, batched)
        reminded = await memory.remind(call, definition, request, run=stop, recalls=batched is None)
        result = await self._ask(reminded.request, listener, stop, batched)
        memory.keep(call, reminded.key, result)
        return result

    async def _ask(
        self,
        request: MessageRequest,
        listener: EventListener | None,
        stop: RunStop | None,
        batched: ModelClient | None,
    ) -> AgentResult:
        client = self._runtime.client() if batched is None else batched
        if stop is None:
            return await ask(client, request, listener)
        # The stop is asked first: what it refuses has not started, for any other listener.
        told = (stop,) if listener is None else (stop, listener)
        try:
            return await ask(client, request, compose(told))
        except CallError as error:
            stop.consider(error)
            raise

    async def stream(self, call: AgentCall) -> AsyncGenerator[Event, None]:
        """The events of one call as they happen; closing the generator cancels the call."""
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        running = asyncio.create_task(self.run(call, on_event=events.put_nowait))
        running.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def stops_run(error: ClaudeForceError) -> bool:
    """Whether an error makes every further call of its run pointless."""
    return isinstance(error, CallError) and action_for(error) is Action.STOP_RUN


def new_id() -> str:
    """An id for a call or a run, unique for one user."""
    return os.urandom(8).hex()
