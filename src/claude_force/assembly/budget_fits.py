"""What the budgets have to say of a plan."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from claude_force.workflows.plan_values import BudgetFit
from claude_force.workflows.spans import NO_DOLLARS, DollarSpan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from claude_force.assembly.runtime import Runtime
    from claude_force.workflows.plan_calls import CallCost
    from claude_force.workflows.plan_values import BudgetScope, CallsPlan


def budget_fits(
    runtime: Runtime, plan: CallsPlan, costs: Mapping[str, Sequence[CallCost]], *, at: datetime
) -> Iterator[BudgetFit]:
    """Every budget that the calls of ``plan`` count against. Waits for the disk, or Redis, for that of the day.

    Args:
        runtime: whose budgets.
        plan: what the calls cost together.
        costs: of each call, by agent.
        at: the time of the run.

    Raises:
        StorageError: nobody can tell what is left of the day.
    """
    budgets, batch, cost = runtime.budgets, plan.batch, plan.cost_usd
    each = [one for of_agent in costs.values() for one in of_agent]
    if budgets.per_call_usd is not None:
        limit = budgets.per_call_usd
        yield _fit("call", limit, limit, _dearest(each), each, batch=batch)
    if budgets.per_run_usd is not None:
        limit = budgets.per_run_usd
        yield _fit("run", limit, limit, cost, each, batch=batch)
    for name, own in costs.items():
        if name in budgets.per_agent_usd:
            limit = budgets.per_agent_usd[name]
            parts = (agent.cost_usd for agent in plan.agents if agent.agent_name == name)
            yield _fit("agent", limit, limit, sum(parts, NO_DOLLARS), own, batch=batch, name=name)
    if budgets.per_day_usd is not None:
        limit = budgets.per_day_usd
        left = max(limit - _used_today(runtime, at), Decimal(0))
        yield _fit("day", limit, left, cost, each, batch=batch)


def _fit(
    scope: BudgetScope,
    limit_usd: Decimal,
    left_usd: Decimal,
    cost: DollarSpan,
    calls: Sequence[CallCost],
    *,
    batch: bool,
    name: str = "",
) -> BudgetFit:
    reserved = [one.reserved_usd for one in calls]
    return BudgetFit(
        scope=scope,
        name=name,
        limit_usd=limit_usd,
        left_usd=left_usd,
        expected_usd=cost.expected,
        most_usd=cost.most,
        headroom_usd=_headroom(cost, calls, batch=batch),
        refused_calls=sum(amount is None or amount > left_usd for amount in reserved),
    )


def _headroom(cost: DollarSpan, calls: Sequence[CallCost], *, batch: bool) -> Decimal | None:
    """Of batches all that the worst case is beyond what is expected; else that of one call, at the end."""
    if batch:
        return _less(cost.most, cost.expected)
    beyond = [_less(one.reserved_usd, one.expected_usd) for one in calls]
    known = [amount for amount in beyond if amount is not None]
    return max(known, default=Decimal(0)) if len(known) == len(beyond) else None


def _dearest(calls: Sequence[CallCost]) -> DollarSpan:
    """Of the call whose worst case is the dearest."""
    dearest = max(calls, key=lambda one: (one.most_usd is None, one.most_usd or 0), default=None)
    if dearest is None:
        return NO_DOLLARS
    return DollarSpan(None, dearest.expected_usd, dearest.most_usd)


def _less(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else one - other


def _used_today(runtime: Runtime, at: datetime) -> Decimal:
    """What is spent, and what calls under way have reserved."""
    from claude_force.assembly.meeting import open_day_accounts  # noqa: PLC0415 - few need it

    accounts = open_day_accounts(runtime.state_folder, runtime.limits_redis_url)
    try:
        account = accounts.account(at)
    finally:
        accounts.close()
    return account.spent_usd + account.reserved_usd
