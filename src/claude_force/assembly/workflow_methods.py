"""The part of the asynchronous API that is about workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.domain.errors import ClaudeForceError
from claude_force.domain.messages import USE_CACHE
from claude_force.workflows.options import (
    ResumeOptions,
    WorkflowOptions,
    refuse_unknown,
)

if TYPE_CHECKING:
    from typing import Unpack

    from claude_force.agents.registry import AgentRegistry
    from claude_force.assembly.caller import Caller
    from claude_force.assembly.runtime import Runtime
    from claude_force.domain.results import WorkflowResult
    from claude_force.workflows.definition import Workflow
    from claude_force.workflows.library import WorkflowLibrary
    from claude_force.workflows.options import WorkflowLike
    from claude_force.workflows.run_store import RunStore


class WorkflowMethods:
    """What an orchestrator does with graphs of agents."""

    _runtime: Runtime
    _caller: Caller

    @property
    def registry(self) -> AgentRegistry:
        """The agents that can be run, by name."""
        return self._runtime.registry

    async def execute_workflow(
        self, workflow: WorkflowLike, task: str = "", **options: Unpack[WorkflowOptions]
    ) -> WorkflowResult:
        """Run a graph of agents; a step starts the moment the last step it depends on ends.

        Args:
            workflow: a name, the path of a YAML or JSON file, or a definition: a list of agent names, a mapping with
                ``steps``, or a `Workflow`.
            task: what all steps work on, beside the task of their own.
            **options: see `WorkflowOptions`.

        Returns:
            How every step ended. Steps that failed and those behind them are in there too: ask ``result.ok``.

        Raises:
            WorkflowDefinitionError: it cannot run as it is written; nothing was sent.
            InputError: the task or a file cannot be used; nothing was sent.
            MissingCredentialsError: there is no key; nothing was sent.
            JournalError: the run cannot be kept; nothing was sent.
        """
        from claude_force.assembly.workflow_runs import WorkflowRuns  # noqa: PLC0415 - one call needs none
        from claude_force.workflows.inputs import RunInputs  # noqa: PLC0415 - as above

        refuse_unknown(options, WorkflowOptions)
        patterns = options.get("file_patterns")
        return await WorkflowRuns(self._runtime, self._caller).start(
            self.load_workflow(workflow)
            .within(options.get("timeout_seconds"))
            .settled(
                batch=options.get("batch"), continue_truncated=options.get("continue_truncated")
            ),
            RunInputs(
                task=task,
                files=options.get("files", ()),
                cache=options.get("cache", USE_CACHE),
                use_memory=options.get("use_memory"),
                root=self._runtime.project_folder,
            ),
            by_name=isinstance(workflow, str),
            patterns=None if patterns is None else (tuple(patterns[0]), str(patterns[1])),
            journal=options.get("journal"),
            sequential=options.get("sequential", False),
            on_event=options.get("on_event"),
        )

    async def resume_workflow(
        self, run_id: str, **options: Unpack[ResumeOptions]
    ) -> WorkflowResult:
        """Go on with a run: ask what is missing, failed or changed, and nothing else.

        The workflow is the one that its name means now; one that had no name is taken as it was kept.

        Args:
            run_id: of the run, the beginning of one, or ``last``.
            **options: see `ResumeOptions`.

        Returns:
            How every step ended; what was known already is marked as cached in the tier ``journal``.

        Raises:
            InputError: there is no such run, or it cannot run any more; nothing was sent.
            JournalError: another process works on it, or it cannot be kept; nothing was sent.
        """
        from claude_force.assembly.workflow_runs import WorkflowRuns  # noqa: PLC0415 - one call needs none

        refuse_unknown(options, ResumeOptions)
        return await WorkflowRuns(self._runtime, self._caller).resume(
            run_id,
            load=self.load_workflow,
            files=options.get("files"),
            cache=options.get("cache", USE_CACHE),
            use_memory=options.get("use_memory"),
            batch=options.get("batch"),
            continue_truncated=options.get("continue_truncated"),
            sequential=options.get("sequential", False),
            on_event=options.get("on_event"),
        )

    def run_store(self) -> RunStore:
        """The runs of workflows that are on record. Its methods wait for the disk."""
        from claude_force.workflows.run_store import RunStore  # noqa: PLC0415 - one call needs none

        return RunStore(self._runtime.state_folder)

    def load_workflow(self, workflow: WorkflowLike) -> Workflow:
        """The checked workflow of that name, of that file (a path), or of that definition.

        Raises:
            WorkflowDefinitionError: with every problem of it.
        """
        return self._runtime.library.load(workflow, self._agent_problem)

    def workflow_library(self) -> WorkflowLibrary:
        """The workflows that can be run by name, and where each is written."""
        return self._runtime.library

    def _agent_problem(self, name: str) -> str | None:
        try:
            self.registry.get(name)
        except ClaudeForceError as error:
            return str(error)
        return None
