"""Code as users write it: the type checker reads it in strict mode, and nothing runs it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import assert_type

from claude_force import (
    AgentCall,
    AgentOrchestrator,
    AgentOutcome,
    AgentResult,
    AsyncAgentOrchestrator,
    BudgetFit,
    CallFinished,
    CallsPlan,
    EventListener,
    MessageRequest,
    MessageResponse,
    ModelClient,
    TextDelta,
    Usage,
    WorkflowPlan,
    WorkflowResult,
    collect_files,
)


class Parrot:
    """A client of a user's own."""

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        return MessageResponse(
            message_id="m", model=request.model, text="hello", stop_reason="end_turn", usage=Usage()
        )

    async def aclose(self) -> None:
        return None


async def asynchronous() -> None:
    client: ModelClient = Parrot()
    async with AsyncAgentOrchestrator(client=client, max_concurrent=5) as force:
        assert_type(await force.execute_agent("a", "t", model="haiku", max_tokens=100), str)
        result = await force.run_agent("a", "t", effort="low", timeout_seconds=5)
        assert_type(result, AgentResult)
        assert_type(result.cost_usd, Decimal | None)
        files = collect_files(["src"], root=Path.cwd()).files
        async for outcome in force.run_many(
            [("a", "t"), AgentCall(agent_name="a", task="t", files=files)]
        ):
            assert_type(outcome, AgentOutcome)
        async for event in force.stream_agent("a", "t"):
            if isinstance(event, TextDelta):
                assert_type(event.text, str)
            elif isinstance(event, CallFinished):
                assert_type(event.result, AgentResult)
        assert_type(await force.execute_multiple([("a", "t")]), list[str])
        assert_type(await force.execute_workflow(["a", "b"], task="t"), WorkflowResult)
        plan = await force.plan_many(("a", f"t {n}") for n in range(3))
        assert_type(plan, CallsPlan)
        assert_type(plan.cost_usd.expected, Decimal | None)
        assert_type(plan.budgets, tuple[BudgetFit, ...])
        assert_type(await force.plan_workflow(["a", "b"]), WorkflowPlan)


def blocking() -> None:
    with AgentOrchestrator(api_key="k") as force:
        assert_type(force.execute_agent("a", "t"), str)
        assert_type(force.execute_workflow("review", "t").results, dict[str, str])
        assert_type(force.plan_many([("a", "t")], batch=True), CallsPlan)
        for outcome in force.run_many([("a", "t")]):
            assert_type(outcome, AgentOutcome)
