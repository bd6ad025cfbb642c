"""What a plan says: of a run of a workflow step by step, of many calls agent by agent."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from claude_force.workflows.spans import NO_DOLLARS, NOTHING, DollarSpan, Span, total

if TYPE_CHECKING:
    from collections.abc import Sequence

PlanState = Literal["cached", "partly cached", "to ask", "later", "skipped", "fails"]
BudgetScope = Literal["call", "run", "agent", "day"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCalls:
    """What calls of one agent would ask and cost."""

    agent_name: str
    # The model that is asked first; None where nothing is asked.
    model: str | None
    # Calls to be paid.
    calls: Span
    # Calls that the cache answers.
    cached_calls: int
    input_tokens: Span
    output_tokens: Span
    cost_usd: DollarSpan
    # An estimate, for the expected number of tokens.
    seconds: float
    # They go out in batches, at half the price.
    batch: bool = False
    # What the prompt cache is expected to save, already off `cost_usd.expected`. None where the price is not known.
    prompt_cache_saving_usd: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan(PlannedCalls):
    """What one step would ask and cost."""

    step_id: str
    dependencies: tuple[str, ...]
    # "later" waits for an answer that is not there yet.
    state: PlanState
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPlan(PlannedCalls):
    """What the calls of one agent to one model would ask and cost, among many."""

    # Calls that ask exactly what another one of them asks, and get its answer.
    repeated_calls: int = 0
    # Of `calls`: those whose requests are in a batch already, from an earlier run. They are paid, but not sent again.
    calls_in_batches: int = 0


class Forecast:
    """The sums of what a plan consists of."""

    __slots__ = ()

    @property
    def parts(self) -> Sequence[PlannedCalls]:
        """Its steps, or its agents."""
        raise NotImplementedError

    @property
    def calls(self) -> Span:
        """Calls to be paid."""
        return total(part.calls for part in self.parts)

    @property
    def cached_calls(self) -> int:
        """Calls that the cache answers."""
        return sum(part.cached_calls for part in self.parts)

    @property
    def input_tokens(self) -> Span:
        """Of all calls to be paid."""
        return total(part.input_tokens for part in self.parts)

    @property
    def output_tokens(self) -> Span:
        """Of all calls to be paid."""
        return total(part.output_tokens for part in self.parts)

    @property
    def cost_usd(self) -> DollarSpan:
        """Dollars of the whole run."""
        return sum((part.cost_usd for part in self.parts), NO_DOLLARS)

    @property
    def prompt_cache_saving_usd(self) -> Decimal | None:
        """Dollars that the prompt cache is expected to save; None where a price is not known."""
        savings = [part.prompt_cache_saving_usd for part in self.parts]
        known = [saving for saving in savings if saving is not None]
        return sum(known, Decimal(0)) if len(known) == len(savings) else None

    @property
    def all_cached(self) -> bool:
        """Nothing would be asked."""
        return self.calls == NOTHING

    @property
    def unpriced_models(self) -> tuple[str, ...]:
        """Models that would be asked and whose price is not known."""
        return tuple(
            dict.fromkeys(
                part.model for part in self.parts if part.model and part.cost_usd.expected is None
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowPlan(Forecast):
    """What a run of a workflow would ask and cost."""

    workflow_name: str
    # In the order of the definition.
    steps: tuple[StepPlan, ...]
    # Ids of the steps that decide how long it takes, in order; empty where nothing is asked.
    critical_path: tuple[str, ...]

    @property
    def parts(self) -> tuple[StepPlan, ...]:
        """The steps."""
        return self.steps

    @property
    def seconds(self) -> float:
        """An estimate of how long the critical path takes."""
        on_path = set(self.critical_path)
        return sum(step.seconds for step in self.steps if step.step_id in on_path)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetFit:
    """What a budget allows of a plan. Nothing is reserved: other runs may use what is left."""

    scope: BudgetScope
    # Of an agent: its name.
    name: str = ""
    limit_usd: Decimal
    # Of a day: what is left of it now; of others the limit, since they begin anew with a run.
    left_usd: Decimal
    # Of what counts against it: of a call the dearest one, else the sum. None where a price is not known.
    expected_usd: Decimal | None
    most_usd: Decimal | None
    # What has to be left beyond what is expected: the worst case is reserved before anything is sent, of a call for
    # itself, of batches for all of them.
    headroom_usd: Decimal | None
    # Calls whose own worst case does not fit, so that they are refused.
    refused_calls: int = 0

    @property
    def covers_expected(self) -> bool:
        """Whether all calls are sent if they cost what is expected."""
        return (
            not self.refused_calls
            and self.expected_usd is not None
            and self.headroom_usd is not None
            and self.expected_usd + self.headroom_usd <= self.left_usd
        )

    @property
    def covers_most(self) -> bool:
        """Whether the worst case fits, so that the budget stops nothing."""
        return self.most_usd is not None and self.most_usd <= self.left_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsPlan(Forecast):
    """What many calls would ask and cost."""

    # In the order in which they come first; one for each agent and each model that it is asked with.
    agents: tuple[AgentPlan, ...]
    # An estimate of how long all of it takes.
    seconds: float
    # They go out in batches, at half the price.
    batch: bool = False
    # Every budget that the calls count against.
    budgets: tuple[BudgetFit, ...] = ()

    @property
    def parts(self) -> tuple[AgentPlan, ...]:
        """The agents."""
        return self.agents

    @property
    def repeated_calls(self) -> int:
        """Calls that ask exactly what another one of them asks, and get its answer."""
        return sum(agent.repeated_calls for agent in self.agents)

    @property
    def calls_in_batches(self) -> int:
        """Calls whose requests are in a batch already: paid, but not sent again."""
        return sum(agent.calls_in_batches for agent in self.agents)
