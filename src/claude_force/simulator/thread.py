"""A simulator on a thread of its own, for code that blocks."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from claude_force.simulator.server import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from claude_force.simulator.faults import Fault
    from claude_force.simulator.scenarios import Scenario
    from claude_force.simulator.stats import RequestRecord, SimulatorStats

_T = TypeVar("_T")


class SimulatorThread:
    """``with SimulatorThread() as sim``: a `Simulator` with the same arguments and attributes, from any thread.

    The server runs on its own event loop in a daemon thread; every method hands over to that loop and waits.
    """

    def __init__(
        self,
        *,
        scenario: Scenario | str = "instant",
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        required_api_key: str | None = None,
        control_token: str | None = None,
        keep_requests: int = 0,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._simulator = Simulator(
            scenario=scenario,
            host=host,
            port=port,
            seed=seed,
            required_api_key=required_api_key,
            control_token=control_token,
            keep_requests=keep_requests,
            wall_clock=wall_clock,
            monotonic=monotonic,
        )
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run()), name="claude-force-simulator", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        # Raises here what went wrong there.
        self._loop, self._stop = self._started.result()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server and its thread. Twice is the same as once."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._simulator.port

    @property
    def base_url(self) -> str:
        """Where a client finds it."""
        return self._simulator.base_url

    @property
    def control_token(self) -> str:
        """What the control endpoints ask for."""
        return self._simulator.control_token

    @property
    def scenario(self) -> Scenario:
        """How it behaves now."""
        return self._simulator.scenario

    @property
    def stats(self) -> SimulatorStats:
        """The counts of this moment."""
        return self._on_loop(lambda: self._simulator.stats)

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The kept requests, oldest first."""
        return self._on_loop(lambda: self._simulator.requests)

    def queue_fault(self, fault: Fault) -> None:
        """Show this fault at the next request that it is for."""
        self._on_loop(lambda: self._simulator.queue_fault(fault))

    def use_scenario(self, scenario: Scenario | str) -> None:
        """Behave like this from the next request on."""
        self._on_loop(lambda: self._simulator.use_scenario(scenario))

    def reset(self) -> None:
        """As just started."""
        self._on_loop(self._simulator.reset)

    def _on_loop(self, call: Callable[[], _T]) -> _T:
        result: Future[_T] = Future()

        def run() -> None:
            try:
                result.set_result(call())
            except Exception as exc:  # noqa: BLE001  # handed to the thread that waits for it
                result.set_exception(exc)

        self._loop.call_soon_threadsafe(run)
        return result.result()

    async def _run(self) -> None:
        stop = asyncio.Event()
        try:
            await self._simulator.start()
        except BaseException as exc:  # noqa: BLE001  # handed to the thread that waits for it
            self._started.set_exception(exc)
            return
        self._started.set_result((asyncio.get_running_loop(), stop))
        try:
            await stop.wait()
        finally:
            await self._simulator.aclose()
