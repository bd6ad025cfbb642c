"""Answers scrapes of Prometheus on loopback."""

from __future__ import annotations

import http.server
import logging
import socket
import threading
from typing import TYPE_CHECKING, Final

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from claude_force.domain.errors import ConfigError, InputError
from claude_force.domain.loopback import LOOPBACK, own_hosts
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from claude_force.metrics.prometheus import StoreCollector

_LOG: Final = logging.getLogger(__name__)

DEFAULT_PORT: Final = 9464
_STALLED_SECONDS: Final = 10


class PrometheusServer:
    """``with PrometheusServer(collector) as server`` answers scrapes of `url` until the end of the block.

    It runs on threads of its own; ``async with`` does the same. A request whose Host is not this machine is refused.

    Args:
        collector: what is scraped; it is closed with the server.
        port: 0 takes any free one.
        host: only loopback.

    Raises:
        ConfigError: on entering, the port is taken.
        InputError: the host is not loopback.
    """

    def __init__(
        self, collector: StoreCollector, *, port: int = DEFAULT_PORT, host: str = "127.0.0.1"
    ) -> None:
        if host not in LOOPBACK:
            raise InputError(
                f"Metrics cannot be served on {host!r}: they say what you spend, so they stay on this machine. "
                f"Use {', '.join(LOOPBACK)}, and an agent of Prometheus on this machine."
            )
        self._collector = collector
        self._host = host
        self.port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """What is to be scraped."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/metrics"

    def __enter__(self) -> Self:
        try:
            self._server = _Server((self._host, self.port), self._collector)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"Metrics cannot be served on {self._host} port {self.port}: {error}. "
                "Give another port, or 0 for a free one."
            ) from error
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="claude-force-prometheus",
            daemon=True,
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import asyncio  # noqa: PLC0415 - a program without a loop needs none

        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Stop serving; a second call does nothing."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()
            self._collector.close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], collector: StoreCollector) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Scrape)
        self.hosts = own_hosts(self.server_address[1])
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(collector)


class _Scrape(http.server.BaseHTTPRequestHandler):
    server: _Server  # type: ignore[mutable-override] # this handler serves no other
    server_version = "claude-force"
    sys_version = ""
    # Of a peer that sends nothing.
    timeout = _STALLED_SECONDS  # type: ignore[mutable-override] # a constant of this handler

    def do_GET(self) -> None:
        """Answer a scrape."""
        if self.headers.get("Host", "") not in self.server.hosts:
            self._answer(403, b"This server answers this machine only.\n")
        elif self.path.split("?")[0] != "/metrics":
            self._answer(404, b"There is /metrics.\n")
        else:
            self._scrape()

    def _scrape(self) -> None:
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        try:
            body = encode(self.server.registry)
        except StorageError as error:
            _LOG.warning("the metrics cannot be scraped", extra={"error": str(error)})
            self._answer(503, b"The store of metrics cannot be read.\n")
            return
        self._answer(200, body, content_type)

    def _answer(
        self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing of each scrape."""
