"""What a response says about the rate limits of its model class."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimitReading:
    """One limit as one response reports it."""

    # What the bucket holds when full; it refills to that in a minute.
    limit: int | None = None
    # What is left after the request that was answered.
    remaining: int | None = None
    # Seconds from now until the bucket is full again; 0 for a moment in the past.
    reset_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSnapshot:
    """Every limit that one response names. None where its headers are absent or cannot be read."""

    requests: LimitReading | None = None
    # Uncached input and cache writes.
    input_tokens: LimitReading | None = None
    output_tokens: LimitReading | None = None
    # Input and output together.
    tokens: LimitReading | None = None

    def __bool__(self) -> bool:
        return not (
            self.requests is None
            and self.input_tokens is None
            and self.output_tokens is None
            and self.tokens is None
        )
