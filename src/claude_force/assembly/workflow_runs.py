"""Runs of workflows: from a definition and its inputs to the calls of its steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from claude_force.assembly.caller import stops_run
from claude_force.domain.events import StepExpanded
from claude_force.domain.messages import CallContext
from claude_force.provider.prompt_cache.prefixes import prefix_keys
from claude_force.workflows.companions import seats_of
from claude_force.workflows.scheduler import WorkflowRun
from claude_force.workflows.step_run import ITEMS_AT_ONCE
from claude_force.workflows.steps import Asking, step_call
from claude_force.workflows.templates import is_template

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from claude_force.agents.calls import AgentCall
    from claude_force.assembly.caller import Caller
    from claude_force.assembly.runtime import Runtime
    from claude_force.domain.companions import Companions, Seat
    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.results import AgentResult, WorkflowResult
    from claude_force.domain.runs import CallPlace
    from claude_force.workflows.definition import Workflow
    from claude_force.workflows.inputs import RunInputs
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
    ) -> None:
        self._caller = caller
        self._steps = {step.step_id: step for step in workflow.steps}
        self._run_id = run_id
        self._stop = stop
        self._seats = seats
        self._sequential = sequential
        self._on_event = on_event
        # Of steps that fan out: their items are companions of each other.
        self._fanned_out: dict[str, Companions] = {}

    async def make(self, call: AgentCall, place: CallPlace) -> AgentResult:
        """Make one call."""
        companions = self._fanned_out.get(place.step_id)
        seat = self._seats[place.step_id] if companions is None else companions.seat()
        try:
            return await self._caller.run(
                call,
                on_event=self._on_event,
                stop=self._stop,
                run_id=self._run_id,
                step_id=place.step_id,
                item_index=place.item_index,
                step_budget_usd=self._steps[place.step_id].budget_usd,
                seat=seat,
            )
        finally:
            seat.settle()

    def take(self, event: Event) -> None:
        """Notice how many items a step has: their calls are on their way."""
        if type(event) is StepExpanded:
            seat = self._seats[event.step_id]
            at_once = self._steps[event.step_id].max_parallel or ITEMS_AT_ONCE
            seat.companions.expect(1 if self._sequential else min(event.item_count, at_once))
            self._fanned_out[event.step_id] = seat.companions
            seat.settle()


class WorkflowRuns:
    """The runs of one orchestrator's workflows."""

    def __init__(self, runtime: Runtime, caller: Caller) -> None:
        self._runtime = runtime
        self._caller = caller

    def check(self, workflow: Workflow, inputs: RunInputs) -> dict[str, tuple[Hashable, ...]]:
        """What each step's prompt is known to begin with, as far as it is known before the run.

        Raises:
            InputError: what is known of a step's call cannot be sent; nothing was.
        """
        found: dict[str, tuple[Hashable, ...]] = {}
        for step in workflow.steps:
            known = step
            if step.task is not None and is_template(step.task):
                # What it comes to is not known yet; the rest can be checked all the same.
                known = replace(step, task=None if inputs.task else "a task")
            if step.for_each is not None and not (known.task or inputs.task):
                known = replace(known, task="a task")
            call = step_call(known, inputs, {}, Asking())
            found[step.step_id] = prefix_keys(
                call.to_request(self._runtime.registry, CallContext())
            )
        return found

    async def execute(
        self,
        workflow: Workflow,
        inputs: RunInputs,
        *,
        run_id: str,
        sequential: bool,
        on_event: EventListener | None,
    ) -> WorkflowResult:
        """Run a workflow that was checked."""
        self._runtime.client()
        beginnings = self.check(workflow, inputs)
        calls = RunCalls(
            self._caller,
            workflow,
            run_id=run_id,
            stop=self._caller.new_run(),
            seats=seats_of(workflow, beginnings, sequential=sequential),
            sequential=sequential,
            on_event=on_event,
        )
        listener = self._caller.listener(on_event)

        def tell(event: Event) -> None:
            calls.take(event)
            if listener is not None:
                listener(event)

        return await WorkflowRun(
            workflow,
            run_id=run_id,
            inputs=inputs,
            make_call=calls.make,
            is_fatal=stops_run,
            sequential=sequential,
            on_event=tell,
        ).execute()
