"""Rate limits: token buckets for each key and model class, and the headers that tell of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.usage import Usage

MINUTE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """What a key may use in a minute, for each model class. None means no limit, and no headers for it."""

    requests_per_minute: int | None = None
    # Uncached input and cache writes; what is read from the prompt cache is free.
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    # The limit of count_tokens; it has no headers.
    count_requests_per_minute: int | None = None
    # How many of the limits' minutes pass in a real minute: 60 makes a minute last one second.
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in (
            "requests_per_minute",
            "input_tokens_per_minute",
            "output_tokens_per_minute",
            "count_requests_per_minute",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(
                    f"{name} is {value!r}; give a number from 1, or none for no limit."
                )
        if not self.time_scale > 0:
            raise ConfigError(f"time_scale is {self.time_scale!r}; give a number above 0.")


class TokenBucket:
    """A bucket that holds ``capacity`` and refills to it in a minute. It may go below zero when a debt is charged."""

    __slots__ = ("_level", "_updated_at", "capacity", "per_second")

    def __init__(self, capacity: int, *, time_scale: float, now: float) -> None:
        self.capacity = capacity
        self.per_second = capacity * time_scale / MINUTE_SECONDS
        self._level = float(capacity)
        self._updated_at = now

    def level(self, now: float) -> float:
        """What is in it at ``now``."""
        elapsed = max(0.0, now - self._updated_at)
        self._level = min(float(self.capacity), self._level + elapsed * self.per_second)
        self._updated_at = max(now, self._updated_at)
        return self._level

    def take(self, amount: float, now: float) -> None:
        """Take ``amount`` out, whether it is there or not."""
        self._level = self.level(now) - amount

    def seconds_until(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` is there; the time for a full bucket when it never can be."""
        missing = min(amount, float(self.capacity)) - self.level(now)
        return max(0.0, missing / self.per_second)


class Refusal(msgspec.Struct, frozen=True):
    """A bucket is empty."""

    # requests, input-tokens or output-tokens.
    limit: str
    capacity: int
    retry_after_seconds: float


class RateLimiter:
    """The limits of one platform. ``monotonic`` drives the buckets, ``wall_clock`` (epoch seconds) the headers."""

    def __init__(
        self,
        *,
        limits: RateLimits | None,
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        # By organisation and class, then by the name that a bucket has in the headers.
        self._classes: dict[tuple[str, str], dict[str, TokenBucket]] = {}

    def admit(self, organisation: str, model_class: str, usage: Usage) -> Refusal | None:
        """Take a request and its paid input out of the buckets, or refuse and take nothing."""
        buckets = self._buckets(organisation, model_class)
        now = self._monotonic()
        needs = {
            "requests": 1,
            "input-tokens": usage.input_tokens + usage.cache_write_tokens,
            # The output is not known yet: it is charged when the answer ends, and the debt holds back the next.
            "output-tokens": 1,
        }
        for name, bucket in buckets.items():
            if bucket.level(now) < needs.get(name, 0):
                return Refusal(name, bucket.capacity, bucket.seconds_until(needs[name], now))
        for name in ("requests", "input-tokens"):
            if name in buckets:
                buckets[name].take(needs[name], now)
        return None

    def admit_count(self, organisation: str, model_class: str) -> Refusal | None:
        """Take a count_tokens request out of its own bucket."""
        bucket = self._buckets(organisation, "count." + model_class).get("requests")
        now = self._monotonic()
        if bucket is None:
            return None
        if bucket.level(now) < 1:
            return Refusal("requests", bucket.capacity, bucket.seconds_until(1, now))
        bucket.take(1, now)
        return None

    def charge_output(self, organisation: str, model_class: str, output_tokens: int) -> None:
        """Charge what was generated."""
        bucket = self._buckets(organisation, model_class).get("output-tokens")
        if bucket is not None:
            bucket.take(output_tokens, self._monotonic())

    def headers(self, organisation: str, model_class: str) -> tuple[tuple[str, str], ...]:
        """limit, remaining and reset of each bucket; ``tokens`` is input and output together."""
        buckets = self._buckets(organisation, model_class)
        if not buckets:
            return ()
        now, wall = self._monotonic(), self._wall_clock()
        rows = [
            (name, bucket.capacity, bucket.level(now), bucket.seconds_until(bucket.capacity, now))
            for name, bucket in buckets.items()
        ]
        tokens = [row for row in rows if row[0] != "requests"]
        if tokens:
            capacity, level = sum(row[1] for row in tokens), sum(row[2] for row in tokens)
            rows.append(("tokens", capacity, level, max(row[3] for row in tokens)))
        return tuple(
            header
            for name, capacity, level, seconds in rows
            for header in (
                (f"anthropic-ratelimit-{name}-limit", str(capacity)),
                (f"anthropic-ratelimit-{name}-remaining", str(max(0, math.floor(level)))),
                (f"anthropic-ratelimit-{name}-reset", rfc3339(math.ceil(wall + seconds))),
            )
        )

    def retry_headers(self, refusal: Refusal) -> tuple[tuple[str, str], ...]:
        """retry-after in whole seconds, rounded up; with a scaled minute the milliseconds too."""
        seconds = refusal.retry_after_seconds
        headers = [("retry-after", str(max(1, math.ceil(seconds))))]
        if self._limits is not None and self._limits.time_scale != 1:
            headers.append(("retry-after-ms", str(max(1, math.ceil(seconds * 1000)))))
        return tuple(headers)

    def _buckets(self, organisation: str, model_class: str) -> dict[str, TokenBucket]:
        if self._limits is None:
            return {}
        found = self._classes.get((organisation, model_class))
        if found is None:
            found = _new_buckets(self._limits, model_class, self._monotonic())
            self._classes[organisation, model_class] = found
        return found


def _new_buckets(limits: RateLimits, model_class: str, now: float) -> dict[str, TokenBucket]:
    if model_class.startswith("count."):
        capacities = {"requests": limits.count_requests_per_minute}
    else:
        capacities = {
            "requests": limits.requests_per_minute,
            "input-tokens": limits.input_tokens_per_minute,
            "output-tokens": limits.output_tokens_per_minute,
        }
    return {
        name: TokenBucket(capacity, time_scale=limits.time_scale, now=now)
        for name, capacity in capacities.items()
        if capacity is not None
    }


def rfc3339(epoch_seconds: float) -> str:
    """A moment as ``2026-11-22T22:00:00Z``."""
    moment = datetime.fromtimestamp(epoch_seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
