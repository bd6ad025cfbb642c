"""Recorders and readers of metrics, as settings and environment ask for them."""
# ruff: noqa: PLC0415 - each part is imported when it is built: start-up time

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from claude_force.config.settings import MetricsSettings
    from claude_force.metrics.reader import MetricsReader
    from claude_force.metrics.recorder import Recorder

METRICS_FILE: Final = "metrics.db"


def open_recorder(settings: MetricsSettings, state_folder: Path) -> Recorder | None:
    """What keeps a row of every call in this folder; None where the settings say no. Nothing is opened before a call ends."""
    if not settings.enabled:
        return None
    from claude_force.metrics.recorder import Recorder

    return Recorder(state_folder / METRICS_FILE, retention_days=settings.retention_days)


def open_metrics(state_dir: str | Path | None = None) -> MetricsReader:
    """What answers questions about the calls that were recorded; None takes the user's own state folder."""
    from claude_force.config.environment import read_environment
    from claude_force.metrics.reader import MetricsReader

    folder = read_environment().state_home if state_dir is None else Path(state_dir)
    return MetricsReader(folder / METRICS_FILE)
