"""The section ``budgets`` of claude.json: what calls, runs, agents and days may cost."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from claude_force.config.fields import shown
from claude_force.config.settings import BudgetSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_AMOUNTS: Final = ("per_call_usd", "per_run_usd", "per_day_usd")
_BY_AGENT: Final = "per_agent_usd"
KEYS: Final = (*_AMOUNTS, _BY_AGENT)


def dollars(value: object) -> Decimal | None:
    """An amount of 0 or more, exactly as it is written (a number or text); None where it is no such amount."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


def budget_problems(section: object) -> Iterator[tuple[str, str]]:
    """Place and message of everything in the section that is no budget."""
    if not isinstance(section, dict):
        yield "budgets", f"expected an object, found {shown(section)}"
        return
    by_agent = section.get(_BY_AGENT, {})
    if not isinstance(by_agent, dict):
        yield f"budgets.{_BY_AGENT}", f"expected dollars by agent name, found {shown(by_agent)}"
        by_agent = {}
    amounts = {
        f"budgets.{name}": section[name] for name in _AMOUNTS if section.get(name) is not None
    }
    amounts |= {f"budgets.{_BY_AGENT}.{name}": value for name, value in by_agent.items()}
    for place, value in amounts.items():
        if dollars(value) is None:
            yield place, f"expected dollars, 0 or more, found {shown(value)}"


def read_budgets(section: Mapping[str, object]) -> BudgetSettings:
    """The settings of a section without problems."""
    by_agent = section.get(_BY_AGENT) or {}
    assert isinstance(by_agent, dict)  # noqa: S101 - `budget_problems` has looked
    found = {name: dollars(value) for name, value in by_agent.items()}
    amounts = {name: dollars(section[name]) for name in _AMOUNTS if section.get(name) is not None}
    return BudgetSettings(
        **amounts,
        per_agent_usd={name: amount for name, amount in found.items() if amount is not None},
    )
