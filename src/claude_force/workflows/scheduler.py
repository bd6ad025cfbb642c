"""Runs a graph: a step starts the moment its last dependency ends."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from claude_force.domain.errors import CallTimeoutError, ClaudeForceError
from claude_force.domain.events import RunFinished, RunStarted, StepFinished, StepStarted
from claude_force.domain.results import StepResult, WorkflowResult, total_cost_usd
from claude_force.domain.usage import total_usage
from claude_force.workflows.definition import Step
from claude_force.workflows.graph import GraphState, StepGraph
from claude_force.workflows.step_run import StepOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_force.domain.events import EventListener
    from claude_force.workflows.definition import Workflow
    from claude_force.workflows.graph import Skip

# Runs one step, given how the steps before it ended.
StepRunner: TypeAlias = Callable[[Step, Mapping[str, StepResult]], Awaitable[StepOutcome]]

# A lane lets others have the loop after so many steps that ended without waiting.
_STEPS_IN_A_TURN: Final = 100


class WorkflowRun:
    """One run of one workflow; ``execute`` once.

    A step that fails takes the steps behind it with it, unless its ``on_error`` says otherwise; branches beside it run
    to their end. When ``is_fatal`` says that an error stops the run (a spend cap), no further step is started. After
    the workflow's ``timeout_seconds`` nothing is started either, and what runs is cancelled.

    Args:
        workflow: what runs.
        run_id: ties events and journal entries together.
        run_step: runs one step, given how those before it ended; what it raises ends the run.
        is_fatal: whether an error makes every further call pointless.
        sequential: one call at a time, in the order of the definition as far as the dependencies allow.
        on_event: told of the run and its steps.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        workflow: Workflow,
        *,
        run_id: str,
        run_step: StepRunner,
        is_fatal: Callable[[ClaudeForceError], bool],
        sequential: bool = False,
        on_event: EventListener | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workflow = workflow
        self._run_id = run_id
        self._run_step = run_step
        self._is_fatal = is_fatal
        self._sequential = sequential
        self._on_event = on_event
        self._clock = clock
        self._steps = workflow.steps
        self._graph = StepGraph(workflow)
        self._state = GraphState(self._graph)
        # How steps ended, by id; what runs later reads it.
        self._results: dict[str, StepResult] = {}
        # A heap of positions in the definition: what can start, the first of the definition first.
        self._ready: list[int] = []
        # When each running step has started, in seconds of the run.
        self._running: dict[int, float] = {}
        self._lanes: set[asyncio.Task[None]] = set()
        # More lanes are on their way, and how many when that happens again.
        self._opening = False
        self._next_lanes = 1
        self._closing = False
        self._began = 0.0
        # Why nothing is started any more.
        self._stopped: str | None = None

    async def execute(self) -> WorkflowResult:
        """Run every step that can run, and return how each ended."""
        self._began = self._clock()
        if self._on_event is not None:
            names = tuple(step.step_id for step in self._steps)
            self._on_event(RunStarted(self._run_id, self._workflow.name, names))
        loop = asyncio.get_running_loop()
        # Ends with None when every step has ended, and with what is wrong when a step raises what is no step's failure.
        self._over: asyncio.Future[None] = loop.create_future()
        seconds = self._workflow.timeout_seconds
        self._release(self._state.first())
        if not self._ready:
            self._over.set_result(None)
        self._open_lanes()
        try:
            if seconds is None:
                await self._over
            else:
                await asyncio.wait((self._over,), timeout=seconds)
                if not self._over.done():
                    await self._time_is_over()
                await self._over
        finally:
            await self._close_lanes()
            if self._over.done() and not self._over.cancelled():
                # Looked at, so that a fault that nobody waits for is not logged as forgotten.
                self._over.exception()
        result = self._result()
        if self._on_event is not None:
            self._on_event(RunFinished(self._run_id, result.ok, result.total_time_seconds))
        return result

    def _release(self, positions: Iterable[int]) -> None:
        for position in positions:
            heapq.heappush(self._ready, position)

    def _open_lanes(self) -> None:
        """Open lanes for steps that wait for one: one first, since most end without waiting, then twice as many.

        So a wide layer has started within a few turns of the loop, and steps that the cache answers share a lane.
        """
        self._opening = False
        count = 1 if self._sequential else min(self._next_lanes, len(self._ready))
        self._next_lanes = 2 * count if count else 1
        for _ in range(count):
            lane = asyncio.create_task(self._run_lane())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)

    async def _run_lane(self) -> None:
        """Run one step after the other until none is ready."""
        try:
            steps_in_this_turn = 0
            while self._ready:
                if self._stopped is not None:
                    self._skip(heapq.heappop(self._ready), self._stopped)
                    continue
                await self._run_next()
                steps_in_this_turn += 1
                if steps_in_this_turn == _STEPS_IN_A_TURN:
                    steps_in_this_turn = 0
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            # A step may be cancelled from within; when the lane itself is, nobody waits for this any more.
            if not self._closing:
                self._over.cancel()
            raise
        except Exception as fault:  # noqa: BLE001 - whatever it is, it ends the run and is raised there
            if not self._over.done():
                self._over.set_exception(fault)
            return
        if not self._running and not self._over.done():
            self._over.set_result(None)

    async def _run_next(self) -> None:
        position = heapq.heappop(self._ready)
        if self._ready and not self._opening and not self._sequential:
            self._opening = True
            asyncio.get_running_loop().call_soon(self._open_lanes)
        step = self._steps[position]
        self._running[position] = self._clock() - self._began
        if self._on_event is not None:
            self._on_event(StepStarted(self._run_id, step.step_id, step.agent_name))
        outcome = await self._run_step(step, self._results)
        self._settle(position, outcome)

    def _settle(self, position: int, outcome: StepOutcome) -> None:
        """Record how a step ended, and what that means for those behind it."""
        step = self._steps[position]
        state, reason, error = _verdict(outcome, step.on_error)
        self._record(
            StepResult(
                step_id=step.step_id,
                agent_name=step.agent_name,
                state=state,
                result=outcome.answer,
                earlier=tuple(outcome.earlier),
                items=outcome.items,
                data=outcome.data,
                error=error,
                retried=tuple(outcome.retried),
                reason=reason,
                tolerated=state == "failed" and step.on_error == "continue",
                started_seconds=self._running.pop(position),
                ended_seconds=self._clock() - self._began,
            )
        )
        if state == "succeeded":
            self._release(self._state.succeed(position))
            return
        if error is not None and self._is_fatal(error):
            self._stopped = self._stopped or f"the run was stopped ({error.kind})"
        released = self._state.fail(position) if state == "failed" else self._state.skip(position)
        self._skip_behind(released.skipped)
        self._release(released.ready)

    def _skip(self, position: int, reason: str) -> None:
        """Skip a step that could have started, and those behind it."""
        self._record_skip(position, reason)
        released = self._state.skip(position)
        for skip in released.skipped:
            self._record_skip(skip.position, reason)
        self._release(released.ready)

    def _skip_behind(self, skips: Iterable[Skip]) -> None:
        for skip in skips:
            cause = self._results[self._steps[skip.cause].step_id]
            self._record_skip(skip.position, f"{cause.step_id} {_STATE_WORDS[cause.state]}")

    def _record_skip(self, position: int, reason: str) -> None:
        step = self._steps[position]
        self._record(
            StepResult(
                step_id=step.step_id, agent_name=step.agent_name, state="skipped", reason=reason
            )
        )

    def _record(self, step: StepResult) -> None:
        self._results[step.step_id] = step
        if self._on_event is not None:
            self._on_event(StepFinished(self._run_id, step))

    async def _time_is_over(self) -> None:
        """Fail what runs, and start nothing more."""
        seconds = self._workflow.timeout_seconds
        self._stopped = self._stopped or f"the workflow's {seconds:g} s were over"
        await self._close_lanes()
        for position in sorted(self._running):
            error = CallTimeoutError(
                f"The workflow's {seconds:g} s were over before this step had ended. Allow more time "
                "(timeout_seconds of the workflow), or resume the run.",
                attempts=0,
            )
            self._settle(position, StepOutcome(error=error))
        while self._ready:
            self._skip(heapq.heappop(self._ready), self._stopped)
        if not self._over.done():
            self._over.set_result(None)

    async def _close_lanes(self) -> None:
        self._closing = True
        lanes = tuple(self._lanes)
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)

    def _result(self) -> WorkflowResult:
        ordered = {step.step_id: self._results[step.step_id] for step in self._steps}
        return WorkflowResult(
            workflow_name=self._workflow.name,
            run_id=self._run_id,
            steps=ordered,
            execution_order=tuple(
                step.step_id
                for step in self._graph.in_order()
                if ordered[step.step_id].started_seconds is not None
            ),
            total_time_seconds=self._clock() - self._began,
            usage=total_usage(step.usage for step in ordered.values()),
            cost_usd=total_cost_usd(step.cost_usd for step in ordered.values()),
            final_steps=self._workflow.final_steps,
        )


_STATE_WORDS = {"failed": "failed", "skipped": "was skipped", "succeeded": "succeeded"}


def _verdict(
    outcome: StepOutcome, on_error: str
) -> tuple[str, str | None, ClaudeForceError | None]:
    """State, reason of a skip, and error of a step."""
    if outcome.skipped is not None:
        return "skipped", outcome.skipped, None
    if outcome.error is None:
        return "succeeded", None, None
    if on_error == "skip":
        return "skipped", f"it failed: {outcome.error}", outcome.error
    return "failed", None, outcome.error
