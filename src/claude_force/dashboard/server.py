"""Serves the dashboard on loopback."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from claude_force.domain.errors import ConfigError, InputError, OptionalDependencyError
from claude_force.domain.loopback import LOOPBACK

try:
    import uvicorn
    from fastapi import FastAPI
    from nicegui import ui
except ImportError as error:
    raise OptionalDependencyError(
        "The dashboard needs NiceGUI, which is not installed. "
        "Install it with: pip install 'claude-force[dashboard]'"
    ) from error

from claude_force.assembly.limits_place import LimitsPlace
from claude_force.assembly.lookup import find_settings, limits_path, limits_redis_url_of
from claude_force.assembly.metering import METRICS_FILE
from claude_force.config.environment import read_environment
from claude_force.dashboard.frame import ICON
from claude_force.dashboard.guard import Guard
from claude_force.dashboard.pages import register
from claude_force.dashboard.stores import Places, Stores

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

DEFAULT_PORT: Final = 8790
_CLOSE_SECONDS: Final = 2
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+")
# NiceGUI keeps its state for a whole process.
_ONE_AT_A_TIME: Final = threading.Lock()


class Dashboard:
    """``with Dashboard() as dashboard`` serves `dashboard.url` until the end of the block; ``async with`` does the same.

    It runs on an event loop and a thread of its own, and there is one at a time in a process. It reads the stores of
    ``state_dir`` (None: your own), which any process may write meanwhile. Who opens `url` may change something; at
    the same address without its token, everything can only be looked at.

    Args:
        state_dir: the folder of the stores.
        config_path: a claude.json, for the thresholds of alerts; None looks for one from here upwards.
        port: 0 takes any free one.
        host: only loopback.
        token: what allows changes, of letters, digits, ``-`` and ``_``; a random one where none is given.

    Raises:
        ConfigError: on entering, the port is taken.
        InputError: the host is not loopback, or the token has other characters.
        OptionalDependencyError: on importing, the extra ``dashboard`` is not installed.
    """

    def __init__(
        self,
        *,
        state_dir: str | Path | None = None,
        config_path: Path | None = None,
        port: int = DEFAULT_PORT,
        host: str = "127.0.0.1",
        token: str | None = None,
    ) -> None:
        if host not in LOOPBACK:
            raise InputError(
                f"The dashboard cannot listen on {host!r}: it shows what you spend, so it stays on this machine. "
                f"Use {', '.join(LOOPBACK)}; from elsewhere, forward the port by ssh."
            )
        if token is not None and not _TOKEN.fullmatch(token):
            raise InputError(
                "The token of the dashboard becomes part of an address and a cookie: "
                "give letters, digits, '-' and '_' only, or none for a random one."
            )
        self.token = token or os.urandom(16).hex()
        self._once: set[str] = set()
        self._host = host
        self._wanted_port = port
        self._places = _places(state_dir, config_path)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.port = port

    @property
    def address(self) -> str:
        """Where everything can be looked at."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/"

    @property
    def url(self) -> str:
        """Where it can be changed, too: keep it to yourself."""
        return f"{self.address}?token={self.token}"

    def url_for_once(self) -> str:
        """An address like `url` that allows changes to whoever opens it first.

        For the command line of a browser, which other users of the machine can read.
        """
        code = os.urandom(16).hex()
        self._once.add(code)
        return f"{self.address}?token={code}"

    def __enter__(self) -> Self:
        if not _ONE_AT_A_TIME.acquire(blocking=False):
            raise ConfigError("A dashboard is running in this process already; close it first.")
        started: Future[None] = Future()
        try:
            listener = self._listen()
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._run(listener, started)),
                name="claude-force-dashboard",
                daemon=True,
            )
            self._thread.start()
            # Raises here what went wrong there.
            started.result()
        except BaseException:
            _ONE_AT_A_TIME.release()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Stop serving; a second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is None or self._server is None:
            return
        self._server.should_exit = True
        thread.join()
        _ONE_AT_A_TIME.release()

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            listener = socket.create_server((self._host, self._wanted_port), family=family)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"The dashboard cannot listen on {self._host} port {self._wanted_port}: {_reason(error)}. "
                "Give another port with --port (port= in Python); 0 takes a free one."
            ) from error
        self.port = listener.getsockname()[1]
        return listener

    async def _run(self, listener: socket.socket, started: Future[None]) -> None:
        stores = Stores(self._places)
        try:
            guard = Guard(_app(), port=self.port, token=self.token, once=self._once, stores=stores)
            config = uvicorn.Config(
                guard,
                # What it would say of requests has addresses in it.
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=_CLOSE_SECONDS,
            )
            self._server = _Server(config, started)
            # While the browser starts.
            threading.Thread(
                target=stores.warm, name="claude-force-dashboard-warming", daemon=True
            ).start()
            await self._server.serve(sockets=[listener])
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            if not started.done():
                started.set_exception(error)
        finally:
            listener.close()
            stores.close()


class _Server(uvicorn.Server):
    """Tells when it has started."""

    def __init__(self, config: uvicorn.Config, told: Future[None]) -> None:
        super().__init__(config)
        self._told = told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:
            raise ConfigError("The dashboard could not start; see the log for the reason.")
        self._told.set_result(None)


@cache
def _app() -> Any:  # noqa: ANN401 - an ASGI application; the library's types differ from ours in names only
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    register()
    ui.run_with(
        app,
        title="claude-force",
        favicon=ICON,
        # Light or dark as the browser is set.
        dark=None,
        # Said, so that it is in the page: a screen reader would guess it.
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
    )
    return app


def _reason(error: OSError | OverflowError) -> str:
    """In the words of the system alone: what the library adds is said already."""
    number = getattr(error, "errno", None)
    return str(error) if number is None else os.strerror(number)


def _places(state_dir: str | Path | None, config_path: Path | None) -> Places:
    environment = read_environment()
    folder = environment.state_home if state_dir is None else Path(state_dir)
    # A folder that is named stands for itself; our own limits may be shared with other machines.
    server = limits_redis_url_of(None, environment) if state_dir is None else None
    return Places(
        metrics=folder / METRICS_FILE,
        limits=LimitsPlace(limits_path(folder), server),
        runs=folder,
        alerts=find_settings(config_path, environment).metrics.alerts,
    )
