"""Requests of one run, built once, from the agents that the run was checked with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from claude_force.domain.errors import InputError
from claude_force.domain.messages import CallContext
from claude_force.provider.prompt_cache.prefixes import prefix_keys
from claude_force.workflows.steps import Asking, step_call
from claude_force.workflows.templates import is_template

if TYPE_CHECKING:
    from collections.abc import Hashable

    from claude_force.agents.calls import AgentCall
    from claude_force.agents.registry import AgentRegistry
    from claude_force.agents.request_memo import RequestMemo
    from claude_force.domain.agents import AgentDefinition
    from claude_force.domain.messages import MessageRequest
    from claude_force.domain.runs import CallPlace
    from claude_force.workflows.definition import Step, Workflow
    from claude_force.workflows.inputs import RunInputs


class PreparedCall(NamedTuple):
    """What a call comes to: the agent as it is in this run, and the request without its context."""

    definition: AgentDefinition
    request: MessageRequest


class PreparedCalls:
    """The agents of one run as they were when it began, and what its calls come to.

    An agent's file that changes while a run goes on changes nothing in that run.
    """

    def __init__(self, registry: AgentRegistry, memo: RequestMemo) -> None:
        self._registry = registry
        self._memo = memo
        self._definitions: dict[str, AgentDefinition] = {}
        # Of steps whose call is known before the run.
        self._checked: dict[str, tuple[AgentCall, PreparedCall]] = {}

    def check(self, workflow: Workflow, inputs: RunInputs) -> dict[str, tuple[Hashable, ...]]:
        """What each step's prompt is known to begin with, as far as it is known before the run.

        Raises:
            InputError: what is known of a step's call cannot be sent; nothing was.
        """
        _refuse_no_files(workflow, inputs)
        found: dict[str, tuple[Hashable, ...]] = {}
        for step in workflow.steps:
            known = _as_known(step, inputs)
            call = step_call(known, inputs, {}, Asking())
            prepared = self._prepare(call)
            found[step.step_id] = prefix_keys(prepared.request)
            if known is step and not step.dependencies:
                self._checked[step.step_id] = (call, prepared)
        return found

    def prepare(self, call: AgentCall, place: CallPlace) -> PreparedCall:
        """What ``call`` comes to.

        Raises:
            InputError: it cannot be sent.
        """
        checked = self._checked.get(place.step_id)
        if checked is not None and checked[0] == call:
            return checked[1]
        return self._prepare(call)

    def _prepare(self, call: AgentCall) -> PreparedCall:
        name = call.agent_name
        definition = self._definitions.get(name)
        if definition is None:
            definition = self._definitions[name] = self._registry.get(name)
        return PreparedCall(definition, self._memo.request(call, definition, CallContext()))


def _refuse_no_files(workflow: Workflow, inputs: RunInputs) -> None:
    """Whoever forgets the files would pay for what is made of nothing."""
    if inputs.files or any(step.when is not None for step in workflow.steps):
        return
    for step in workflow.steps:
        if step.for_each is not None and step.for_each.files:
            raise InputError(
                f"Step {step.step_id!r} makes a call for each file of the run, and the run has none. "
                "Name some: --file PATH, or files= from Python."
            )


def _as_known(step: Step, inputs: RunInputs) -> Step:
    """The step as far as it is known before the run."""
    known = step
    if step.task is not None and is_template(step.task):
        # What it comes to is not known yet; the rest can be checked all the same.
        known = replace(step, task=None if inputs.task else "a task")
    if step.for_each is not None and not (known.task or inputs.task):
        known = replace(known, task="a task")
    return known
