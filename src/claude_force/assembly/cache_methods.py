"""The part of the asynchronous API that is about the response cache: filling it ahead, and keeping a run's answers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from claude_force.agents.calls import AgentCall
from claude_force.domain.errors import ConfigError, InputError
from claude_force.domain.messages import USE_CACHE, CallContext
from claude_force.domain.warming import WarmReport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from claude_force.assembly.caller import Caller
    from claude_force.assembly.runtime import Runtime
    from claude_force.cache.disk_pins import PinnedRun
    from claude_force.cache.pins import PinReport, Pins
    from claude_force.domain.results import AgentOutcome


class CacheMethods:
    """What an orchestrator does with its response cache, beside asking it."""

    _runtime: Runtime
    _caller: Caller

    async def warm_cache(
        self,
        calls: Iterable[AgentCall | tuple[str, str]],
        *,
        batch: bool = False,
        wait: bool = True,
        on_look: Callable[[int], None] | None = None,
        on_outcome: Callable[[AgentOutcome], object] | None = None,
    ) -> WarmReport:
        """Ask what the response cache does not hold yet, so that the same calls are hits later.

        Calls that ask the same count once. Budgets hold as for `run_many`.

        Args:
            calls: what will be asked; all of it is read before anything is sent.
            batch: ask by message batches, at half the price.
            wait: of a batch, as for `run_batch`.
            on_look: of a batch, as for `run_batch`.
            on_outcome: told of every call that ends.

        Raises:
            ConfigError: the cache is off.
            InputError: a call cannot be sent as it is, or its answers are never kept; nothing was sent.
            BudgetExceededError, CallError: as `run_batch`, of a batch.
        """
        opened = self._runtime.open_answers()
        if opened is None:
            raise ConfigError(
                "The response cache is off, so it cannot be filled; see `cache.enabled`."
            )
        opened[0].close()
        wanted, repeated = _distinct(self._runtime, calls)
        report = WarmReport(items=len(wanted) + repeated, repeated=repeated)
        async with aclosing(
            self._asked(wanted, batch=batch, wait=wait, on_look=on_look)
        ) as outcomes:
            async for outcome in outcomes:
                report = report.with_outcome(outcome)
                if on_outcome is not None:
                    on_outcome(outcome)
        return replace(report, waiting=len(wanted) - report.ended if batch else 0)

    def _asked(
        self,
        calls: list[AgentCall],
        *,
        batch: bool,
        wait: bool,
        on_look: Callable[[int], None] | None,
    ) -> AsyncGenerator[AgentOutcome, None]:
        if batch:
            from claude_force.assembly.batching import BatchedCalls  # noqa: PLC0415 - few need it

            return BatchedCalls(self._runtime, self._caller, on_look=on_look).run(calls, wait=wait)
        from claude_force.assembly.many_calls import run_many  # noqa: PLC0415 - few need it

        return run_many(self._runtime, self._caller, iter(calls), timeout_seconds=None)

    async def pin_run(self, run_id: str) -> PinReport:
        """Keep the answers of a run of a workflow in the cache: past their lifetime, and when others make room.

        Args:
            run_id: of the journal: an id, the beginning of one, or ``last``.

        Returns:
            How many answers stay, and how many the cache does not hold.

        Raises:
            InputError: no such run, none of its answers is there, or they do not fit into ``cache.max_pinned_share``;
                nothing is pinned then.
            ConfigError: the response cache is off.
            JournalError: the journal cannot be read.
            StorageError: the cache's file cannot be used.
        """
        return await asyncio.to_thread(self._pin, run_id)

    async def unpin_run(self, run_id: str) -> int:
        """Let go of the answers of a run, which then live as long as others; how many those are.

        Raises:
            InputError: no run that begins so is pinned, or several are.
            ConfigError, StorageError: as `pin_run`.
        """
        return await asyncio.to_thread(self._unpin, run_id)

    async def pinned_runs(self) -> tuple[PinnedRun, ...]:
        """Every run whose answers are kept, the one pinned last first.

        Raises:
            ConfigError, StorageError: as `pin_run`.
        """
        return await asyncio.to_thread(self._pinned)

    def _pin(self, name: str) -> PinReport:
        from claude_force.workflows.run_store import RunStore  # noqa: PLC0415 - few calls need it

        runs = RunStore(self._runtime.state_folder)
        run_id = runs.find(name)
        with self._pins() as pins:
            return pin_answers(pins, runs.answer_keys(run_id), run_id)

    def _unpin(self, name: str) -> int:
        with self._pins() as pins:
            return pins.unpin(pinned_run_id(pins, name))

    def _pinned(self) -> tuple[PinnedRun, ...]:
        with self._pins() as pins:
            return pins.runs()

    @contextmanager
    def _pins(self) -> Iterator[Pins]:
        opened = self._runtime.open_answers()
        if opened is None or opened[0].pins is None:
            raise ConfigError(
                "The response cache is off, so there is nothing to pin; see `cache.enabled`."
            )
        store = opened[0]
        try:
            yield opened[0].pins
        finally:
            store.close()


def pin_answers(pins: Pins, keys: Iterable[str], run_id: str) -> PinReport:
    """Pin what the cache holds of a run.

    Raises:
        InputError: nothing of it is there, or it does not fit.
    """
    from claude_force.cache.fingerprint import CacheKey  # noqa: PLC0415 - few calls need it

    report = pins.pin(run_id, map(CacheKey, keys))
    if not report.pinned:
        raise InputError(
            f"None of the {report.missing} answers of run {run_id!r} is in the cache: they were never kept, or have made "
            "room. Nothing was pinned."
        )
    return report


def pinned_run_id(pins: Pins, name: str) -> str:
    """The pinned run that begins so.

    Raises:
        InputError: there is none, or there are several.
    """
    ids = [run.run_id for run in pins.runs()]
    found = [run_id for run_id in ids if run_id.startswith(name)]
    if name in found or len(found) == 1:
        return name if name in found else found[0]
    what = "Several pinned runs begin" if found else "No pinned run begins"
    raise InputError(f"{what} with {name!r}; see `claude-force cache pins`.")


def _distinct(
    runtime: Runtime, calls: Iterable[AgentCall | tuple[str, str]]
) -> tuple[list[AgentCall], int]:
    """Calls that ask different things, and how many were left out."""
    from claude_force.cache.fingerprint import request_key  # noqa: PLC0415 - few calls need it

    by_key: dict[str, AgentCall] = {}
    excluded = frozenset(runtime.settings.cache.exclude_agents)
    count = 0
    for given in calls:
        count += 1
        call = (
            given if isinstance(given, AgentCall) else AgentCall(agent_name=given[0], task=given[1])
        )
        if call.agent_name in excluded:
            raise InputError(
                f"Answers of the agent {call.agent_name!r} are never kept (cache.exclude_agents), so asking it ahead "
                "would be for nothing. Nothing was sent."
            )
        kept = call if call.cache.write else replace(call, cache=USE_CACHE)
        by_key.setdefault(request_key(kept.to_request(runtime.registry, CallContext()), ""), kept)
    return list(by_key.values()), count - len(by_key)
