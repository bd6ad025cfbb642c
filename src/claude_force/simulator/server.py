"""The simulator: a server on a loopback socket that speaks the Messages API."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import ConfigError
from claude_force.simulator.api import Api, max_body_bytes
from claude_force.simulator.control import Control
from claude_force.simulator.http import Connection
from claude_force.simulator.platform import Platform
from claude_force.simulator.scenarios import Scenario, resolve_scenario
from claude_force.simulator.wire import HttpDate

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from claude_force.simulator.faults import Fault
    from claude_force.simulator.stats import RequestRecord, SimulatorStats

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class Simulator:
    """One simulated platform on one port.

    ``async with Simulator() as sim`` listens from the start of the block to its end, which closes every connection.
    ``port`` 0 takes a free one. ``required_api_key`` None takes any key. ``keep_requests`` keeps the parsed bodies of
    so many last requests in ``requests``. ``wall_clock`` gives epoch seconds (dates, headers, batches), ``monotonic``
    seconds from anywhere (rate limits, prompt cache). Not thread-safe; `SimulatorThread` is.
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
        if host not in _LOOPBACK:
            raise ConfigError(
                f"the simulator cannot listen on {host!r}: it takes any key and answers anyone, so it stays on "
                f"this machine. Use {', '.join(_LOOPBACK)}."
            )
        self.control_token = control_token or os.urandom(16).hex()
        self._host = host
        self._wanted_port = port
        self._platform = Platform(
            scenario=resolve_scenario(scenario),
            seed=seed,
            required_api_key=required_api_key,
            keep_requests=keep_requests,
            wall_clock=wall_clock,
            monotonic=monotonic,
        )
        self._api = Api(self._platform, self._control())
        self._date = HttpDate(wall_clock)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen. A port that is taken is a `ConfigError`."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._connection, self._host, self._wanted_port, backlog=1024
            )
        except (OSError, OverflowError) as exc:
            raise ConfigError(
                f"the simulator cannot listen on {self._host} port {self._wanted_port!r}: {exc}. "
                "Give another port, or 0 for a free one."
            ) from exc

    async def aclose(self) -> None:
        """Stop listening, close every connection and wait until nothing runs. Twice is the same as once."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        connections = tuple(self._connections)
        tasks = [connection.task for connection in connections if connection.task is not None]
        for connection in connections:
            connection.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

    @property
    def running(self) -> bool:
        """It listens."""
        return self._server is not None

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise ConfigError("the simulator is not running: enter it with `async with` first.")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def base_url(self) -> str:
        """Where a client finds it: ``http://127.0.0.1:PORT``."""
        host = "[::1]" if self._host == "::1" else self._host
        return f"http://{host}:{self.port}"

    @property
    def scenario(self) -> Scenario:
        """How it behaves now."""
        return self._platform.scenario

    @property
    def stats(self) -> SimulatorStats:
        """The counts of this moment."""
        return self._platform.counters.snapshot(open_connections=len(self._connections))

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The kept requests, oldest first."""
        return tuple(self._platform.kept)

    def queue_fault(self, fault: Fault) -> None:
        """Show this fault at the next request that it is for."""
        self._platform.queued_faults.append(fault)

    def use_scenario(self, scenario: Scenario | str) -> None:
        """Behave like this from the next request on."""
        self._platform.use_scenario(resolve_scenario(scenario))

    def reset(self) -> None:
        """As just started: counts, caches, limits, queued faults, kept requests and batches are gone."""
        self._platform.reset()
        self._api.batches.clear()

    def _control(self) -> Control:
        return Control(
            token=self.control_token,
            stats=lambda: self.stats,
            requests=lambda: self.requests,
            queue_fault=self.queue_fault,
            use_scenario=self.use_scenario,
            reset=self.reset,
        )

    def _connection(self) -> Connection:
        return Connection(
            handle=self._api.handle,
            max_body_bytes=max_body_bytes,
            date=self._date,
            connections=self._connections,
            counters=self._platform.counters,
        )


async def serve(simulator: Simulator, stop: asyncio.Event) -> None:
    """Run a simulator until ``stop`` is set."""
    async with simulator:
        await stop.wait()
