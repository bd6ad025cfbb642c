"""The public asynchronous API."""

from __future__ import annotations

from contextlib import aclosing
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias

from claude_force.agents.calls import AgentCall
from claude_force.assembly.batch_methods import BatchMethods
from claude_force.assembly.cache_methods import CacheMethods
from claude_force.assembly.caller import Caller
from claude_force.assembly.options import RuntimeOptions
from claude_force.assembly.plan_methods import PlanMethods
from claude_force.assembly.runtime import Runtime
from claude_force.domain.messages import CallContext
from claude_force.domain.partial_failure import PartialFailureError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
    from typing import Unpack

    from claude_force.agents.calls import CallOptions
    from claude_force.cache.semantic.embedder import Embedder
    from claude_force.config.settings import Settings
    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.results import AgentOutcome, AgentResult
    from claude_force.provider.client import ModelClient

# What many-call methods take for one call: `(agent, task)`, or an `AgentCall` with everything else.
CallLike: TypeAlias = "AgentCall | tuple[str, str]"


class AsyncAgentOrchestrator(PlanMethods, BatchMethods, CacheMethods):
    """Runs agents and workflows; the asynchronous API.

    Nothing is read and no connection is made before the first call. One instance may be used by any number of tasks,
    threads and event loops at the same time; ``max_concurrent`` bounds them all together. Use it as ``async with``,
    or call `aclose` at the end.

    Args:
        config_path: a ``claude.json``; None finds the one of the project around the working folder, if there is one.
        api_key: None takes ``ANTHROPIC_API_KEY``, else ``ANTHROPIC_AUTH_TOKEN``, when the first call is made.
        base_url: None takes ``ANTHROPIC_BASE_URL``, else the API itself.
        max_concurrent: requests under way at the same time; None takes ``performance.max_concurrent_agents`` (10).
        timeout_seconds: deadline of one call, retries included; None takes ``performance.timeout_seconds`` (120).
        attempt_timeout_seconds: deadline of one attempt, from its sending, 0 for none; None takes
            ``performance.attempt_timeout_seconds`` (0).
        max_retries: requests of one call beyond the first; None takes ``performance.max_retries`` (3).
        enable_cache: answer equal requests from the response cache; None takes ``cache.enabled`` (True).
        cache_ttl_hours: how long an answer is served; None takes ``cache.ttl_hours`` (24).
        cache_dir: where answers are kept; None takes the user's cache folder.
        cache_secret: signs them; None takes ``CLAUDE_CACHE_SECRET``, else a random one that is made once.
        cache_origin: the name under which answers of this address are kept, for an address that changes (a port of
            a gateway); None takes the base URL.
        cache_redis_url: a Redis server that machines share; None takes ``CLAUDE_FORCE_REDIS_URL``. It needs a
            ``cache_secret``.
        limits_redis_url: a Redis server in which machines share rate limits, circuit breakers and the budget of a day;
            None takes ``CLAUDE_FORCE_REDIS_URL``, "" none.
        semantic_cache: agents whose tasks may be answered with the answer to a similar one, each with the least cosine
            similarity that will do, or None for the default; None takes ``cache.semantic``. It needs
            ``pip install 'claude-force[semantic]'``.
        semantic_embedder: what makes the vectors that are compared, in place of the model of that extra.
        prompt_cache: have the provider keep what several calls begin with, where that pays; None takes
            ``prompt_cache.enabled`` (True).
        budget_usd: what all calls of this orchestrator, or each of its workflow runs, may cost in dollars; None takes
            ``budgets.per_run_usd``. The worst case of a call is reserved before it is sent.
        state_dir: where the processes of a user share rate limits, circuit breakers and the budget of a day; None takes
            the user's state folder.
        agents_dir: a folder of agents that goes before every other place.
        client: answers the requests instead of a connection to the API: a `ScriptedClient`, an
            `AnthropicSdkClient`, or your own `ModelClient`. It stays open when the orchestrator is closed. Its
            answers are cached when it has an attribute ``origin``, or ``cache_origin`` is given.
        listeners: told of everything that happens, on the event loop.
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
        self.config_path = Path(config_path) if config_path is not None else None
        self._runtime = Runtime(
            RuntimeOptions(
                config_path=self.config_path,
                agents_dir=Path(agents_dir) if agents_dir is not None else None,
                api_key=api_key,
                base_url=base_url,
                max_concurrent=max_concurrent,
                max_retries=max_retries,
                timeout_seconds=timeout_seconds,
                attempt_timeout_seconds=attempt_timeout_seconds,
                enable_cache=enable_cache,
                cache_ttl_hours=cache_ttl_hours,
                cache_dir=Path(cache_dir) if cache_dir is not None else None,
                cache_secret=cache_secret,
                cache_origin=cache_origin,
                cache_redis_url=cache_redis_url,
                limits_redis_url=limits_redis_url,
                semantic_cache=semantic_cache,
                semantic_embedder=semantic_embedder,
                prompt_cache=prompt_cache,
                budget_usd=None if budget_usd is None else Decimal(str(budget_usd)),
                state_dir=Path(state_dir) if state_dir is not None else None,
            ),
            client=client,
        )
        self._caller = Caller(self._runtime, listeners)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; calls under way fail. A second call does nothing."""
        await self._runtime.aclose()

    @property
    def settings(self) -> Settings:
        """What ``claude.json`` says; read when it is first needed."""
        return self._runtime.settings

    @property
    def max_concurrent(self) -> int:
        """Requests under way at the same time."""
        return self._runtime.max_concurrent

    @property
    def max_retries(self) -> int:
        """Requests of one call beyond the first."""
        return self._runtime.max_retries

    @property
    def timeout_seconds(self) -> float:
        """Deadline of a call that names none; may be set at any time."""
        return self._runtime.timeout_seconds

    @timeout_seconds.setter
    def timeout_seconds(self, value: float) -> None:
        self._runtime.timeout_seconds = value

    def stop(self) -> None:
        """Send nothing more in the runs that go on: `run_many`, `execute_multiple` and workflows.

        Requests on the wire are let end, and their results come as usual; every other call of those runs ends in a
        `RunStoppedError`. Runs that start later are not touched.
        """
        self._caller.stop()

    async def load_config(self) -> Settings:
        """The settings, read now if they were not yet."""
        return self.settings

    async def load_agent_definition(self, name: str) -> str:
        """The system prompt of an agent.

        Raises:
            AgentError: no agent is called that (`ValueError` with "not found"), or it cannot be read.
        """
        return self.registry.get(name).prompt

    async def execute_agent(
        self,
        agent_name: str,
        task: str,
        model: str | None = None,
        max_tokens: int = 4096,
        temperature: float | None = None,
        **options: Unpack[CallOptions],
    ) -> str:
        """The text of one agent's complete answer; `run_agent` has the rest."""
        result = await self.run_agent(agent_name, task, model, max_tokens, temperature, **options)
        return result.text

    async def execute_with_semaphore(
        self, agent_name: str, task: str, **options: Unpack[CallOptions]
    ) -> str:
        """The same as `execute_agent`: here every call is bounded. Kept for code that was written for it."""
        return await self.execute_agent(agent_name, task, **options)

    async def run_agent(
        self,
        agent_name: str,
        task: str,
        model: str | None = None,
        max_tokens: int = 4096,
        temperature: float | None = None,
        **options: Unpack[CallOptions],
    ) -> AgentResult:
        """One agent's complete answer, with what it cost and how it came about.

        Args:
            agent_name: as the registry knows it.
            task: what to do, at most 100,000 characters.
            model: alias or id; None takes the agent's own, else the default model.
            max_tokens: the longest answer in tokens; one that is cut off there is an error.
            temperature: only for models that still take one.
            **options: see `CallOptions`.

        Raises:
            InputError: the agent, the task or an option cannot be used; nothing was sent.
            MissingCredentialsError: there is no key; nothing was sent.
            IncompleteAnswerError: the model did not come to an end; ``error.response`` has what arrived.
            CallError: no answer came back.
        """
        return await self._caller.run(
            AgentCall(
                agent_name=agent_name,
                task=task,
                model=model,
                max_tokens=max_tokens,
                temperature=temperature,
                **options,
            )
        )

    async def run_call(self, call: AgentCall) -> AgentResult:
        """`run_agent` for a call that is put together already."""
        return await self._caller.run(call)

    async def stream_agent(
        self,
        agent_name: str,
        task: str,
        model: str | None = None,
        max_tokens: int = 4096,
        temperature: float | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncGenerator[Event, None]:
        """The events of one call as they happen, `TextDelta` among them; the last is `CallFinished`.

        After an `AttemptFailed` with ``text_was_sent`` the text so far is void: the next attempt starts from scratch.
        Raises like `run_agent`, after the events that led there.
        """
        call = AgentCall(
            agent_name=agent_name,
            task=task,
            model=model,
            max_tokens=max_tokens,
            temperature=temperature,
            **options,
        )
        async with aclosing(self._caller.stream(call)) as events:
            async for event in events:
                yield event

    async def stream_call(self, call: AgentCall) -> AsyncGenerator[Event, None]:
        """`stream_agent` for a call that is put together already."""
        async with aclosing(self._caller.stream(call)) as events:
            async for event in events:
                yield event

    async def run_many(
        self, calls: Iterable[CallLike], *, timeout_seconds: float | None = None
    ) -> AsyncGenerator[AgentOutcome, None]:
        """Outcomes of many calls, in the order in which they end; ``outcome.index`` is the place in ``calls``.

        Every call ends in a result or a typed error, and no error of one touches another, except a spend cap or a
        refused key: after it nothing more is sent. ``calls`` may be any iterable; it is read as places become free.

        Args:
            calls: what to ask.
            timeout_seconds: deadline of the whole run; a call without an answer by then ends in a `CallTimeoutError`.
        """
        from claude_force.assembly.many_calls import run_many  # noqa: PLC0415 - one call needs none

        outcomes = run_many(
            self._runtime, self._caller, map(_as_call, calls), timeout_seconds=timeout_seconds
        )
        async with aclosing(outcomes):
            async for outcome in outcomes:
                yield outcome

    async def run_batch(
        self,
        calls: Iterable[CallLike],
        *,
        wait: bool = True,
        on_look: Callable[[int], None] | None = None,
    ) -> AsyncGenerator[AgentOutcome, None]:
        """`run_many` by way of message batches: half the price, and within a day instead of at once.

        What is in a batch already, of an earlier process too, is not sent again, so a caller may come back tomorrow
        with the same calls. A result is forgotten by the ledger of batches when the next outcome is asked for.

        Args:
            calls: what to ask; all of it is read before anything is sent.
            wait: wait for the results; False returns once everything is sent, after the outcomes of what the
                response cache has.
            on_look: told, each time the batches were looked at, how many requests still have no result.

        Raises:
            InputError: a call cannot be sent as it is; then none was.
            BudgetExceededError: all of them together do not fit into a budget; nothing was sent.
            CallError: a batch was refused, or cannot be read.
        """
        from claude_force.assembly.batching import BatchedCalls  # noqa: PLC0415 - few need it

        batched = BatchedCalls(self._runtime, self._caller, on_look=on_look)
        async with aclosing(batched.run(map(_as_call, calls), wait=wait)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def execute_multiple(
        self, calls: Iterable[CallLike], *, timeout_seconds: float | None = None
    ) -> list[str]:
        """Texts of many agents' answers, in the order of ``calls``; ``timeout_seconds`` is that of `run_many`.

        Raises:
            InputError: a call cannot be sent as it is; then none was.
            PartialFailureError: some calls failed. ``error.outcomes`` has every outcome, the paid results included.
        """
        accepted = [_as_call(call) for call in calls]
        for call in accepted:
            call.to_request(self.registry, CallContext())
        run = self.run_many(accepted, timeout_seconds=timeout_seconds)
        outcomes = sorted([outcome async for outcome in run], key=attrgetter("index"))
        if any(outcome.error is not None for outcome in outcomes):
            raise PartialFailureError.of_calls(outcomes)
        return [outcome.result.text for outcome in outcomes if outcome.result is not None]


def _as_call(call: CallLike) -> AgentCall:
    return call if isinstance(call, AgentCall) else AgentCall(agent_name=call[0], task=call[1])
