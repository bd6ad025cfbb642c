"""Waits for several tiers to settle one entry."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class CountDown:
    """Calls ``then`` once every tier has settled an entry; at once where there is none."""

    def __init__(self, tiers: int, then: Callable[[], object]) -> None:
        self._left = tiers
        self._then = then
        # Tiers settle on threads of their own.
        self._lock = Lock()
        if not tiers:
            then()

    def __call__(self) -> None:
        """One more has settled it."""
        with self._lock:
            self._left -= 1
            done = self._left == 0
        if done:
            self._then()
