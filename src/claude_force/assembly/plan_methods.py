"""The part of the asynchronous API that says what something will cost, and sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.agents.calls import AgentCall
from claude_force.assembly.workflow_methods import WorkflowMethods
from claude_force.domain.messages import USE_CACHE
from claude_force.workflows.options import PlanOptions, refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Unpack

    from claude_force.workflows.options import WorkflowLike
    from claude_force.workflows.plan_values import CallsPlan, WorkflowPlan


class PlanMethods(WorkflowMethods):
    """What an orchestrator forecasts."""

    async def plan_workflow(
        self, workflow: WorkflowLike, task: str = "", **options: Unpack[PlanOptions]
    ) -> WorkflowPlan:
        """What a run would ask and cost: calls, tokens, dollars, time, and what the response cache already holds.

        Nothing is sent and no key is needed. The arguments are those of `execute_workflow`.

        Raises:
            WorkflowDefinitionError: it cannot run as it is written.
            InputError: the task or a file cannot be used.
        """
        from datetime import UTC, datetime  # noqa: PLC0415 - one call needs none

        from claude_force.assembly.planning import plan_workflow  # noqa: PLC0415 - as above
        from claude_force.assembly.workflow_runs import WorkflowRuns  # noqa: PLC0415 - as above
        from claude_force.workflows.inputs import RunInputs  # noqa: PLC0415 - as above

        refuse_unknown(options, PlanOptions)
        accepted = self.load_workflow(workflow).settled(
            batch=options.get("batch"), continue_truncated=options.get("continue_truncated")
        )
        inputs = RunInputs(
            task=task,
            files=options.get("files", ()),
            cache=options.get("cache", USE_CACHE),
            use_memory=options.get("use_memory"),
            root=self._runtime.project_folder,
        )
        WorkflowRuns(self._runtime, self._caller).check(accepted, inputs)
        return await plan_workflow(self._runtime, accepted, inputs, at=datetime.now(UTC))

    async def plan_many(
        self, calls: Iterable[AgentCall | tuple[str, str]], *, batch: bool = False
    ) -> CallsPlan:
        """What many calls would ask and cost: calls, tokens, dollars, time, and what the response cache already holds.

        Nothing is sent and no key is needed. ``calls`` may be any iterable; it is read to its end, one call at a time,
        and only the size of each is kept. An answer that the semantic cache would find is not foreseen.

        Args:
            calls: those of `run_many`, or of `run_batch`.
            batch: they are for `run_batch`, at half the price.

        Raises:
            InputError: a call cannot be sent as it is.
            StorageError: there is a budget of the day, and nobody can tell what is left of it.
        """
        from datetime import UTC, datetime  # noqa: PLC0415 - one call needs none

        from claude_force.assembly.planning_many import plan_many  # noqa: PLC0415 - as above

        accepted = (
            one if isinstance(one, AgentCall) else AgentCall(agent_name=one[0], task=one[1])
            for one in calls
        )
        return await plan_many(self._runtime, accepted, batch=batch, at=datetime.now(UTC))
