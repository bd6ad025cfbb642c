"""Finds workflows by name among those that claude.json has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from claude_force.domain.errors import WorkflowDefinitionError
from claude_force.workflows.definition import Workflow, check_workflow, parse_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# What a definition that is given in place of a name is called.
UNNAMED = "workflow"


def load_workflow(
    workflow: str | Workflow | Mapping[str, object] | Sequence[str],
    known: Mapping[str, object],
    agent_problem: Callable[[str], str | None],
) -> Workflow:
    """The checked workflow.

    Args:
        workflow: a name, a definition, or a workflow that is already parsed.
        known: definitions by name.
        agent_problem: says what is wrong with an agent's name, or None.

    Raises:
        WorkflowDefinitionError: no workflow is called that, or it cannot run.
    """
    if isinstance(workflow, Workflow):
        check_workflow(workflow, agent_problem=agent_problem)
        return workflow
    if isinstance(workflow, str):
        if workflow not in known:
            raise WorkflowDefinitionError(_unknown(workflow, known))
        return parse_workflow(workflow, known[workflow], agent_problem=agent_problem)
    if isinstance(workflow, Mapping):
        name = str(workflow.get("name", UNNAMED))
        return parse_workflow(name, dict(workflow), agent_problem=agent_problem)
    return parse_workflow(UNNAMED, list(workflow), agent_problem=agent_problem)


def _unknown(name: str, known: Mapping[str, object]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    if not known:
        return f"Workflow {name!r} not found: claude.json has no workflows. `claude-force init` writes two."
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Workflow {name!r} not found.{hint} There are: {', '.join(sorted(known))}."
