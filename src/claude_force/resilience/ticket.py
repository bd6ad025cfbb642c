"""One request on its way through the governor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_force.resilience.rate_class import Estimate, Reservation


class Ticket:
    """What a request wants and, once it is let out, what it holds."""

    __slots__ = ("estimate", "flow", "key", "patience_seconds", "reservation")

    def __init__(
        self, key: str, flow: str, estimate: Estimate, patience_seconds: float = float("inf")
    ) -> None:
        # Origin and model class.
        self.key = key
        # Who asks; flows take turns.
        self.flow = flow
        self.estimate = estimate
        # A pause of the API that is longer ends the wait at once.
        self.patience_seconds = patience_seconds
        self.reservation: Reservation | None = None
