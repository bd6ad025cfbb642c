"""Runs of workflows: from a definition and its inputs to the calls of its steps."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from claude_force.assembly.call_journal import CallJournal
from claude_force.assembly.caller import new_id, stops_run
from claude_force.assembly.prepared_calls import PreparedCalls
from claude_force.assembly.run_calls import RunCalls
from claude_force.domain.errors import (
    ClaudeForceError,
    JournalError,
    RunStoppedError,
)
from claude_force.workflows.companions import seats_of
from claude_force.workflows.inputs import RunInputs
from claude_force.workflows.scheduler import WorkflowRun
from claude_force.workflows.step_run import StepRun

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from claude_force.agents.attachments import Attachment
    from claude_force.assembly.batching_runs import RunBatches
    from claude_force.assembly.caller import Caller
    from claude_force.assembly.runtime import Runtime
    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.messages import CacheUse
    from claude_force.domain.results import WorkflowResult
    from claude_force.workflows.definition import Workflow
    from claude_force.workflows.journal import EndState, RunJournal
    from claude_force.workflows.run_stop import RunStop


_CANCELLED: Final = "the run was cancelled (claude-force runs cancel)"


class WorkflowRuns:
    """The runs of one orchestrator's workflows."""

    def __init__(self, runtime: Runtime, caller: Caller) -> None:
        self._runtime = runtime
        self._caller = caller

    def check(self, workflow: Workflow, inputs: RunInputs) -> None:
        """Pass if every step's call can be sent, as far as it is known before the run.

        Raises:
            InputError: one cannot; nothing was sent.
        """
        self._prepared().check(workflow, inputs)

    def _prepared(self) -> PreparedCalls:
        return PreparedCalls(self._runtime.registry, self._caller.requests)

    async def start(
        self,
        workflow: Workflow,
        inputs: RunInputs,
        *,
        by_name: bool,
        patterns: tuple[tuple[str, ...], str] | None,
        journal: bool | None,
        sequential: bool,
        on_event: EventListener | None,
    ) -> WorkflowResult:
        """Begin a run; see `AsyncAgentOrchestrator.execute_workflow`."""
        from claude_force.workflows.journal import RunJournal  # noqa: PLC0415 - a plan needs none
        from claude_force.workflows.journal_tables import RunHeader  # noqa: PLC0415 - as above

        header = RunHeader(
            run_id=new_id(),
            workflow=workflow,
            by_name=by_name,
            task=inputs.task,
            files=inputs.files,
            patterns=patterns,
        )
        folder = self._runtime.state_folder
        wanted = self._runtime.shares_state if journal is None else journal
        return await self.execute(
            workflow,
            inputs,
            run_id=header.run_id,
            sequential=sequential,
            on_event=on_event,
            open_journal=(lambda: RunJournal.start(folder, header, now=time.time()))
            if wanted
            else None,
        )

    async def resume(
        self,
        run_id: str,
        *,
        load: Callable[[str | Workflow], Workflow],
        files: tuple[Attachment, ...] | None,
        cache: CacheUse,
        use_memory: bool | None,
        batch: bool | None,
        continue_truncated: int | None,
        sequential: bool,
        on_event: EventListener | None,
    ) -> WorkflowResult:
        """Go on with a run; see `AsyncAgentOrchestrator.resume_workflow`."""
        from claude_force.workflows.journal import RunJournal  # noqa: PLC0415 - a plan needs none
        from claude_force.workflows.run_store import RunStore  # noqa: PLC0415 - as above

        folder = self._runtime.state_folder
        store = RunStore(folder)
        found = await asyncio.to_thread(lambda: store.header(store.find(run_id)))
        workflow = load(found.workflow)
        # What has gone meanwhile is taken as it was kept.
        if found.by_name and found.workflow.name in self._runtime.library.places():
            workflow = load(found.workflow.name)
        # How the calls went out before is how they go on, or what is in a batch would be asked once more.
        kept = found.workflow
        workflow = workflow.settled(
            batch=kept.batch if batch is None else batch,
            continue_truncated=kept.continue_truncated
            if continue_truncated is None
            else continue_truncated,
        )
        header = replace(found, workflow=workflow, files=found.files if files is None else files)
        return await self.execute(
            workflow,
            RunInputs(
                task=header.task,
                files=header.files,
                cache=cache,
                use_memory=use_memory,
                root=self._runtime.project_folder,
            ),
            run_id=header.run_id,
            sequential=sequential,
            on_event=on_event,
            open_journal=lambda: RunJournal.resume(folder, header),
            resumed=True,
        )

    async def execute(
        self,
        workflow: Workflow,
        inputs: RunInputs,
        *,
        run_id: str,
        sequential: bool,
        on_event: EventListener | None,
        open_journal: Callable[[], RunJournal] | None = None,
        resumed: bool = False,
    ) -> WorkflowResult:
        """Run a workflow that was checked; its journal is opened once nothing keeps it from running."""
        self._runtime.client()
        prepared = self._prepared()
        beginnings = prepared.check(workflow, inputs)
        batches = await self._open_batches(workflow, resumed=resumed)
        stop = self._caller.new_run()
        journal = None
        try:
            if open_journal is not None:
                journal = await asyncio.to_thread(open_journal)
                journal.watch(lambda: stop.stop(RunStoppedError(_CANCELLED, attempts=0)))
            return await self._execute(
                workflow,
                inputs,
                run_id=run_id,
                sequential=sequential,
                on_event=on_event,
                stop=stop,
                prepared=prepared,
                beginnings=beginnings,
                journal=journal,
                batches=batches,
            )
        finally:
            if batches is not None:
                await batches.aclose()
            if journal is not None:
                await asyncio.shield(asyncio.to_thread(journal.close))

    async def _open_batches(self, workflow: Workflow, *, resumed: bool) -> RunBatches | None:
        """What answers calls by batch; for a resumed run also where nothing asks for it, but something is in one."""
        wanted = any(step.batch for step in workflow.steps)
        if not wanted and not (resumed and self._runtime.asks_api):
            return None
        from claude_force.assembly.batching_runs import (  # noqa: PLC0415 - few runs need them
            RunBatches,
            held_keys,
        )

        held = await asyncio.to_thread(held_keys, self._runtime) if resumed else frozenset()
        return RunBatches(self._runtime, held=held) if wanted or held else None

    async def _execute(
        self,
        workflow: Workflow,
        inputs: RunInputs,
        *,
        run_id: str,
        sequential: bool,
        on_event: EventListener | None,
        stop: RunStop,
        prepared: PreparedCalls,
        beginnings: dict[str, tuple[Hashable, ...]],
        journal: RunJournal | None,
        batches: RunBatches | None,
    ) -> WorkflowResult:
        calls = RunCalls(
            self._caller,
            workflow,
            run_id=run_id,
            stop=stop,
            seats=seats_of(workflow, beginnings, sequential=sequential),
            sequential=sequential,
            on_event=on_event,
            prepared=prepared,
            journal=None if journal is None else CallJournal(journal, self._runtime.origin),
            batches=batches,
        )
        listener = self._caller.listener(on_event)

        def tell(event: Event) -> None:
            calls.take(event)
            if journal is not None:
                journal.take(event)
            if listener is not None:
                listener(event)

        result = await WorkflowRun(
            workflow,
            run_id=run_id,
            run_step=StepRun(
                run_id=run_id,
                inputs=inputs,
                make_call=calls.make,
                is_fatal=_ends_run,
                sequential=sequential,
                on_event=tell,
            ),
            is_fatal=_ends_run,
            sequential=sequential,
            on_event=tell,
        ).execute()
        if batches is not None and (journal is None or not journal.broken):
            await batches.settle(() if journal is None else journal.answered_keys)
        if journal is not None:
            with suppress(JournalError):
                # A journal that cannot be written has said so in the steps already.
                await journal.finish(
                    _end_state(result), seconds=result.total_time_seconds, now=time.time()
                )
        return result


def _ends_run(error: ClaudeForceError) -> bool:
    return isinstance(error, JournalError) or stops_run(error)


def _end_state(result: WorkflowResult) -> EndState:
    if result.ok:
        return "succeeded"
    stopped = any(isinstance(step.error, RunStoppedError) for step in result.steps.values())
    return "stopped" if stopped else "failed"
