"""Connections to one target: made when needed, kept while idle, per event loop."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from claude_force.provider.http.dialling import dial
from claude_force.provider.http.errors import (
    BrokenConnectionError,
    ConnectFailedError,
    HttpError,
    UntrustedServerError,
    reason_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from claude_force.provider.http.connection import Connection
    from claude_force.provider.http.target import Target

# Load balancers drop idle connections after a minute or more; one that is younger is worth trying.
_MAX_IDLE_SECONDS: Final = 45.0


class ConnectionPool:
    """Connections to ``target``, for any number of event loops and threads.

    Args:
        target: where to connect.
        connect_timeout_seconds: for name, connection, proxy and TLS together.
        idle_timeout_seconds: the longest silence while a response is awaited.
    """

    def __init__(
        self, target: Target, *, connect_timeout_seconds: float, idle_timeout_seconds: float
    ) -> None:
        self.target = target
        self._connect_timeout_seconds = connect_timeout_seconds
        self._idle_timeout_seconds = idle_timeout_seconds
        # Idle connections with the time of their release, the latest last. A connection belongs to its loop.
        self._idle: dict[asyncio.AbstractEventLoop, list[tuple[float, Connection]]] = {}
        # One suspended generator a loop: the loop closes it when it shuts down, and with it the idle connections.
        self._guards: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        self._in_use: set[tuple[asyncio.AbstractEventLoop, Connection]] = set()
        # Protects the two collections between threads; held for a few instructions.
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._is_closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for one exchange. Leaving by an exception, cancellation too, closes its socket at once.

        Raises:
            ConnectFailedError: none could be made.
            BrokenConnectionError: the pool was closed in the meantime.
        """
        loop = asyncio.get_running_loop()
        if loop not in self._guards:
            self._guards[loop] = self._guard(loop)
            await anext(self._guards[loop])
        connection = self._take_idle(loop) or await self._connect(loop)
        entry = (loop, connection)
        with self._lock:
            self._in_use.add(entry)
        if self._is_closed:
            # Closed while it was connecting: `aclose` could not see it.
            connection.abort()
        try:
            yield connection
        except BaseException:
            connection.abort()
            raise
        else:
            if connection.release():
                self._keep(loop, connection)
        finally:
            with self._lock:
                self._in_use.discard(entry)

    async def aclose(self) -> None:
        """Close every connection, idle or in use, in whichever loop it lives."""
        here = asyncio.get_running_loop()
        self._is_closed = True
        with self._lock:
            entries = [
                (loop, connection) for loop, idle in self._idle.items() for _, connection in idle
            ]
            entries += self._in_use
            self._idle.clear()
        for loop, connection in entries:
            if loop is here:
                connection.abort()
            else:
                # A loop that has ended has closed its connections itself.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(connection.abort)
        if (guard := self._guards.pop(here, None)) is not None:
            await guard.aclose()

    async def _guard(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._lock:
                idle = self._idle.pop(loop, [])
                self._guards.pop(loop, None)
            for _, connection in idle:
                connection.abort()
            # An aborted transport lets go of its socket in the next turn of the loop, a TLS one in the turn after.
            for _ in range(3):
                await asyncio.sleep(0)

    def _keep(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        now = loop.time()
        with self._lock:
            idle = self._idle.setdefault(loop, [])
            idle.append((now, connection))
            # What a burst has left behind is closed by and by, the oldest first.
            while idle[0][0] < now - _MAX_IDLE_SECONDS:
                idle.pop(0)[1].abort()

    def _take_idle(self, loop: asyncio.AbstractEventLoop) -> Connection | None:
        oldest = loop.time() - _MAX_IDLE_SECONDS
        with self._lock:
            idle = self._idle.get(loop)
            while idle:
                since, connection = idle.pop()
                if connection.is_usable and since >= oldest:
                    return connection
                connection.abort()
        return None

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> Connection:
        target = self.target
        try:
            async with asyncio.timeout(self._connect_timeout_seconds):
                tls = await self._tls_context() if target.scheme == "https" else None
                if target.proxy is None:
                    return await self._connect_directly(loop, tls)
                return await self._connect_through_proxy(loop, tls)
        except TimeoutError as error:
            raise ConnectFailedError(
                f"nothing within {self._connect_timeout_seconds:g} s{self._way()}"
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise UntrustedServerError(
                getattr(error, "verify_message", "") or str(error)
            ) from error
        except ssl.SSLError as error:
            raise ConnectFailedError(
                f"TLS failed: {getattr(error, 'reason', '') or error}"
            ) from error
        except OSError as error:
            raise ConnectFailedError(f"{reason_of(error)}{self._way()}") from error
        except ValueError as error:
            raise ConnectFailedError(f"{error}{self._way()}") from error
        except UntrustedServerError:
            raise
        except HttpError as error:
            raise ConnectFailedError(f"{error}{self._way()}") from error

    def _way(self) -> str:
        proxy = self.target.proxy
        return f", through the proxy {proxy.host}:{proxy.port}" if proxy else ""

    def _new_connection(self, loop: asyncio.AbstractEventLoop) -> Connection:
        # The parser comes with it, which a call that the cache answers does without.
        from claude_force.provider.http.connection import Connection  # noqa: PLC0415 - start-up time

        return Connection(loop, self._idle_timeout_seconds)

    async def _connect_directly(
        self, loop: asyncio.AbstractEventLoop, tls: ssl.SSLContext | None
    ) -> Connection:
        _, connection = await loop.create_connection(
            lambda: self._new_connection(loop),
            sock=await dial(loop, self.target.host, self.target.port),
            ssl=tls,
            server_hostname=self.target.host if tls else None,
        )
        return connection

    async def _connect_through_proxy(
        self, loop: asyncio.AbstractEventLoop, tls: ssl.SSLContext | None
    ) -> Connection:
        target, proxy = self.target, self.target.proxy
        assert proxy is not None  # noqa: S101 - the caller has asked
        transport, connection = await loop.create_connection(
            lambda: self._new_connection(loop),
            sock=await dial(loop, proxy.host, proxy.port),
        )
        if tls is None:
            return connection
        try:
            await self._open_tunnel(connection)
            connection.detach()
            tunnelled = self._new_connection(loop)
            secure = await loop.start_tls(transport, tunnelled, tls, server_hostname=target.host)
        except BaseException:
            connection.abort()
            transport.abort()
            raise
        if secure is None:
            raise BrokenConnectionError("the tunnel closed during the TLS handshake")
        tunnelled.connection_made(secure)
        return tunnelled

    async def _open_tunnel(self, connection: Connection) -> None:
        target, proxy = self.target, self.target.proxy
        host = f"[{target.host}]" if ":" in target.host else target.host
        authority = f"{host}:{target.port}"
        head = f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n"
        if proxy is not None and proxy.authorization:
            head += f"proxy-authorization: {proxy.authorization}\r\n"
        status, _ = await connection.send(f"{head}\r\n".encode("ascii"), b"")
        if status != 200:
            raise BrokenConnectionError(f"CONNECT is answered with status {status}")

    async def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            # Reads the authorities from disk; SSL_CERT_FILE and SSL_CERT_DIR are honoured by OpenSSL.
            context = await asyncio.to_thread(ssl.create_default_context)
            context.set_alpn_protocols(["http/1.1"])
            self._tls = context
        return self._tls
