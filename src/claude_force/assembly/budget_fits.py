"""What the budgets have to say of a plan."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from claude_force.workflows.plan_values import BudgetFit
from claude_force.workflows.spans import NO_DOLLARS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from claude_force.assembly.runtime import Runtime
    from claude_force.workflows.plan_values import BudgetScope, CallsPlan
    from claude_force.workflows.spans import DollarSpan


def budget_fits(
    runtime: Runtime, plan: CallsPlan, *, dearest: DollarSpan, at: datetime
) -> Iterator[BudgetFit]:
    """Every budget that the calls of ``plan`` count against. Waits for the disk, or Redis, for that of the day.

    Args:
        runtime: whose budgets.
        plan: what the calls cost together.
        dearest: what the dearest of them costs.
        at: the time of the run.

    Raises:
        StorageError: nobody can tell what is left of the day.
    """
    budgets, cost = runtime.budgets, plan.cost_usd
    if budgets.per_call_usd is not None:
        yield _fit("call", budgets.per_call_usd, dearest)
    if budgets.per_run_usd is not None:
        yield _fit("run", budgets.per_run_usd, cost)
    for name in dict.fromkeys(agent.agent_name for agent in plan.agents):
        if name in budgets.per_agent_usd:
            parts = (agent.cost_usd for agent in plan.agents if agent.agent_name == name)
            yield _fit("agent", budgets.per_agent_usd[name], sum(parts, NO_DOLLARS), name=name)
    if budgets.per_day_usd is not None:
        yield _fit("day", budgets.per_day_usd, cost, used_usd=_used_today(runtime, at))


def _fit(
    scope: BudgetScope,
    limit_usd: Decimal,
    cost: DollarSpan,
    *,
    name: str = "",
    used_usd: Decimal = Decimal(0),
) -> BudgetFit:
    return BudgetFit(
        scope=scope,
        name=name,
        limit_usd=limit_usd,
        left_usd=max(limit_usd - used_usd, Decimal(0)),
        expected_usd=cost.expected,
        most_usd=cost.most,
    )


def _used_today(runtime: Runtime, at: datetime) -> Decimal:
    """What is spent, and what calls under way have reserved."""
    from claude_force.assembly.meeting import open_day_accounts  # noqa: PLC0415 - few need it

    accounts = open_day_accounts(runtime.state_folder, runtime.limits_redis_url)
    try:
        account = accounts.account(at)
    finally:
        accounts.close()
    return account.spent_usd + account.reserved_usd
