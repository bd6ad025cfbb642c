"""``run map --plan``: what a map would ask and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from claude_force.agents.cleaning import clean_text
from claude_force.cli.forecasts import (
    amount_json,
    figures,
    figures_json,
    how_long,
    print_forecast,
    saving_remarks,
    totals_json,
)
from claude_force.cli.render import dollars, print_json
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from decimal import Decimal

    from claude_force.workflows.plan_values import AgentPlan, BudgetFit, CallsPlan


def print_map_forecast(
    found: CallsPlan, *, agent_name: str, items: int, kept: int, as_json: bool
) -> None:
    """Print the forecast of a map.

    Args:
        found: the plan of what is to be done.
        agent_name: of the map.
        items: how many there are.
        kept: how many of them are done, as the file of the results says.
        as_json: one JSON object instead of a table.
    """
    if as_json:
        print_json({"agent": agent_name, "items": items, "kept": kept, **_plan_json(found)})
        return
    if found.agents:
        _print_table(found)
    for line in _remarks(found, kept):
        click.echo(line)


def _print_table(found: CallsPlan) -> None:
    """The model stands in a column only where there are several, so that the rest fits into 80 characters."""
    if len(_models(found)) > 1:
        both = ((agent.agent_name, agent.model or "", *figures(agent)) for agent in found.agents)
        print_forecast(("agent", "model"), both, found, left=2)
    else:
        rows = ((agent.agent_name, *figures(agent)) for agent in found.agents)
        print_forecast(("agent",), rows, found, left=1)


def _models(found: CallsPlan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(agent.model or "" for agent in found.agents))


def _remarks(found: CallsPlan, kept: int) -> list[str]:
    lines = []
    if found.all_cached:
        where = " or the cache" if found.cached_calls else ""
        holds = f"the results{where}" if kept else "the cache"
        lines.append(f"Nothing to pay: every answer is in {holds}.")
    elif found.batch:
        lines.append(
            f"By batch at half the price, asking {_asked(found)}: most end within an hour, all within a day."
        )
    else:
        lines.append(f"about {how_long(found.seconds)} (estimate), asking {_asked(found)}")
    if found.repeated_calls:
        lines.append(
            f"Asked already by another item, whose answer is taken: {found.repeated_calls:,}."
        )
    if found.calls_in_batches:
        lines.append(
            f"In a batch already, so not sent again, but among the figures: {found.calls_in_batches:,}."
        )
    lines += saving_remarks(found)
    if found.unpriced_models:
        lines.append(f"No price is known of: {', '.join(found.unpriced_models)}.")
    if not found.all_cached:
        lines += [_budget_remark(fit, batch=found.batch) for fit in found.budgets]
    return lines


def _asked(found: CallsPlan) -> str:
    models = _models(found)
    return clean_text(models[0]) if len(models) == 1 else f"{len(models)} models"


def _budget_remark(fit: BudgetFit, *, batch: bool) -> str:
    if fit.most_usd is None:
        verdict = "refuses calls of which no price is known."
    elif fit.covers_most:
        what = "a call" if fit.scope == "call" else "it"
        verdict = f"covers the most that {what} can cost."
    elif batch:
        verdict = f"does not hold the worst case, {dollars(fit.most_usd)}: no batch would be sent."
    else:
        verdict = _verdict_on_calls(fit, fit.most_usd)
    return f"{_budget(fit)} {verdict}"


def _verdict_on_calls(fit: BudgetFit, most_usd: Decimal) -> str:
    if fit.refused_calls:
        refused = counted(fit.refused_calls, "call")
        return f"refuses {refused} for the worst case of each alone: lower --max-tokens, or allow more."
    if fit.scope == "call":
        return f"may refuse a fallback: with it, a call can cost {dollars(most_usd)}."
    if fit.covers_expected:
        return "covers what is expected, and may stop it if it comes dearer."
    return "does not cover what is expected and the worst case of the last call: it may stop it before the end."


def _budget(fit: BudgetFit) -> str:
    limit = dollars(fit.limit_usd)
    if fit.scope == "day":
        return f"The budget of the day, of whose {limit} {dollars(fit.left_usd)} are left,"
    whose = {
        "run": "the run",
        "call": "a call",
        "agent": f"the agent {clean_text(fit.name)}",
    }[fit.scope]
    return f"The budget of {limit} for {whose}"


def _plan_json(found: CallsPlan) -> dict[str, Any]:
    return {
        "batch": found.batch,
        **totals_json(found),
        "repeated_calls": found.repeated_calls,
        "calls_in_batches": found.calls_in_batches,
        "estimated_seconds": round(found.seconds, 1),
        "agents": [_agent_json(agent) for agent in found.agents],
        "budgets": [_budget_json(fit) for fit in found.budgets],
    }


def _agent_json(agent: AgentPlan) -> dict[str, Any]:
    return {
        "agent": agent.agent_name,
        "model": agent.model,
        **figures_json(agent),
        "repeated_calls": agent.repeated_calls,
        "calls_in_batches": agent.calls_in_batches,
    }


def _budget_json(fit: BudgetFit) -> dict[str, Any]:
    return {
        "scope": fit.scope,
        "agent": fit.name or None,
        "limit_usd": amount_json(fit.limit_usd),
        "left_usd": amount_json(fit.left_usd),
        "refused_calls": fit.refused_calls,
        "covers_expected": fit.covers_expected,
        "covers_most": fit.covers_most,
    }
