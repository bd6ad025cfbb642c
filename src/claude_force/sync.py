"""The blocking face of the asynchronous API."""

from __future__ import annotations

import asyncio
import threading
import weakref
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self, TypeVar

from anyio.from_thread import start_blocking_portal

from claude_force.domain.errors import ClosedError
from claude_force.domain.messages import USE_CACHE
from claude_force.orchestrator import AsyncAgentOrchestrator

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Callable,
        Coroutine,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from contextlib import AbstractContextManager
    from decimal import Decimal
    from pathlib import Path
    from typing import Unpack

    from anyio.from_thread import BlockingPortal

    from claude_force.agents.attachments import Attachment
    from claude_force.agents.calls import CallOptions
    from claude_force.agents.registry import AgentRegistry
    from claude_force.config.settings import Settings
    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import CacheUse
    from claude_force.domain.results import AgentOutcome, AgentResult, WorkflowResult
    from claude_force.orchestrator import CallLike
    from claude_force.provider.client import ModelClient
    from claude_force.workflows.definition import Workflow
    from claude_force.workflows.plan import WorkflowPlan

T = TypeVar("T")


class AgentOrchestrator:
    """Runs agents and workflows; the blocking API.

    The same methods as `AsyncAgentOrchestrator`, which does the work on an event loop in one thread of its own. So it
    may be called from a plain script, from several threads, and inside a running event loop (a notebook); its
    ``…_async`` methods may be awaited from any event loop, also from several one after the other. Blocking methods
    called on an event loop hold that loop up, as any blocking call does.

    The arguments are those of `AsyncAgentOrchestrator`. Use it as a context manager or call `close`; at the latest
    the end of the process stops the thread. Listeners are called in that thread.
    """

    def __init__(
        self,
        config_path: str | Path | None = None,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        max_concurrent: int | None = None,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        enable_cache: bool | None = None,
        cache_ttl_hours: float | None = None,
        cache_dir: str | Path | None = None,
        cache_secret: str | None = None,
        cache_origin: str | None = None,
        cache_redis_url: str | None = None,
        prompt_cache: bool | None = None,
        budget_usd: Decimal | float | str | None = None,
        state_dir: str | Path | None = None,
        agents_dir: str | Path | None = None,
        client: ModelClient | None = None,
        listeners: Sequence[EventListener] = (),
    ) -> None:
        self._force = AsyncAgentOrchestrator(
            config_path,
            api_key,
            base_url=base_url,
            max_concurrent=max_concurrent,
            timeout_seconds=timeout_seconds,
            max_retries=max_retries,
            enable_cache=enable_cache,
            cache_ttl_hours=cache_ttl_hours,
            cache_dir=cache_dir,
            cache_secret=cache_secret,
            cache_origin=cache_origin,
            cache_redis_url=cache_redis_url,
            prompt_cache=prompt_cache,
            budget_usd=budget_usd,
            state_dir=state_dir,
            agents_dir=agents_dir,
            client=client,
            listeners=listeners,
        )
        # Protects the start and the end of the portal against callers in several threads.
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._portal_context: AbstractContextManager[BlockingPortal] | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and stop the thread; a second call does nothing."""
        with self._lock:
            self._closed = True
            portal, self._portal = self._portal, None
            context, self._portal_context = self._portal_context, None
        if portal is not None and context is not None:
            try:
                portal.call(self._force.aclose)
            finally:
                context.__exit__(None, None, None)

    @property
    def config(self) -> Settings:
        """What ``claude.json`` says; read when it is first needed."""
        return self._force.settings

    @property
    def settings(self) -> Settings:
        """The same as ``config``."""
        return self._force.settings

    @property
    def registry(self) -> AgentRegistry:
        """The agents that can be run, by name."""
        return self._force.registry

    @property
    def max_concurrent(self) -> int:
        """Requests under way at the same time."""
        return self._force.max_concurrent

    @property
    def max_retries(self) -> int:
        """Requests of one call beyond the first."""
        return self._force.max_retries

    @property
    def timeout_seconds(self) -> float:
        """Deadline of a call that names none; may be set at any time."""
        return self._force.timeout_seconds

    @timeout_seconds.setter
    def timeout_seconds(self, value: float) -> None:
        self._force.timeout_seconds = value

    def stop(self) -> None:
        """Send nothing more in the runs that go on; see `AsyncAgentOrchestrator.stop`."""
        self._force.stop()

    def execute_agent(
        self,
        agent_name: str,
        task: str,
        model: str | None = None,
        max_tokens: int = 4096,
        temperature: float | None = None,
        **options: Unpack[CallOptions],
    ) -> str:
        """The text of one agent's complete answer; see `AsyncAgentOrchestrator.execute_agent`."""
        return self._wait(
            lambda: self._force.execute_agent(
                agent_name, task, model, max_tokens, temperature, **options
            )
        )

    def run_agent(
        self,
        agent_name: str,
        task: str,
        model: str | None = None,
        max_tokens: int = 4096,
        temperature: float | None = None,
        **options: Unpack[CallOptions],
    ) -> AgentResult:
        """One agent's complete answer; see `AsyncAgentOrchestrator.run_agent`."""
        return self._wait(
            lambda: self._force.run_agent(
                agent_name, task, model, max_tokens, temperature, **options
            )
        )

    def run_many(self, calls: Iterable[CallLike]) -> Iterator[AgentOutcome]:
        """Outcomes of many calls as they end; see `AsyncAgentOrchestrator.run_many`.

        ``calls`` is read in the thread of the event loop.
        """
        return self._taken(self._force.run_many(calls))

    def run_batch(
        self,
        calls: Iterable[CallLike],
        *,
        wait: bool = True,
        on_look: Callable[[int], None] | None = None,
    ) -> Iterator[AgentOutcome]:
        """Outcomes of many calls by way of message batches; see `AsyncAgentOrchestrator.run_batch`."""
        return self._taken(self._force.run_batch(calls, wait=wait, on_look=on_look))

    def _taken(self, outcomes: AsyncGenerator[AgentOutcome, None]) -> Iterator[AgentOutcome]:
        try:
            while True:
                try:
                    yield self._wait(lambda: anext(outcomes))
                except StopAsyncIteration:
                    return
        finally:
            self._wait(outcomes.aclose)

    def execute_multiple(self, calls: Iterable[CallLike]) -> list[str]:
        """Texts of many agents' answers in order; see `AsyncAgentOrchestrator.execute_multiple`."""
        return self._wait(lambda: self._force.execute_multiple(calls))

    def execute_workflow(
        self,
        workflow: str | Workflow | Mapping[str, object] | Sequence[str],
        task: str = "",
        *,
        files: tuple[Attachment, ...] = (),
        sequential: bool = False,
        cache: CacheUse = USE_CACHE,
        on_event: EventListener | None = None,
    ) -> WorkflowResult:
        """Run a graph of agents; see `AsyncAgentOrchestrator.execute_workflow`."""
        return self._wait(
            lambda: self._force.execute_workflow(
                workflow,
                task,
                files=files,
                sequential=sequential,
                cache=cache,
                on_event=on_event,
            )
        )

    def plan_workflow(
        self,
        workflow: str | Workflow | Mapping[str, object] | Sequence[str],
        task: str = "",
        *,
        files: tuple[Attachment, ...] = (),
        cache: CacheUse = USE_CACHE,
    ) -> WorkflowPlan:
        """What a run would ask and cost; see `AsyncAgentOrchestrator.plan_workflow`."""
        return self._wait(
            lambda: self._force.plan_workflow(workflow, task, files=files, cache=cache)
        )

    def load_workflow(
        self, workflow: str | Workflow | Mapping[str, object] | Sequence[str]
    ) -> Workflow:
        """The checked workflow; see `AsyncAgentOrchestrator.load_workflow`."""
        return self._force.load_workflow(workflow)

    async def execute_agent_async(
        self,
        agent_name: str,
        task: str,
        model: str | None = None,
        max_tokens: int = 4096,
        temperature: float | None = None,
        **options: Unpack[CallOptions],
    ) -> str:
        """`execute_agent` to be awaited, from any event loop."""
        return await self._await(
            lambda: self._force.execute_agent(
                agent_name, task, model, max_tokens, temperature, **options
            )
        )

    async def execute_multiple_async(self, calls: Iterable[CallLike]) -> list[str]:
        """`execute_multiple` to be awaited, from any event loop."""
        return await self._await(lambda: self._force.execute_multiple(calls))

    async def execute_workflow_async(
        self,
        workflow: str | Workflow | Mapping[str, object] | Sequence[str],
        task: str = "",
        *,
        files: tuple[Attachment, ...] = (),
        sequential: bool = False,
        cache: CacheUse = USE_CACHE,
        on_event: EventListener | None = None,
    ) -> WorkflowResult:
        """`execute_workflow` to be awaited, from any event loop."""
        return await self._await(
            lambda: self._force.execute_workflow(
                workflow,
                task,
                files=files,
                sequential=sequential,
                cache=cache,
                on_event=on_event,
            )
        )

    def _wait(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        result: T = self._running_portal().call(start)
        return result

    async def _await(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        future = self._running_portal().start_task_soon(start)
        return await asyncio.wrap_future(future)

    def _running_portal(self) -> BlockingPortal:
        with self._lock:
            if self._closed:
                raise ClosedError("This orchestrator is closed; make a new one.")
            if self._portal is None:
                self._portal_context = start_blocking_portal(name="claude-force")
                self._portal = self._portal_context.__enter__()
                _at_exit(partial(_close, weakref.ref(self)))
            return self._portal


def _at_exit(close: Callable[[], None]) -> None:
    """Have ``close`` called at the end of the process, while threads still run.

    Otherwise the end of the interpreter waits for ever for the portal's thread, which does not run any more by then.
    `atexit` comes too late: `concurrent.futures` has stopped lending threads, which closing may need. It makes its own
    arrangements in the way that is used here, and what is registered last is called first.
    """
    import_module("concurrent.futures.thread")
    threading._register_atexit(close)  # type: ignore[attr-defined] # noqa: SLF001 - see above; in all Pythons since 3.9


def _close(reference: weakref.ref[AgentOrchestrator]) -> None:
    # Weak, so that an orchestrator that is dropped goes, and its thread with it.
    force = reference()
    if force is not None:
        force.close()
