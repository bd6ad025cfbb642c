"""The group ``run``."""

from __future__ import annotations

from claude_force.cli.lazy import Entry, LazyGroup

run = LazyGroup(
    "run",
    {
        "agent": Entry("claude_force.cli.run_agent:agent", "Run one agent and stream its answer."),
        "workflow": Entry("claude_force.cli.run_workflow:workflow", "Run a graph of agents."),
        "map": Entry("claude_force.cli.run_map:run_map", "Run one agent over many inputs."),
    },
    summary="Run an agent, a workflow, or one agent over many inputs.",
)
