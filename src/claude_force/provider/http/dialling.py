"""Opens a TCP connection to a host: the first of its addresses that answers.

asyncio can do this too, but a caller that is cancelled at the moment in which the connection comes about leaves its
socket open there (Python 3.11 to 3.13, ``staggered_race``).
"""

from __future__ import annotations

import asyncio
import socket
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    # Family, kind, protocol, canonical name, and where; the last differs by family.
    _Address = tuple[int, int, int, str, Any]

# How long an address may take before the next one is tried beside it (RFC 8305), so that a broken IPv6 costs a
# quarter of a second and not the timeout.
_HEAD_START_SECONDS: Final = 0.25


async def dial(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """A connected socket, which is the caller's to close. Cancellation leaves none behind.

    Raises:
        OSError: the name is unknown, or no address answers; the error is that of the first address.
        ValueError: the name cannot be one.
    """
    addresses = await _addresses(loop, host, port)
    if len(addresses) == 1:
        return await _connected(loop, addresses[0])
    return await _race(loop, addresses)


async def _addresses(loop: asyncio.AbstractEventLoop, host: str, port: int) -> Sequence[_Address]:
    try:
        # An address in figures needs no look-up, and no thread for one.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses: list[_Address] = list(found)
    first = [address for address in addresses if address[0] == addresses[0][0]]
    other = [address for address in addresses if address[0] != addresses[0][0]]
    return [address for pair in zip_longest(first, other) for address in pair if address]


async def _connected(loop: asyncio.AbstractEventLoop, address: _Address) -> socket.socket:
    family, kind, protocol, _, where = address
    connecting = socket.socket(family, kind, protocol)
    try:
        connecting.settimeout(0)
        await loop.sock_connect(connecting, where)
    except BaseException:
        connecting.close()
        raise
    return connecting


async def _race(loop: asyncio.AbstractEventLoop, addresses: Sequence[_Address]) -> socket.socket:
    """The first that connects; each has a head start before the next."""
    waiting = list(addresses)
    running: set[asyncio.Task[socket.socket]] = set()
    first_error: BaseException | None = None
    try:
        while waiting or running:
            if waiting:
                running.add(loop.create_task(_connected(loop, waiting.pop(0))))
            done, _ = await asyncio.wait(
                running,
                timeout=_HEAD_START_SECONDS if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in done:
                running.discard(attempt)
                if (error := attempt.exception()) is None:
                    return attempt.result()
                first_error = first_error or error
    finally:
        for attempt in running:
            attempt.cancel()
            attempt.add_done_callback(_discard)
    assert first_error is not None  # noqa: S101 - there was an address, and it has failed
    raise first_error


def _discard(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
