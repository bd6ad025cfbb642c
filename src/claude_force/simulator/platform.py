"""The state of one simulated platform: its clocks, limits, prompt cache, queued faults and counts."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from claude_force.simulator.errors import ApiError
from claude_force.simulator.prompt_cache import PromptCache
from claude_force.simulator.rate_limits import RateLimiter
from claude_force.simulator.stats import Counters, RequestRecord
from claude_force.simulator.unfinished import Unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from claude_force.simulator.faults import Fault
    from claude_force.simulator.scenarios import Scenario
    from claude_force.simulator.wire import HttpRequest

_SECRET_HEADERS: Final = frozenset({"authorization", "x-api-key", "x-simulator-token"})


class Platform:
    """What the endpoints share. One owner, one loop: nothing in it is locked."""

    def __init__(
        self,
        *,
        scenario: Scenario,
        seed: int,
        required_api_key: str | None,
        keep_requests: int,
        wall_clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.seed = seed
        self.wall_clock = wall_clock
        self.monotonic = monotonic
        self.counters = Counters()
        self.prompt_cache = PromptCache()
        self.unfinished = Unfinished()
        self.kept: deque[RequestRecord] = deque(maxlen=keep_requests)
        self.queued_faults: list[Fault] = []
        self._required_api_key = required_api_key
        self._serial = 0
        self._day = -1
        self._today = datetime.fromtimestamp(0, UTC).date()
        self.use_scenario(scenario)

    def use_scenario(self, scenario: Scenario) -> None:
        """Behave like this from the next request on; the rate limits start full."""
        self.scenario = scenario
        self.limiter = RateLimiter(
            limits=scenario.rate_limits, monotonic=self.monotonic, wall_clock=self.wall_clock
        )

    def reset(self) -> None:
        """As just started: no counts, no cache, full limits, nothing queued or kept. The scenario stays."""
        self.counters.reset()
        self.prompt_cache.clear()
        self.unfinished.clear()
        self.queued_faults.clear()
        self.kept.clear()
        self.use_scenario(self.scenario)

    def today(self) -> date:
        """The date by the wall clock, in UTC."""
        day = int(self.wall_clock() // 86_400)
        if day != self._day:
            self._day = day
            self._today = datetime.fromtimestamp(day * 86_400, UTC).date()
        return self._today

    def next_id(self, prefix: str) -> str:
        """An id that no other thing of this simulator has."""
        self._serial += 1
        return f"{prefix}_sim{self.seed & 0xFFFF:04x}{self._serial:016x}"

    def organisation(self, headers: Mapping[str, str]) -> str:
        """Whose request it is: a digest of its key. Raises 401 without one, or with the wrong one."""
        key = headers.get("x-api-key", "")
        if not key:
            scheme, _, credentials = headers.get("authorization", "").partition(" ")
            key = credentials.strip() if scheme.lower() == "bearer" else ""
        if not key:
            raise ApiError(401, "x-api-key header is required")
        if self._required_api_key is not None and key != self._required_api_key:
            raise ApiError(401, "invalid x-api-key")
        return blake2b(key.encode(), digest_size=8).hexdigest()

    def take_fault(self, path: str, body: bytes) -> Fault | None:
        """The first queued fault for this path and body; it counts down, and leaves the queue at its end."""
        for index, fault in enumerate(self.queued_faults):
            if fault.path != path or (fault.match and fault.match.encode() not in body):
                continue
            if fault.times > 1:
                self.queued_faults[index] = replace(fault, times=fault.times - 1)
            else:
                del self.queued_faults[index]
            return fault
        return None

    def keep(self, request: HttpRequest, body: object) -> None:
        """Remember a request, without its key."""
        if not self.kept.maxlen:
            return
        headers = {n: v for n, v in request.headers.items() if n not in _SECRET_HEADERS}
        self.kept.append(
            RequestRecord(method=request.method, path=request.path, headers=headers, body=body)
        )
