"""What came of filling the response cache ahead of time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from claude_force.domain.results import total_cost_usd

if TYPE_CHECKING:
    from claude_force.domain.results import AgentOutcome

_NOTHING: Final = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmReport:
    """How many answers are in the cache now, and what that took."""

    # Calls that were given, and those among them that ask what another one asks.
    items: int
    repeated: int = 0
    # Answers that were there already, and answers that were paid for and kept.
    present: int = 0
    fetched: int = 0
    # Answers that were paid for and not kept, since another model of the fallback chain gave them.
    unkept: int = 0
    # In batches that have not ended.
    waiting: int = 0
    # Calls that ended without an answer.
    failures: tuple[AgentOutcome, ...] = ()
    # Dollars for all of it; None where a price is unknown.
    cost_usd: Decimal | None = _NOTHING

    @property
    def ended(self) -> int:
        """Calls that came to an end."""
        return self.present + self.fetched + self.unkept + len(self.failures)

    @property
    def ok(self) -> bool:
        """Whether everything that was asked is in the cache."""
        return self.present + self.fetched + self.repeated == self.items

    def with_outcome(self, outcome: AgentOutcome) -> WarmReport:
        """The report with one more call in it."""
        cost = total_cost_usd((self.cost_usd, outcome.cost_usd))
        result = outcome.result
        if result is None:
            return replace(self, failures=(*self.failures, outcome), cost_usd=cost)
        if result.cached is not None:
            return replace(self, present=self.present + 1, cost_usd=cost)
        if result.fallback_from is not None:
            return replace(self, unkept=self.unkept + 1, cost_usd=cost)
        return replace(self, fetched=self.fetched + 1, cost_usd=cost)
