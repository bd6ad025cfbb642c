"""The stores that the dashboard shows: metrics, runs, limits. It reads them, and writes only what a user asks for."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar

from claude_force.dashboard.overview import DEFAULT_SPAN, OverviewReader
from claude_force.domain.errors import ClaudeForceError
from claude_force.metrics.browsing import CallBrowser
from claude_force.metrics.monitoring import check_alerts
from claude_force.metrics.reader import MetricsReader
from claude_force.storage.errors import StorageError
from claude_force.workflows.run_store import RunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path

    from claude_force.assembly.limits_place import LimitsPlace
    from claude_force.config.settings import AlertSettings
    from claude_force.dashboard.overview import Overview
    from claude_force.domain.runs import RunRecord
    from claude_force.metrics.alerts import Alert
    from claude_force.metrics.browsing import CallFilter, CallPage
    from claude_force.resilience.shared_view import SharedState

T = TypeVar("T")

_LOG: Final = logging.getLogger(__name__)

# Any number of pages ask the stores so often at most, together.
_FRESH_SECONDS: Final = 0.8
# Alerts look at two weeks of hours, which takes longer than a page may.
_ALERTS_FRESH_SECONDS: Final = 15.0
_RUNS_SHOWN: Final = 50
# Calls of a run are looked for so long before it and after it, for a clock that was set meanwhile.
_CLOCK_SECONDS: Final = 3600
# Runs under way are shown with their graphs, these at most.
_MOST_LIVE: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the stores are."""

    # The database of metrics.
    metrics: Path
    limits: LimitsPlace
    # The folder of the journal.
    runs: Path
    # Thresholds.
    alerts: AlertSettings


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In place of what could not be read."""

    reason: str


class Stores:
    """Answers what pages ask; every method waits for a disk, so it is called off the event loop, from any thread.

    Results are kept for a moment, and the same result is the same object: a page sees at once that nothing changed.

    Raises:
        ClaudeForceError: by every method, when a store cannot be read.
    """

    def __init__(
        self,
        places: Places,
        *,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wall_clock = wall_clock
        self._places = places
        self._monotonic = monotonic
        self._reader = MetricsReader(places.metrics, wall_clock=wall_clock)
        self._browser = CallBrowser(places.metrics, wall_clock=wall_clock)
        self._overviews = OverviewReader(self._reader, self._browser)
        self._runs = RunStore(places.runs)
        # Each lets one page at a time ask its question; the others wait for that answer.
        self._locks: defaultdict[Hashable, Lock] = defaultdict(Lock)
        # By question: until when its answer is fresh, and the answer.
        self._kept: dict[Hashable, tuple[float, Any]] = {}
        # By days: the version that was read, and what it came to.
        self._read: dict[int, tuple[Hashable, Overview]] = {}
        self._alerts: tuple[Alert, ...] | None = None
        self._alerts_due = -math.inf
        self._alerts_told: set[str] = set()

    @property
    def folder(self) -> Path:
        """Where the store of metrics lies."""
        return self._places.metrics.parent

    def overview(self, days: int) -> Overview:
        """What the calls of the last days came to; looked at anew when a process has written, or a minute is over."""

        def read() -> Overview:
            minute = int(self.wall_clock() // 60)
            version = (self._reader.version(), minute)
            known, overview = self._read.get(days, (None, None))
            if overview is None or known != version:
                overview = self._overviews.read(days, now=self.wall_clock())
                self._read[days] = (version, overview)
            return overview

        return self._fresh(("overview", days), read)

    def warm(self) -> None:
        """Ask what the first page will ask; whatever is wrong is said there."""
        self.alerts()
        with contextlib.suppress(ClaudeForceError):
            self.overview(DEFAULT_SPAN)

    def alerts(self) -> tuple[Alert, ...] | None:
        """What every rule said a moment ago; None until they were asked for the first time. Never waits."""
        with self._locks["alerts"]:
            if self._monotonic() >= self._alerts_due:
                self._alerts_due = self._monotonic() + _ALERTS_FRESH_SECONDS
                Thread(
                    target=self._check_alerts, name="claude-force-dashboard-alerts", daemon=True
                ).start()
        return self._alerts

    def limits(self) -> SharedState | Unreadable | None:
        """Limits, breakers and processes; None before the first call of this user."""

        def read() -> SharedState | Unreadable | None:
            try:
                return self._places.limits.read()
            except StorageError as error:
                # The rest of the page does not depend on it.
                return Unreadable(str(error))

        return self._fresh("limits", read)

    def runs(self) -> tuple[RunRecord, ...]:
        """The runs that were started last, without their steps."""
        return self._fresh("runs", lambda: tuple(self._runs.recent(limit=_RUNS_SHOWN)))

    def run(self, run_id: str) -> RunRecord:
        """A run with its steps, and without what was asked and answered."""
        return self._fresh(("run", run_id), lambda: self._runs.outline(run_id))

    def live_runs(self) -> tuple[RunRecord, ...]:
        """Runs under way with their steps, the ones that were started last."""
        going = [run.run_id for run in self.runs() if run.state == "running"]
        return tuple(self.run(run_id) for run_id in going[:_MOST_LIVE])

    def calls(self, wanted: CallFilter, before: int | None) -> CallPage:
        """The calls behind a figure; those of a run are looked for in its time."""
        if wanted.run_id is not None:
            wanted = self._in_its_time(wanted, wanted.run_id)
        return self._browser.calls(wanted, before=before)

    def set_paused(self, *, paused: bool) -> None:
        """Let no further request of any run out, or let them out again."""
        self._places.limits.set_paused(paused=paused)
        self._forget("limits")

    def cancel(self, run_id: str) -> bool:
        """Ask the process that works on a run to stop it; False where none does."""
        self._forget(("run", run_id))
        return self._runs.cancel(run_id)

    def close(self) -> None:
        """Close the databases."""
        self._reader.close()
        self._browser.close()

    def _in_its_time(self, wanted: CallFilter, run_id: str) -> CallFilter:
        try:
            run = self.run(run_id)
        except ClaudeForceError:
            # The journal may have been pruned, or not be readable; the calls are there all the same.
            return wanted
        began = int(run.started_at.timestamp()) - _CLOCK_SECONDS
        wanted = replace(wanted, since=max(wanted.since, began))
        if run.state == "running" or run.ended_at is None:
            return wanted
        ended = int(run.ended_at.timestamp()) + _CLOCK_SECONDS
        return replace(wanted, until=min(wanted.until, ended))

    def _check_alerts(self) -> None:
        try:
            self._alerts = check_alerts(
                self._places.metrics, self._places.alerts, wall_clock=self.wall_clock
            )
        except ClaudeForceError as error:
            # The same thing every quarter of a minute is said once.
            if str(error) not in self._alerts_told:
                self._alerts_told.add(str(error))
                _LOG.warning("alerts cannot be checked: %s", error, extra={"kind": error.kind})

    def _fresh(self, key: Hashable, read: Callable[[], T], seconds: float = _FRESH_SECONDS) -> T:
        with self._locks[key]:
            until, kept = self._kept.get(key, (0.0, None))
            if self._monotonic() < until:
                return kept  # type: ignore[no-any-return] # what was read for this key
            found = read()
            same = key in self._kept and found == kept
            result: T = kept if same else found
            self._kept[key] = (self._monotonic() + seconds, result)
            return result

    def _forget(self, key: Hashable) -> None:
        with self._locks[key]:
            self._kept.pop(key, None)
