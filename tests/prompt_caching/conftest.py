"""Time that passes when a test says so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import time_machine

from claude_force.provider.prompt_cache.shared_history import SharedHistory
from claude_force.simulator import SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_AHEAD = [0.0]


@pytest.fixture(scope="module")
def _module_simulator() -> Iterator[SimulatorThread]:
    """One whose prompt cache ages with `later`."""
    with SimulatorThread(
        keep_requests=10_000, monotonic=lambda: time.monotonic() + _AHEAD[0]
    ) as running:
        yield running


@pytest.fixture
def later() -> Iterator[Callable[[float], None]]:
    """Moves the wall clock of this process and the age of what the simulator keeps on by seconds."""
    with time_machine.travel("2026-11-25T12:00:00Z", tick=True) as clock:

        def shift(seconds: float) -> None:
            clock.shift(seconds)
            _AHEAD[0] += seconds

        yield shift


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls wait until it is read what other processes have seen: this machine may be busy with other tests."""
    monkeypatch.setitem(SharedHistory.__init__.__kwdefaults__ or {}, "patience_seconds", 10.0)
