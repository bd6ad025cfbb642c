"""What many calls would ask and cost: each is looked up in the response cache, and what is not there is counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from claude_force.assembly.budget_fits import budget_fits
from claude_force.assembly.planning import prices_of
from claude_force.assembly.rehearsal import Rehearsal
from claude_force.cache.fingerprint import request_key
from claude_force.config.settings import BudgetSettings
from claude_force.workflows.outlook import Missing
from claude_force.workflows.plan_calls import Group, Noted, call_costs, plan_of_calls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from claude_force.agents.calls import AgentCall
    from claude_force.assembly.rehearsal import Looked
    from claude_force.assembly.runtime import Runtime
    from claude_force.workflows.calls import Question
    from claude_force.workflows.plan_values import CallsPlan

_CALLS_A_TURN: Final = 16


async def plan_many(
    runtime: Runtime, calls: Iterable[AgentCall], *, batch: bool, at: datetime
) -> CallsPlan:
    """What ``calls`` would ask and cost at that time. Sends nothing, and needs no key.

    The calls are read one after the other, and no text of theirs is kept.
    """
    opened = runtime.open_answers()
    try:
        survey = _Survey(runtime, Rehearsal(runtime, opened), batch=batch)
        await survey.prepare()
        for number, call in enumerate(calls):
            await survey.take(call)
            if number % _CALLS_A_TURN == 0:
                # Building requests and reading their files take a while: others have their turn in between.
                await asyncio.sleep(0)
    finally:
        if opened is not None:
            await opened[0].aclose()
    return await _planned(runtime, survey.noted, batch=batch, at=at)


async def _planned(
    runtime: Runtime, noted: Mapping[Group, Noted], *, batch: bool, at: datetime
) -> CallsPlan:
    outlooks = {str(number): seen.outlook() for number, seen in enumerate(noted.values())}
    prices = await prices_of(runtime, outlooks, at=at, marked=not batch)

    def add_up() -> CallsPlan:
        plan = plan_of_calls(noted, prices, max_concurrent=runtime.max_concurrent, batch=batch)
        if runtime.budgets == BudgetSettings():
            return plan
        costs = call_costs(noted, prices, batch=batch)
        return replace(plan, budgets=tuple(budget_fits(runtime, plan, costs, at=at)))

    return await asyncio.to_thread(add_up)


class _Survey:
    """Which calls are answered already, and what the others are."""

    def __init__(self, runtime: Runtime, rehearsal: Rehearsal, *, batch: bool) -> None:
        self._runtime = runtime
        self._origin = runtime.origin
        self._rehearsal = rehearsal
        self._batch = batch
        self._seen: set[bytes] = set()
        self._in_batches: frozenset[str] = frozenset()
        self.noted: dict[Group, Noted] = {}

    async def prepare(self) -> None:
        """Read what is in batches already."""
        if self._batch:
            from claude_force.assembly.batching_runs import held_keys  # noqa: PLC0415 - few need it

            self._in_batches = await asyncio.to_thread(held_keys, self._runtime)

    async def take(self, call: AgentCall) -> None:
        """Look at one call.

        Raises:
            InputError: it could not be sent.
        """
        looked = await self._rehearsal.look(call)
        if self._batch:
            from claude_force.assembly.batching import check_batchable  # noqa: PLC0415 - few need it

            check_batchable(call, looked.request)
        group = Group(call.agent_name, looked.request.model, call.rounds_after())
        noted = self.noted.setdefault(group, Noted())
        if looked.result is not None:
            noted.held += 1
            return
        key = request_key(looked.request, self._origin)
        if self._shares_answer(call):
            digest = bytes.fromhex(key)
            if digest in self._seen:
                noted.repeated += 1
                return
            self._seen.add(digest)
        noted.in_batches += key in self._in_batches
        noted.missing.append(Missing(question=self._question(looked)))

    def _shares_answer(self, call: AgentCall) -> bool:
        """Whether an equal call before it would have answered it: within batches always, else by the response cache."""
        return self._batch or (call.cache.read and self._rehearsal.takes_part(call))

    def _question(self, looked: Looked) -> Question:
        # Fallbacks do not apply within a batch.
        one = looked._replace(models=looked.models[:1]) if self._batch else looked
        return one.question()
