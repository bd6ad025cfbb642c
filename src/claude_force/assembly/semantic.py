"""The semantic cache from settings and arguments: for which agents, and put together."""
# ruff: noqa: PLC0415 - each part is imported when it is needed: start-up time

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.agents.cleaning import clean_text
from claude_force.domain.errors import ConfigError
from claude_force.domain.messages import SemanticUse

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from claude_force.agents.calls import AgentCall
    from claude_force.cache.semantic.embedder import Embedder
    from claude_force.cache.semantic.task_tier import TaskTier
    from claude_force.cache.store import CacheStore
    from claude_force.config.settings import CacheSettings
    from claude_force.domain.agents import AgentDefinition
    from claude_force.provider.client import ModelClient

# With the guard, no labelled pair of benchmarks/semantic.py is a false hit from here on; below, hardly more are hits.
DEFAULT_THRESHOLD: Final = 0.85


class SemanticAgents:
    """The agents that the semantic cache is switched on for, each with its threshold.

    Args:
        thresholds: by agent name; None takes the default.
        exclude_agents: agents whose answers are never cached.

    Raises:
        ConfigError: a threshold is not above 0 and at most 1.
    """

    def __init__(
        self, thresholds: Mapping[str, float | None], exclude_agents: Collection[str] = ()
    ) -> None:
        self._thresholds: dict[str, float] = {}
        for name, threshold in thresholds.items():
            if threshold is not None and not 0 < threshold <= 1:
                raise ConfigError(
                    f"The threshold of the semantic cache for {name!r} is {threshold!r}; it is a cosine above 0 and at "
                    "most 1."
                )
            if name not in exclude_agents:
                self._thresholds[name] = DEFAULT_THRESHOLD if threshold is None else threshold

    def __bool__(self) -> bool:
        return bool(self._thresholds)

    def use(self, call: AgentCall, definition: AgentDefinition) -> SemanticUse | None:
        """How a call takes part; None for a call with files or answers of others, and for other agents.

        Raises:
            ConfigError: the agent has tools.
        """
        threshold = self._thresholds.get(call.agent_name)
        if threshold is None:
            return None
        if definition.tools:
            raise ConfigError(
                f"The semantic cache is switched on for {call.agent_name!r}, which has tools "
                f"({', '.join(definition.tools)}): what they find changes while the task stays the same. Nothing "
                "was sent. Leave out --semantic-cache (semantic_cache=), or take the agent out of cache.semantic.agents."
            )
        if call.files or call.upstream:
            return None
        return SemanticUse(task=clean_text(call.task).strip(), threshold=threshold)


def build_semantic(
    inner: ModelClient,
    settings: CacheSettings,
    *,
    store: CacheStore,
    origin: str,
    folder: Path,
    secret: str | None,
    embedder: Embedder | None = None,
) -> ModelClient:
    """``inner`` behind the semantic cache, whose answers are in ``store``.

    Raises:
        OptionalDependencyError: a package of the extra is not installed.
    """
    from claude_force.cache.semantic.embedder import check_installed, own_embedder
    from claude_force.cache.semantic.similar_tasks import SimilarTasks
    from claude_force.provider.semantic import SemanticClient

    check_installed(own_embedder=embedder is not None)
    tier = open_tasks(settings, folder=folder, secret=secret)
    tasks = SimilarTasks(tier, store, own_embedder() if embedder is None else embedder)
    return SemanticClient(inner, tasks=tasks, origin=origin)


def open_tasks(settings: CacheSettings, *, folder: Path, secret: str | None) -> TaskTier:
    """The tasks that answers can be found by; nothing is opened before it is used, and no extra is needed."""
    from claude_force.assembly.lookup import lifetimes_of
    from claude_force.cache.semantic.task_tier import open_task_tier

    return open_task_tier(
        folder,
        lifetimes=lifetimes_of(settings),
        max_answer_bytes=int(settings.max_size_mb * 1_048_576),
        secret=secret,
        use_integrity_check=settings.use_integrity_check,
    )
