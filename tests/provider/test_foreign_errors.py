"""No error of the libraries below, or of the system, reaches whoever calls the direct client."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
from typing import TYPE_CHECKING, Any

import httptools
import msgspec
import pytest

from claude_force.domain.errors import CallError, TransportError
from claude_force.provider.wire import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSLATED: list[tuple[Any, tuple[type[BaseException], ...]]] = [
    (msgspec, MALFORMED),
    (httptools, (httptools.HttpParserError, httptools.HttpParserUpgrade)),
]


def exceptions_of(module: Any) -> list[type[BaseException]]:
    found = [one for _, one in inspect.getmembers(module, inspect.isclass)]
    return [one for one in found if issubclass(one, BaseException)]


def below(base: type[BaseException]) -> Iterator[type[BaseException]]:
    """A class and all that derive from it, of the standard library."""
    yield base
    for one in base.__subclasses__():
        if one.__module__.partition(".")[0] in {"builtins", "ssl", "socket", "_ssl", "asyncio"}:
            yield from below(one)


# Whatever connecting may raise: errors of the system, of names, of TLS.
OF_CONNECTING = sorted(
    {*below(OSError), ssl.SSLCertVerificationError, socket.gaierror, TimeoutError, UnicodeError},
    key=lambda one: one.__name__,
)


@pytest.mark.parametrize(("module", "caught"), TRANSLATED, ids=["msgspec", "httptools"])
def test_every_exception_of_a_parser_is_one_that_we_translate(
    module: Any, caught: tuple[type[BaseException], ...]
) -> None:
    classes = exceptions_of(module)
    assert len(classes) >= 3
    assert [one for one in classes if not issubclass(one, caught)] == []


@pytest.mark.parametrize("where", ["sock_connect", "create_connection"])
def test_every_error_of_connecting_is_a_transport_error(
    lab: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    raised: list[BaseException] = []

    async def fail(*_: object, sock: Any = None, **__: object) -> None:
        if sock is not None:
            sock.close()
        raise raised[-1]

    monkeypatch.setattr(asyncio.SelectorEventLoop, where, fail)

    async def main() -> None:
        async with lab.serve(lab.answering(b"")) as server:
            client = lab.client(f"http://127.0.0.1:{server.port}")
            for error_class in OF_CONNECTING:
                raised.append(instance(error_class))
                with pytest.raises(CallError) as caught:
                    await client.send(lab.request())
                assert isinstance(caught.value, TransportError), error_class
            await client.aclose()

    lab.run(main())
    assert len(raised) > 20


def instance(error_class: type[BaseException]) -> BaseException:
    if issubclass(error_class, UnicodeError):
        return UnicodeError("label too long")
    return error_class(1, "of the test")
