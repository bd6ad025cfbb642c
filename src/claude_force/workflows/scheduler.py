"""Runs a graph: a step starts the moment its last dependency ends."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from claude_force.domain.errors import ClaudeForceError
from claude_force.domain.events import RunFinished, RunStarted, StepFinished, StepStarted
from claude_force.domain.results import AgentResult, StepResult, WorkflowResult, total_cost_usd
from claude_force.domain.usage import NO_USAGE
from claude_force.workflows.graph import GraphState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from claude_force.domain.events import EventListener
    from claude_force.workflows.definition import Step, Workflow

# Runs one step, given the answers of the steps it depends on by their ids.
StepRunner: TypeAlias = Callable[["Step", Mapping[str, AgentResult]], Awaitable[AgentResult]]


class WorkflowRun:
    """One run of one workflow; ``execute`` once.

    A step that fails takes the steps behind it with it; branches beside it run to their end. When ``is_fatal`` says
    that an error stops the run (a spend cap), no further step is started.

    Args:
        workflow: what runs.
        run_id: ties events and journal entries together.
        run_step: runs one step; its `ClaudeForceError` makes the step a failed one, anything else ends the run.
        is_fatal: whether an error makes every further call pointless.
        sequential: one step at a time, in the order of the definition as far as the dependencies allow.
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
        self._steps = {step.step_id: step for step in workflow.steps}
        self._names = list(self._steps)
        self._position = {step_id: number for number, step_id in enumerate(self._names)}
        self._state = GraphState.of(workflow)
        self._answers: dict[str, AgentResult] = {}
        self._results: dict[str, StepResult] = {}
        # A heap of positions in the definition: what can start, the first of the definition first.
        self._ready: list[int] = []
        self._fatal: ClaudeForceError | None = None

    async def execute(self) -> WorkflowResult:
        """Run every step that can run, and return how each ended."""
        began = self._clock()
        self._tell(RunStarted(self._run_id, self._workflow.name, tuple(self._steps)))
        self._release(self._state.first())
        running: set[asyncio.Task[StepResult]] = set()
        # Not `asyncio.wait`: it looks at every running step each time one ends.
        ended: asyncio.Queue[asyncio.Task[StepResult]] = asyncio.Queue()
        try:
            while self._ready or running:
                for step_id in self._admit(running):
                    task = asyncio.create_task(self._run(step_id, began))
                    task.add_done_callback(ended.put_nowait)
                    running.add(task)
                batch = await _take_all(ended)
                running.difference_update(batch)
                for step in sorted((task.result() for task in batch), key=self._order):
                    self._settle(step)
        finally:
            await _cancel(running)
        result = self._result(self._clock() - began)
        self._tell(RunFinished(self._run_id, result.ok, result.total_time_seconds))
        return result

    def _release(self, step_ids: Iterable[str]) -> None:
        for step_id in step_ids:
            heapq.heappush(self._ready, self._position[step_id])

    def _admit(self, running: Collection[object]) -> list[str]:
        """Take the steps that start now out of the ready ones."""
        count = len(self._ready)
        if self._sequential:
            count = 0 if running else 1
        return [self._names[heapq.heappop(self._ready)] for _ in range(count)]

    async def _run(self, step_id: str, began: float) -> StepResult:
        step = self._steps[step_id]
        started = self._clock() - began
        self._tell(StepStarted(self._run_id, step_id, step.agent_name))
        upstream = {dependency: self._answers[dependency] for dependency in step.dependencies}
        result, error = None, None
        try:
            result = await self._run_step(step, upstream)
        except ClaudeForceError as failure:
            error = failure
        return StepResult(
            step_id=step_id,
            agent_name=step.agent_name,
            state="failed" if result is None else "succeeded",
            result=result,
            error=error,
            started_seconds=started,
            ended_seconds=self._clock() - began,
        )

    def _settle(self, step: StepResult) -> None:
        step_id = step.step_id
        self._record(step)
        if step.result is not None:
            self._answers[step_id] = step.result
            self._release(self._state.succeed(step_id))
        else:
            for lost in self._state.fail(step_id):
                self._skip(lost, f"{step_id} failed")
            if step.error is not None and self._is_fatal(step.error):
                self._fatal = step.error
        if self._fatal is not None:
            self._stop()

    def _stop(self) -> None:
        """Start nothing more: what is ready, and all behind it, is skipped."""
        reason = f"the run was stopped ({self._fatal.kind if self._fatal else ''})"
        while self._ready:
            step_id = self._names[heapq.heappop(self._ready)]
            self._skip(step_id, reason)
            for lost in self._state.fail(step_id):
                self._skip(lost, reason)

    def _skip(self, step_id: str, reason: str) -> None:
        agent_name = self._steps[step_id].agent_name
        self._record(
            StepResult(step_id=step_id, agent_name=agent_name, state="skipped", reason=reason)
        )

    def _record(self, step: StepResult) -> None:
        self._results[step.step_id] = step
        self._tell(StepFinished(self._run_id, step))

    def _result(self, seconds: float) -> WorkflowResult:
        ordered = {step_id: self._results[step_id] for step_id in self._steps}
        answers = [step.result for step in ordered.values() if step.result is not None]
        return WorkflowResult(
            workflow_name=self._workflow.name,
            run_id=self._run_id,
            steps=ordered,
            execution_order=tuple(
                step_id
                for step_id in self._topological_order()
                if ordered[step_id].state != "skipped"
            ),
            total_time_seconds=seconds,
            usage=sum((answer.usage for answer in answers), NO_USAGE),
            cost_usd=total_cost_usd(step.cost_usd for step in ordered.values()),
            final_steps=self._workflow.final_steps,
        )

    def _topological_order(self) -> list[str]:
        """An order that depends on the definition alone, not on how long anything took."""
        state = GraphState.of(self._workflow)
        position = self._position
        order: list[str] = []
        front = [position[step_id] for step_id in state.first()]
        while front:
            step_id = self._names[heapq.heappop(front)]
            order.append(step_id)
            for released in state.succeed(step_id):
                heapq.heappush(front, position[released])
        return order

    def _order(self, step: StepResult) -> int:
        return self._position[step.step_id]

    def _tell(self, event: RunStarted | StepStarted | StepFinished | RunFinished) -> None:
        if self._on_event is not None:
            self._on_event(event)


async def _take_all(
    ended: asyncio.Queue[asyncio.Task[StepResult]],
) -> list[asyncio.Task[StepResult]]:
    """What has ended by now, one task at least."""
    batch = [await ended.get()]
    while not ended.empty():
        batch.append(ended.get_nowait())
    return batch


async def _cancel(tasks: set[asyncio.Task[StepResult]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
