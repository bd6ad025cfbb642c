"""Looks at the store, asks the rules, and remembers which alerts fire."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from claude_force.metrics.alerts import Observed, evaluate
from claude_force.metrics.anomalies import BASELINE_DAYS, anomalies_of
from claude_force.metrics.cells import Cell, day_of, hour_of
from claude_force.metrics.reader import MetricsReader
from claude_force.metrics.schema import DAY_SECONDS, HOUR_SECONDS, SCHEMA
from claude_force.metrics.writing import transaction
from claude_force.storage.database import open_database
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from claude_force.config.settings import AlertSettings
    from claude_force.metrics.alerts import Alert

# Two weeks, so that every day of the week counts twice.
_EARLIER_DAYS: Final = 14


def observe(reader: MetricsReader, now: float) -> Observed:
    """What the rules look at, as it was at ``now`` (the reader's own clock decides what the last minutes are)."""
    this_hour, today = hour_of(now), day_of(now)
    day = Cell()
    for _, _, cell in reader.cells(
        this_hour - DAY_SECONDS + HOUR_SECONDS, this_hour + HOUR_SECONDS, by_hour=True
    ):
        day.merge(cell)
    # Yesterday is half in the last 24 hours, so it is not one of the days before them.
    earlier: dict[int, Cell] = {}
    for start, _, cell in reader.cells(
        today - (_EARLIER_DAYS + 1) * DAY_SECONDS, today - DAY_SECONDS
    ):
        earlier.setdefault(day_of(start), Cell()).merge(cell)
    hours: dict[str, dict[int, Cell]] = {}
    judged = this_hour - HOUR_SECONDS
    for start, agent, cell in reader.cells(
        judged - BASELINE_DAYS * DAY_SECONDS, this_hour, by_hour=True
    ):
        # Only the same hour of earlier days is compared with.
        if (judged - start) % DAY_SECONDS == 0:
            hours.setdefault(agent, {}).setdefault(start, Cell()).merge(cell)
    return Observed(
        five_minutes=reader.recent(300),
        hour=reader.recent(HOUR_SECONDS),
        day=day,
        earlier_days=tuple(earlier.values()),
        anomalies=anomalies_of(hours, judged),
    )


def check_alerts(
    path: Path, settings: AlertSettings, *, wall_clock: Callable[[], float] = time.time
) -> tuple[Alert, ...]:
    """The alerts of the store at ``path``, which remembers those that fire; may wait for a disk.

    Where that cannot be written, every check begins anew: an alert near its threshold may then come and go.

    Raises:
        StorageError: the store cannot be read.
    """
    reader = MetricsReader(path, wall_clock=wall_clock)
    try:
        now = wall_clock()
        observed = observe(reader, now)
    finally:
        reader.close()
    if not path.exists():
        return evaluate(observed, settings)
    with contextlib.closing(open_database(path, SCHEMA)) as connection:
        try:
            fired = set(connection.execute("SELECT rule, subject FROM firing"))
            alerts = evaluate(observed, settings, fired)
            _remember(connection, fired, alerts, now)
        except sqlite3.OperationalError:
            return evaluate(observed, settings)
        except sqlite3.Error as error:
            raise StorageError(f"cannot read the alerts in {str(path)!r}: {error}") from error
    return alerts


def _remember(
    connection: sqlite3.Connection,
    fired: Collection[tuple[str, str]],
    alerts: Collection[Alert],
    now: float,
) -> None:
    fires = {alert.key for alert in alerts if alert.state == "firing"}
    if fires == fired:
        # A write would make every result of a query one of the past.
        return
    with transaction(connection):
        connection.executemany(
            "DELETE FROM firing WHERE rule = ? AND subject = ?", set(fired) - fires
        )
        connection.executemany(
            "INSERT OR IGNORE INTO firing VALUES (?, ?, ?)",
            [(*key, now) for key in fires - set(fired)],
        )
