"""The stores that the dashboard shows: metrics, runs, limits. It reads them, and writes only what a user asks for."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from claude_force.dashboard.overview import read_overview
from claude_force.metrics.browsing import CallBrowser
from claude_force.metrics.monitoring import check_alerts
from claude_force.metrics.reader import MetricsReader
from claude_force.resilience.shared_view import change_limits, read_state
from claude_force.workflows.run_store import RunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path

    from claude_force.config.settings import AlertSettings
    from claude_force.dashboard.overview import Overview
    from claude_force.domain.runs import RunRecord
    from claude_force.metrics.alerts import Alert
    from claude_force.metrics.browsing import CallFilter, CallPage
    from claude_force.resilience.shared_view import SharedState

T = TypeVar("T")

# Any number of pages ask the stores so often at most, together.
_FRESH_SECONDS: Final = 0.8
# Alerts look at two weeks.
_ALERTS_FRESH_SECONDS: Final = 15.0
_RUNS_SHOWN: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the stores are."""

    # The databases of metrics and of limits, and the folder of the journal.
    metrics: Path
    limits: Path
    runs: Path
    alerts: AlertSettings


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
        self._runs = RunStore(places.runs)
        # Each lets one page at a time ask its question; the others wait for that answer.
        self._locks: defaultdict[Hashable, Lock] = defaultdict(Lock)
        # By question: until when its answer is fresh, and the answer.
        self._kept: dict[Hashable, tuple[float, Any]] = {}

    def overview(self, days: int) -> Overview:
        """What the calls of the last days came to."""
        return self._fresh(
            ("overview", days), lambda: read_overview(self._reader, self._browser, days)
        )

    def alerts(self) -> tuple[Alert, ...]:
        """What every rule says."""
        return self._fresh(
            "alerts",
            lambda: check_alerts(
                self._places.metrics, self._places.alerts, wall_clock=self.wall_clock
            ),
            _ALERTS_FRESH_SECONDS,
        )

    def limits(self) -> SharedState | None:
        """Limits, breakers and processes; None before the first call of this user."""
        return self._fresh(
            "limits", lambda: read_state(self._places.limits, wall_clock=self.wall_clock)
        )

    def runs(self) -> tuple[RunRecord, ...]:
        """The runs that were started last, without their steps."""
        return self._fresh("runs", lambda: tuple(self._runs.recent(limit=_RUNS_SHOWN)))

    def run(self, run_id: str) -> RunRecord:
        """A run with its steps, and without what was asked and answered."""
        return self._fresh(("run", run_id), lambda: self._runs.outline(run_id))

    def calls(self, wanted: CallFilter, before: int | None) -> CallPage:
        """The calls behind a figure."""
        return self._browser.calls(wanted, before=before)

    def set_paused(self, *, paused: bool) -> None:
        """Let no further request of any run out, or let them out again."""
        change_limits(self._places.limits, paused=paused)
        self._forget("limits")

    def cancel(self, run_id: str) -> bool:
        """Ask the process that works on a run to stop it; False where none does."""
        self._forget(("run", run_id))
        return self._runs.cancel(run_id)

    def close(self) -> None:
        """Close the databases."""
        self._reader.close()
        self._browser.close()

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
