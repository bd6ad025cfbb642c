"""The blocking face of the asynchronous API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from claude_force.assembly.loop_thread import LoopThread
from claude_force.orchestrator import AsyncAgentOrchestrator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
    from decimal import Decimal
    from pathlib import Path
    from typing import Unpack

    from claude_force.agents.calls import CallOptions
    from claude_force.agents.registry import AgentRegistry
    from claude_force.assembly.batching_submissions import SubmissionProgress
    from claude_force.cache.disk_pins import PinnedRun
    from claude_force.cache.pins import PinReport
    from claude_force.cache.semantic.embedder import Embedder
    from claude_force.config.settings import Settings
    from claude_force.domain.events import EventListener
    from claude_force.domain.results import AgentOutcome, AgentResult, WorkflowResult
    from claude_force.domain.warming import WarmReport
    from claude_force.orchestrator import CallLike
    from claude_force.provider.client import ModelClient
    from claude_force.workflows.definition import Workflow
    from claude_force.workflows.library import WorkflowLibrary
    from claude_force.workflows.options import (
        PlanOptions,
        ResumeOptions,
        WorkflowLike,
        WorkflowOptions,
    )
    from claude_force.workflows.plan_values import CallsPlan, WorkflowPlan
    from claude_force.workflows.run_store import RunStore
    from claude_force.workflows.submissions import BatchSubmission


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
        attempt_timeout_seconds: float | None = None,
        max_retries: int | None = None,
        enable_cache: bool | None = None,
        cache_ttl_hours: float | None = None,
        cache_dir: str | Path | None = None,
        cache_secret: str | None = None,
        cache_origin: str | None = None,
        cache_redis_url: str | None = None,
        limits_redis_url: str | None = None,
        semantic_cache: Mapping[str, float | None] | None = None,
        semantic_embedder: Embedder | None = None,
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
            attempt_timeout_seconds=attempt_timeout_seconds,
            max_retries=max_retries,
            enable_cache=enable_cache,
            cache_ttl_hours=cache_ttl_hours,
            cache_dir=cache_dir,
            cache_secret=cache_secret,
            cache_origin=cache_origin,
            cache_redis_url=cache_redis_url,
            limits_redis_url=limits_redis_url,
            semantic_cache=semantic_cache,
            semantic_embedder=semantic_embedder,
            prompt_cache=prompt_cache,
            budget_usd=budget_usd,
            state_dir=state_dir,
            agents_dir=agents_dir,
            client=client,
            listeners=listeners,
        )
        self._loop = LoopThread(self._force.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and stop the thread; a second call does nothing."""
        self._loop.close()

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
        return self._loop.wait(
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
        return self._loop.wait(
            lambda: self._force.run_agent(
                agent_name, task, model, max_tokens, temperature, **options
            )
        )

    def run_many(
        self, calls: Iterable[CallLike], *, timeout_seconds: float | None = None
    ) -> Iterator[AgentOutcome]:
        """Outcomes of many calls as they end; see `AsyncAgentOrchestrator.run_many`.

        ``calls`` is read in the thread of the event loop.
        """
        return self._taken(self._force.run_many(calls, timeout_seconds=timeout_seconds))

    def run_batch(
        self,
        calls: Iterable[CallLike],
        *,
        wait: bool = True,
        on_look: Callable[[int], None] | None = None,
    ) -> Iterator[AgentOutcome]:
        """Outcomes of many calls by way of message batches; see `AsyncAgentOrchestrator.run_batch`."""
        return self._taken(self._force.run_batch(calls, wait=wait, on_look=on_look))

    def submit_batch(self, calls: Iterable[CallLike], *, note: str = "") -> BatchSubmission:
        """Send calls in batches and return; see `AsyncAgentOrchestrator.submit_batch`."""
        return self._loop.wait(lambda: self._force.submit_batch(calls, note=note))

    def batch_submissions(self) -> list[BatchSubmission]:
        """Everything that was submitted and is on record, the last first."""
        return self._loop.wait(self._force.batch_submissions)

    def find_submission(self, submission_id: str) -> BatchSubmission:
        """One of them; see `AsyncAgentOrchestrator.find_submission`."""
        return self._loop.wait(lambda: self._force.find_submission(submission_id))

    def batch_status(self, submission_id: str) -> SubmissionProgress:
        """Where a submission stands; see `AsyncAgentOrchestrator.batch_status`."""
        return self._loop.wait(lambda: self._force.batch_status(submission_id))

    def collect_batch(
        self,
        submission_id: str,
        *,
        wait: bool = False,
        on_look: Callable[[int], None] | None = None,
    ) -> Iterator[AgentOutcome]:
        """Outcomes of a submission; see `AsyncAgentOrchestrator.collect_batch`."""
        return self._taken(self._force.collect_batch(submission_id, wait=wait, on_look=on_look))

    def cancel_batch(self, submission_id: str) -> SubmissionProgress:
        """Stop the batches of a submission; see `AsyncAgentOrchestrator.cancel_batch`."""
        return self._loop.wait(lambda: self._force.cancel_batch(submission_id))

    def _taken(self, outcomes: AsyncGenerator[AgentOutcome, None]) -> Iterator[AgentOutcome]:
        try:
            while True:
                try:
                    yield self._loop.wait(lambda: anext(outcomes))
                except StopAsyncIteration:
                    return
        finally:
            self._loop.wait(outcomes.aclose)

    def execute_multiple(
        self, calls: Iterable[CallLike], *, timeout_seconds: float | None = None
    ) -> list[str]:
        """Texts of many agents' answers in order; see `AsyncAgentOrchestrator.execute_multiple`."""
        return self._loop.wait(
            lambda: self._force.execute_multiple(calls, timeout_seconds=timeout_seconds)
        )

    def plan_many(self, calls: Iterable[CallLike], *, batch: bool = False) -> CallsPlan:
        """What many calls would ask and cost; see `AsyncAgentOrchestrator.plan_many`."""
        return self._loop.wait(lambda: self._force.plan_many(calls, batch=batch))

    def execute_workflow(
        self, workflow: WorkflowLike, task: str = "", **options: Unpack[WorkflowOptions]
    ) -> WorkflowResult:
        """Run a graph of agents; see `AsyncAgentOrchestrator.execute_workflow`."""
        return self._loop.wait(lambda: self._force.execute_workflow(workflow, task, **options))

    def resume_workflow(self, run_id: str, **options: Unpack[ResumeOptions]) -> WorkflowResult:
        """Go on with a run; see `AsyncAgentOrchestrator.resume_workflow`."""
        return self._loop.wait(lambda: self._force.resume_workflow(run_id, **options))

    def run_store(self) -> RunStore:
        """The runs of workflows that are on record."""
        return self._force.run_store()

    def plan_workflow(
        self, workflow: WorkflowLike, task: str = "", **options: Unpack[PlanOptions]
    ) -> WorkflowPlan:
        """What a run would ask and cost; see `AsyncAgentOrchestrator.plan_workflow`."""
        return self._loop.wait(lambda: self._force.plan_workflow(workflow, task, **options))

    def load_workflow(self, workflow: WorkflowLike) -> Workflow:
        """The checked workflow; see `AsyncAgentOrchestrator.load_workflow`."""
        return self._force.load_workflow(workflow)

    def workflow_library(self) -> WorkflowLibrary:
        """The workflows that can be run by name, and where each is written."""
        return self._force.workflow_library()

    def warm_cache(
        self,
        calls: Iterable[CallLike],
        *,
        batch: bool = False,
        wait: bool = True,
        on_look: Callable[[int], None] | None = None,
        on_outcome: Callable[[AgentOutcome], object] | None = None,
    ) -> WarmReport:
        """Fill the response cache ahead of time; see `AsyncAgentOrchestrator.warm_cache`."""
        return self._loop.wait(
            lambda: self._force.warm_cache(
                calls, batch=batch, wait=wait, on_look=on_look, on_outcome=on_outcome
            )
        )

    def pin_run(self, run_id: str) -> PinReport:
        """Keep the answers of a run in the response cache; see `AsyncAgentOrchestrator.pin_run`."""
        return self._loop.wait(lambda: self._force.pin_run(run_id))

    def unpin_run(self, run_id: str) -> int:
        """Let go of the answers of a run; see `AsyncAgentOrchestrator.unpin_run`."""
        return self._loop.wait(lambda: self._force.unpin_run(run_id))

    def pinned_runs(self) -> tuple[PinnedRun, ...]:
        """Every run whose answers are kept; see `AsyncAgentOrchestrator.pinned_runs`."""
        return self._loop.wait(self._force.pinned_runs)

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
        return await self._loop.awaited(
            lambda: self._force.execute_agent(
                agent_name, task, model, max_tokens, temperature, **options
            )
        )

    async def execute_multiple_async(
        self, calls: Iterable[CallLike], *, timeout_seconds: float | None = None
    ) -> list[str]:
        """`execute_multiple` to be awaited, from any event loop."""
        return await self._loop.awaited(
            lambda: self._force.execute_multiple(calls, timeout_seconds=timeout_seconds)
        )

    async def execute_workflow_async(
        self, workflow: WorkflowLike, task: str = "", **options: Unpack[WorkflowOptions]
    ) -> WorkflowResult:
        """`execute_workflow` to be awaited, from any event loop."""
        return await self._loop.awaited(
            lambda: self._force.execute_workflow(workflow, task, **options)
        )
