"""Runs a graph: a step starts the moment its last dependency ends."""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import TYPE_CHECKING

from claude_force.domain.errors import CallTimeoutError, ClaudeForceError
from claude_force.domain.events import RunFinished, RunStarted, StepFinished, StepStarted
from claude_force.domain.results import StepResult, WorkflowResult, total_cost_usd
from claude_force.domain.usage import NO_USAGE
from claude_force.workflows.graph import GraphState, topological
from claude_force.workflows.step_run import StepOutcome, StepRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from claude_force.domain.events import EventListener
    from claude_force.workflows.definition import Workflow
    from claude_force.workflows.graph import Skip
    from claude_force.workflows.inputs import RunInputs
    from claude_force.workflows.step_run import CallMaker


class WorkflowRun:
    """One run of one workflow; ``execute`` once.

    A step that fails takes the steps behind it with it, unless its ``on_error`` says otherwise; branches beside it run
    to their end. When ``is_fatal`` says that an error stops the run (a spend cap), no further step is started. After
    the workflow's ``timeout_seconds`` nothing is started either, and what runs is cancelled.

    Args:
        workflow: what runs.
        run_id: ties events and journal entries together.
        inputs: what it works on.
        make_call: makes one call; its `ClaudeForceError` makes the step a failed one, anything else ends the run.
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
        inputs: RunInputs,
        make_call: CallMaker,
        is_fatal: Callable[[ClaudeForceError], bool],
        sequential: bool = False,
        on_event: EventListener | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workflow = workflow
        self._run_id = run_id
        self._is_fatal = is_fatal
        self._sequential = sequential
        self._on_event = on_event
        self._clock = clock
        self._steps = workflow.steps
        self._state = GraphState(workflow)
        self._step_run = StepRun(
            run_id=run_id,
            inputs=inputs,
            make_call=make_call,
            is_fatal=is_fatal,
            sequential=sequential,
            on_event=on_event,
        )
        # How steps ended, by id; what runs later reads it.
        self._results: dict[str, StepResult] = {}
        # A heap of positions in the definition: what can start, the first of the definition first.
        self._ready: list[int] = []
        self._running: dict[int, asyncio.Task[None]] = {}
        # When each running step has started, in seconds of the run.
        self._started: dict[int, float] = {}
        # Positions of steps whose task has ended, with what came out; None is the workflow's deadline.
        self._ended: asyncio.Queue[tuple[int, StepOutcome | BaseException] | None] = asyncio.Queue()
        self._began = 0.0
        # Why nothing is started any more.
        self._stopped: str | None = None

    async def execute(self) -> WorkflowResult:
        """Run every step that can run, and return how each ended."""
        self._began = self._clock()
        if self._on_event is not None:
            names = tuple(step.step_id for step in self._steps)
            self._on_event(RunStarted(self._run_id, self._workflow.name, names))
        self._release(self._state.first())
        alarm = self._set_alarm()
        try:
            while self._ready or self._running:
                self._start_ready()
                await self._take_ended()
        finally:
            if alarm is not None:
                alarm.cancel()
            await self._cancel()
        result = self._result()
        if self._on_event is not None:
            self._on_event(RunFinished(self._run_id, result.ok, result.total_time_seconds))
        return result

    def _set_alarm(self) -> asyncio.TimerHandle | None:
        seconds = self._workflow.timeout_seconds
        if seconds is None:
            return None
        return asyncio.get_running_loop().call_later(seconds, self._ended.put_nowait, None)

    def _release(self, positions: Iterable[int]) -> None:
        for position in positions:
            heapq.heappush(self._ready, position)

    def _start_ready(self) -> None:
        if self._stopped is not None:
            while self._ready:
                self._skip(heapq.heappop(self._ready), self._stopped)
            return
        count = len(self._ready)
        if self._sequential:
            count = 0 if self._running else 1
        for _ in range(count):
            position = heapq.heappop(self._ready)
            self._started[position] = self._clock() - self._began
            if self._on_event is not None:
                step = self._steps[position]
                self._on_event(StepStarted(self._run_id, step.step_id, step.agent_name))
            self._running[position] = asyncio.create_task(self._run(position))

    async def _run(self, position: int) -> None:
        # Not `asyncio.wait` in the loop above: it looks at every running step each time one ends.
        try:
            outcome = await self._step_run.run(self._steps[position], self._results)
        except BaseException as fault:
            self._ended.put_nowait((position, fault))
            if isinstance(fault, asyncio.CancelledError):
                raise
        else:
            self._ended.put_nowait((position, outcome))

    async def _take_ended(self) -> None:
        """Settle what has ended by now, one step at least, in the order of the definition."""
        if not self._running:
            return
        batch = [await self._ended.get()]
        while not self._ended.empty():
            batch.append(self._ended.get_nowait())
        ended = [entry for entry in batch if entry is not None]
        if len(ended) > 1:
            ended.sort(key=lambda entry: entry[0])
        for position, outcome in ended:
            del self._running[position]
            if isinstance(outcome, BaseException):
                raise outcome
            self._settle(position, outcome)
        if len(ended) < len(batch):
            await self._time_is_over()

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
                started_seconds=self._started[position],
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
        over = sorted(self._running)
        await self._cancel()
        for position in over:
            error = CallTimeoutError(
                f"The workflow's {seconds:g} s were over before this step had ended. Allow more time "
                "(timeout_seconds of the workflow), or resume the run.",
                attempts=0,
            )
            self._settle(position, StepOutcome(error=error))

    async def _cancel(self) -> None:
        running = tuple(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._running.clear()
        while not self._ended.empty():
            self._ended.get_nowait()

    def _result(self) -> WorkflowResult:
        ordered = {step.step_id: self._results[step.step_id] for step in self._steps}
        return WorkflowResult(
            workflow_name=self._workflow.name,
            run_id=self._run_id,
            steps=ordered,
            execution_order=tuple(
                step_id
                for step_id in topological(self._workflow)
                if ordered[step_id].started_seconds is not None
            ),
            total_time_seconds=self._clock() - self._began,
            usage=sum((step.usage for step in ordered.values()), NO_USAGE),
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
