"""The calls of one run of a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.domain.errors import JournalError, RunStoppedError
from claude_force.domain.events import StepExpanded
from claude_force.workflows.step_run import ITEMS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.agents.calls import AgentCall
    from claude_force.assembly.batching_runs import RunBatches
    from claude_force.assembly.call_journal import CallJournal
    from claude_force.assembly.caller import Caller
    from claude_force.assembly.prepared_calls import PreparedCall, PreparedCalls
    from claude_force.domain.companions import Companions, Seat
    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.results import AgentResult
    from claude_force.domain.runs import CallPlace
    from claude_force.provider.client import ModelClient
    from claude_force.workflows.definition import Workflow
    from claude_force.workflows.run_stop import RunStop


class RunCalls:
    """Makes the calls of one run, each with its place among those that are made together.

    Args:
        caller: makes calls.
        workflow: what is run.
        run_id: of the run.
        stop: stops the run.
        seats: of the steps.
        sequential: one call at a time.
        on_event: told of the calls.
        prepared: what calls come to.
        journal: keeps every answer; None for none.
        batches: answers the calls that go out in batches; None where there are none.
    """

    def __init__(
        self,
        caller: Caller,
        workflow: Workflow,
        *,
        run_id: str,
        stop: RunStop,
        seats: Mapping[str, Seat],
        sequential: bool,
        on_event: EventListener | None,
        prepared: PreparedCalls,
        journal: CallJournal | None,
        batches: RunBatches | None = None,
    ) -> None:
        self._caller = caller
        self._prepared = prepared
        self._journal = journal
        self._batches = batches
        self._steps = {step.step_id: step for step in workflow.steps}
        self._run_id = run_id
        self._stop = stop
        self._seats = seats
        self._sequential = sequential
        self._on_event = on_event
        # Of steps that fan out: their items are companions of each other.
        self._fanned_out: dict[str, Companions] = {}

    async def make(self, call: AgentCall, place: CallPlace) -> AgentResult:
        """Make one call, unless the run knows its answer."""
        companions = self._fanned_out.get(place.step_id)
        seat = self._seats[place.step_id] if companions is None else companions.seat()
        if self._steps[place.step_id].batch:
            # Nobody who is asked at once waits for what a batch brings.
            seat.settle()
        try:
            prepared = self._prepared.prepare(call, place)
            if self._journal is None:
                return await self._send(call, place, seat, prepared)
            return await self._journal.answered(
                call,
                place,
                prepared.request,
                lambda asked: self._send(asked, place, seat, prepared),
            )
        except JournalError as error:
            # What waits for its turn must not be paid any more.
            self._stop.stop(RunStoppedError(str(error), attempts=0))
            raise
        finally:
            seat.settle()

    async def _send(
        self, call: AgentCall, place: CallPlace, seat: Seat, prepared: PreparedCall
    ) -> AgentResult:
        return await self._caller.run(
            call,
            on_event=self._on_event,
            stop=self._stop,
            run_id=self._run_id,
            step_id=place.step_id,
            item_index=place.item_index,
            step_budget_usd=self._steps[place.step_id].budget_usd,
            seat=seat,
            prepared=prepared,
            batched=self._batched(place, prepared),
        )

    def _batched(self, place: CallPlace, prepared: PreparedCall) -> ModelClient | None:
        if self._batches is None:
            return None
        wanted = bool(self._steps[place.step_id].batch)
        return self._batches.client_for(prepared.request, wanted=wanted)

    def take(self, event: Event) -> None:
        """Notice how many items a step has: their calls are on their way."""
        if type(event) is StepExpanded:
            seat = self._seats[event.step_id]
            at_once = self._steps[event.step_id].max_parallel or ITEMS_AT_ONCE
            seat.companions.expect(1 if self._sequential else min(event.item_count, at_once))
            self._fanned_out[event.step_id] = seat.companions
            seat.settle()
