"""What many calls would ask and cost: a workflow of one fan-out for each agent, none of which waits for another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from claude_force.workflows.calls import Calls
from claude_force.workflows.definition import Step, Workflow
from claude_force.workflows.outlook import Missing, Outlook
from claude_force.workflows.plan import BATCH_SHARE, make_plan
from claude_force.workflows.plan_values import AgentPlan, CallsPlan
from claude_force.workflows.spans import Span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.workflows.calls import Prices
    from claude_force.workflows.plan_values import StepPlan


class Group(NamedTuple):
    """What calls have in common that are planned together."""

    agent_name: str
    model: str
    # How often an answer that was cut off is continued.
    rounds: int = 0


class CallCost(NamedTuple):
    """What one call may cost; None where a price is not known."""

    expected_usd: Decimal | None
    most_usd: Decimal | None
    # Without fallbacks: what is reserved before it is sent.
    reserved_usd: Decimal | None


@dataclass(slots=True)
class Noted:
    """What was seen of the calls of one group."""

    held: int = 0
    # Equal to another call, whose answer they get.
    repeated: int = 0
    # Of what is missing: in a batch already.
    in_batches: int = 0
    missing: list[Missing] = field(default_factory=list)

    def outlook(self) -> Outlook:
        """As of a step."""
        return Outlook(cached_calls=self.held, missing=tuple(self.missing))


def plan_of_calls(
    noted: Mapping[Group, Noted], prices: Prices, *, max_concurrent: int, batch: bool
) -> CallsPlan:
    """The plan, without its budgets.

    Args:
        noted: what was seen of every group.
        prices: of every model that may be asked, at the date of the run.
        max_concurrent: requests at the same time.
        batch: the calls go out in batches.
    """
    steps = {
        str(number): Step(
            step_id=str(number),
            agent_name=group.agent_name,
            model=group.model,
            batch=batch,
            continue_truncated=group.rounds,
        )
        for number, group in enumerate(noted)
    }
    outlooks = {str(number): seen.outlook() for number, seen in enumerate(noted.values())}
    plan = make_plan(
        Workflow(name="", steps=tuple(steps.values())),
        outlooks,
        prices,
        max_concurrent=max_concurrent,
    )
    seconds = [step.seconds for step in plan.steps]
    return CallsPlan(
        agents=tuple(map(_agent_plan, noted, noted.values(), plan.steps)),
        # Live calls share the same places; all batches are worked on at once.
        seconds=max(seconds, default=0.0) if batch else sum(seconds),
        batch=batch,
    )


def call_costs(
    noted: Mapping[Group, Noted], prices: Prices, *, batch: bool
) -> dict[str, list[CallCost]]:
    """What each call may cost alone, by agent; what the prompt cache saves is not off it."""
    share = BATCH_SHARE if batch else Decimal(1)
    found: dict[str, list[CallCost]] = {}
    for group, seen in noted.items():
        costs = found.setdefault(group.agent_name, [])
        for missing in seen.missing:
            question = missing.question
            cost = prices.cost_usd(Calls(Span.exactly(1), question)).scaled(share)
            first = cost
            if len(question.models) > 1:
                alone = replace(question, models=question.models[:1])
                first = prices.cost_usd(Calls(Span.exactly(1), alone)).scaled(share)
            costs.append(CallCost(cost.expected, cost.most, first.most))
    return found


def _agent_plan(group: Group, noted: Noted, plan: StepPlan) -> AgentPlan:
    return AgentPlan(
        agent_name=group.agent_name,
        model=group.model,
        calls=plan.calls,
        cached_calls=plan.cached_calls,
        input_tokens=plan.input_tokens,
        output_tokens=plan.output_tokens,
        cost_usd=plan.cost_usd,
        seconds=plan.seconds,
        batch=plan.batch,
        prompt_cache_saving_usd=plan.prompt_cache_saving_usd,
        repeated_calls=noted.repeated,
        calls_in_batches=noted.in_batches,
    )
