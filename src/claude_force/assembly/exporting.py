"""What Prometheus scrapes, wired together: the store of metrics, and limits and breakers beside it."""
# ruff: noqa: PLC0415 - each part is imported when it is built: start-up time

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from claude_force.assembly.limits_place import LimitsPlace
from claude_force.assembly.lookup import limits_path, limits_redis_url_of
from claude_force.assembly.metering import METRICS_FILE
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from claude_force.metrics.prometheus import Standing, StoreCollector
    from claude_force.metrics.prometheus_server import PrometheusServer


def prometheus_collector(
    state_dir: str | Path | None = None, *, max_agents: int = 50
) -> StoreCollector:
    """A collector for a registry of your own; None takes the user's own state folder.

    Raises:
        OptionalDependencyError: the extra ``prometheus`` is not installed.
    """
    from claude_force.config.environment import read_environment
    from claude_force.metrics.prometheus import StoreCollector

    environment = read_environment()
    folder = environment.state_home if state_dir is None else Path(state_dir)
    # A folder that is named stands for itself; our own limits may be shared with other machines.
    server = limits_redis_url_of(None, environment) if state_dir is None else None
    limits = LimitsPlace(limits_path(folder), server)
    return StoreCollector(
        folder / METRICS_FILE, standing=lambda: read_standing(limits), max_agents=max_agents
    )


def serve_prometheus(
    state_dir: str | Path | None = None,
    *,
    port: int = 9464,
    host: str = "127.0.0.1",
    max_agents: int = 50,
) -> PrometheusServer:
    """A server for scrapes, to be entered with ``with`` or ``async with``; see `PrometheusServer`.

    Raises:
        OptionalDependencyError: the extra ``prometheus`` is not installed.
        InputError: the host is not loopback.
    """
    collector = prometheus_collector(state_dir, max_agents=max_agents)
    from claude_force.metrics.prometheus_server import PrometheusServer

    return PrometheusServer(collector, port=port, host=host)


def read_standing(limits: LimitsPlace) -> Standing | None:
    """Limits and breakers as they are known; None before the first call, and where they cannot be read."""
    from claude_force.metrics.prometheus import Standing

    try:
        state = limits.read()
    except StorageError:
        # Those who look after it are told by the runs; the counters are worth more than nothing.
        return None
    if state is None:
        return None
    return Standing(
        breakers={key: one.opened_at is not None for key, one in state.breakers.items()},
        limits={(one.class_key, one.kind): (one.per_minute, one.free) for one in state.limits},
        blocked=tuple(state.blocked_until_epoch_seconds),
        paused=state.user_limits.paused,
        processes=len(state.processes),
        in_flight=sum(one.in_flight for one in state.processes),
        waiting=sum(one.waiting for one in state.processes),
    )
