"""Options that several commands share, and what they come to."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from claude_force.cli.durations import Cosine, Dollars, Duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from decimal import Decimal

    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import CacheUse, Effort
    from claude_force.orchestrator import AsyncAgentOrchestrator

F = TypeVar("F", bound="Callable[..., Any]")

_DEFAULT_SCENARIO = "calm"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What every `run` command takes."""

    config: Path | None
    agents: Path | None
    base_url: str | None
    timeout: float | None
    attempt_timeout: float | None
    max_concurrent: int | None
    max_retries: int | None
    simulate: bool
    scenario: str | None
    no_cache: bool
    refresh: bool
    max_age: float | None
    no_prompt_cache: bool
    budget: Decimal | None
    as_json: bool
    otel: bool = False
    # Agents whose tasks may be answered with the answer to a similar one; None leaves it to claude.json.
    semantic_agents: Mapping[str, float | None] | None = None

    @property
    def simulated(self) -> bool:
        """Whether the built-in simulator answers."""
        return self.simulate or bool(self.scenario)

    @property
    def cache(self) -> CacheUse:
        """What these options want of the response cache."""
        from claude_force.domain.messages import CacheUse

        return CacheUse(
            read=not (self.no_cache or self.refresh),
            write=not self.no_cache,
            max_age_seconds=self.max_age,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """What a single answer may be asked to be."""

    model: str | None
    max_tokens: int
    effort: Effort | None
    # None takes the agent's own chain.
    fallback: tuple[str, ...] | None
    # None leaves it to the agent's file.
    use_memory: bool | None = None
    continue_truncated: int = 0


def apply(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """One decorator out of several; help shows them in this order."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON on stdout and nothing else."
)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="A claude.json, in place of the project's own.",
)
agents_option = click.option(
    "--agents",
    type=click.Path(path_type=Path),
    help="A folder of agents that goes before every other place.",
)

run_options = apply(
    config_option,
    agents_option,
    click.option("--base-url", help="Address of the API, in place of ANTHROPIC_BASE_URL."),
    click.option(
        "--timeout", type=float, metavar="SECONDS", help="Deadline of one call, retries included."
    ),
    click.option(
        "--attempt-timeout",
        type=float,
        metavar="SECONDS",
        help="Deadline of one attempt; 0 for none.",
    ),
    click.option(
        "--max-concurrent", type=int, metavar="N", help="Requests under way at the same time."
    ),
    click.option(
        "--max-retries", type=int, metavar="N", help="Requests of one call beyond the first."
    ),
    click.option(
        "--simulate",
        is_flag=True,
        help="Answer from the built-in simulator: no key, and no model runs.",
    ),
    click.option(
        "--scenario", metavar="NAME|FILE", help="How the simulator behaves; implies --simulate."
    ),
    click.option(
        "--budget",
        type=Dollars(),
        metavar="DOLLARS",
        help="What this run may cost; a call that might exceed it is not sent.",
    ),
    click.option(
        "--no-cache", is_flag=True, help="Neither look into the response cache nor fill it."
    ),
    click.option("--refresh", is_flag=True, help="Ask again, and store what comes back."),
    click.option(
        "--max-age",
        type=Duration(),
        metavar="AGE",
        help="Serve nothing older from the cache, such as 1h.",
    ),
    click.option(
        "--no-prompt-cache",
        is_flag=True,
        help="Have the provider keep nothing of what calls have in common.",
    ),
    click.option(
        "--otel",
        is_flag=True,
        help="Send spans and metrics to the OpenTelemetry collector of OTEL_EXPORTER_OTLP_ENDPOINT.",
    ),
    json_option,
)
continue_option = click.option(
    "--continue-truncated",
    type=click.IntRange(0, 20),
    is_flag=False,
    flag_value=3,
    metavar="[N]",
    help="Continue an answer that is cut off at its max tokens, N times at most (3 without a number).",
)
answer_options = apply(
    click.option(
        "--model", help="sonnet, opus, haiku, fable or a full id, in place of the agent's own."
    ),
    click.option(
        "--max-tokens", type=int, default=4096, show_default=True, help="Longest answer in tokens."
    ),
    click.option(
        "--effort",
        type=click.Choice(["low", "medium", "high", "max"]),
        help="How hard the model thinks.",
    ),
    click.option(
        "--fallback",
        metavar="MODEL,…",
        help="Models to ask, in this order, when the first cannot answer.",
    ),
    continue_option,
)
semantic_option = click.option(
    "--semantic-cache",
    type=Cosine(),
    is_flag=False,
    flag_value="default",
    metavar="[THRESHOLD]",
    help="Answer with the answer to a similar task, from this cosine similarity on. Needs the extra 'semantic'.",
)
memory_option = click.option(
    "--memory/--no-memory",
    "use_memory",
    default=None,
    help="Recall what the agent did in this project before, and remember this (default: as the agent's file says).",
)
file_option = click.option(
    "--file",
    "-f",
    "files",
    multiple=True,
    metavar="PATH",
    help="A file, a folder or a glob to attach; may be given several times.",
)


def split_options(values: dict[str, Any]) -> tuple[RunOptions, AnswerOptions]:
    """The shared options out of a command's arguments."""
    answer = AnswerOptions(
        model=values.pop("model", None),
        max_tokens=values.pop("max_tokens", 4096),
        effort=values.pop("effort", None),
        fallback=_names(values.pop("fallback", None)),
        use_memory=values.pop("use_memory", None),
        continue_truncated=values.pop("continue_truncated", None) or 0,
    )
    given = {name: values.pop(name) for name in RunOptions.__dataclass_fields__ if name in values}
    return RunOptions(**given), answer


def with_semantic_cache(
    options: RunOptions, agent_name: str, threshold: float | Literal["default"] | None
) -> RunOptions:
    """The options with the semantic cache switched on for an agent, where ``--semantic-cache`` asks for that."""
    if threshold is None:
        return options
    return replace(
        options, semantic_agents={agent_name: None if threshold == "default" else threshold}
    )


def _names(written: str | None) -> tuple[str, ...] | None:
    return (
        None
        if written is None
        else tuple(part.strip() for part in written.split(",") if part.strip())
    )


@asynccontextmanager
async def open_orchestrator(
    options: RunOptions, *, listeners: Sequence[EventListener] = ()
) -> AsyncIterator[AsyncAgentOrchestrator]:
    """The orchestrator that the options ask for; with ``--simulate`` beside a simulator of its own."""
    if options.otel:
        from claude_force.metrics.otlp import exported

        with exported() as listener:
            async with _open(options, (*listeners, listener)) as force:
                yield force
    else:
        async with _open(options, listeners) as force:
            yield force


def offline_orchestrator(options: RunOptions) -> AsyncAgentOrchestrator:
    """The orchestrator that the options ask for, to look at what needs no connection; no simulator is started."""
    if not options.simulated:
        return _build(options, base_url=options.base_url)
    return _build(options, **_simulated_places(options))


@asynccontextmanager
async def _open(
    options: RunOptions, listeners: Sequence[EventListener]
) -> AsyncIterator[AsyncAgentOrchestrator]:
    if not options.simulated:
        async with _build(options, listeners, base_url=options.base_url) as force:
            yield force
        return
    from claude_force.simulator import Simulator

    click.echo("Simulated: no model runs, the answers are made up.", err=True)
    async with (
        Simulator(scenario=options.scenario or _DEFAULT_SCENARIO) as simulator,
        _build(
            options,
            listeners,
            api_key="simulated",
            base_url=simulator.base_url,
            **_simulated_places(options),
        ) as force,
    ):
        yield force


def _build(
    options: RunOptions,
    listeners: Sequence[EventListener] = (),
    **connection: Any,  # noqa: ANN401 - keyword arguments, passed on
) -> AsyncAgentOrchestrator:
    from claude_force.cli.logs import show_warnings
    from claude_force.orchestrator import AsyncAgentOrchestrator

    show_warnings()
    return AsyncAgentOrchestrator(
        options.config,
        **connection,
        max_concurrent=options.max_concurrent,
        max_retries=options.max_retries,
        timeout_seconds=options.timeout,
        attempt_timeout_seconds=options.attempt_timeout,
        agents_dir=options.agents,
        semantic_cache=options.semantic_agents,
        prompt_cache=False if options.no_prompt_cache else None,
        budget_usd=options.budget,
        listeners=listeners,
    )


def _simulated_places(options: RunOptions) -> dict[str, Any]:
    """Where simulated runs keep things: the port changes, the answers do not, and they must displace no paid ones."""
    from claude_force.assembly.lookup import cache_folder, state_folder
    from claude_force.config.environment import read_environment

    environment = read_environment()
    return {
        "cache_origin": f"simulator {options.scenario or _DEFAULT_SCENARIO}",
        "cache_dir": cache_folder(environment, simulated=True),
        "cache_redis_url": "",
        "limits_redis_url": "",
        "state_dir": state_folder(environment, simulated=True),
    }
