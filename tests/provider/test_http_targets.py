"""Where requests go: base URLs, proxies, keys, and the racing of addresses."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from claude_force.config.proxies import Proxies
from claude_force.domain.errors import ConfigError, ServiceError, TransportError
from claude_force.provider.http.dialling import dial
from claude_force.provider.http.target import parse_target
from claude_force.simulator import Simulator


@pytest.mark.parametrize(
    ("base_url", "line", "host"),
    [
        ("https://api.anthropic.com", "/v1/messages", "api.anthropic.com"),
        ("https://api.anthropic.com/", "/v1/messages", "api.anthropic.com"),
        ("https://api.anthropic.com/v1", "/v1/messages", "api.anthropic.com"),
        ("https://gateway.example/claude/v1/", "/claude/v1/messages", "gateway.example"),
        ("http://localhost:8787", "/v1/messages", "localhost:8787"),
        ("http://host:80", "/v1/messages", "host"),
        ("https://host:80", "/v1/messages", "host:80"),
        ("HTTP://[::1]:8787", "/v1/messages", "[::1]:8787"),
        ("http://host.", "/v1/messages", "host."),
    ],
)
def test_base_url_decides_line_and_host(base_url: str, line: str, host: str) -> None:
    head = parse_target(base_url, Proxies()).head("POST", "/v1/messages", "x: y\r\n")
    assert head == f"POST {line} HTTP/1.1\r\nhost: {host}\r\nx: y\r\n"


@pytest.mark.parametrize(
    "base_url",
    [
        *("", "api.anthropic.com", "ftp://host", "https://", "https:///v1", "http://host:port"),
        *("http://host:99999", "http://host:0", "http://[::1", "http://a b", "http://höst"),
        *("http://host/\r\nx: y", "http://a..b", "http://.a", f"http://{'a' * 64}.example"),
        *("http://user:hunter2@host", "http://host?key=hunter2", "http://host#hunter2"),
    ],
)
def test_base_url_that_cannot_be_used_is_refused_without_its_secrets(
    lab: Any, base_url: str
) -> None:
    with pytest.raises(ConfigError, match=r"expected something like https://api\.") as caught:
        lab.client(base_url)
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "key", ["", "sk-hunter2\n", "sk hunter2", "sk-hünter2", "sk-hunter2\x00", "hunter2\r\nx: y"]
)
def test_key_that_cannot_be_a_header_is_refused_and_not_shown(lab: Any, key: str) -> None:
    with pytest.raises(ConfigError, match="The API key is empty or holds characters") as caught:
        lab.client("https://api.anthropic.com", api_key=key)
    assert not key or key not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_ipv6_literal_is_reached(lab: Any) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")

    async def main() -> None:
        async with Simulator(host="::1", keep_requests=1) as sim:
            client = lab.client(sim.base_url)
            assert (await client.send(lab.request())).complete
            assert sim.requests[0].headers["host"] == f"[::1]:{sim.port}"
            await client.aclose()

    lab.run(main())


def test_name_is_looked_up_and_reached(lab: Any) -> None:
    async def main() -> None:
        async with Simulator() as sim:
            client = lab.client(f"http://localhost:{sim.port}/v1")
            assert (await client.send(lab.request())).complete
            await client.aclose()

    lab.run(main())


def test_unknown_name_is_a_failed_connection(lab: Any) -> None:
    async def main() -> None:
        client = lab.client("http://no-such-host.invalid")
        with pytest.raises(TransportError, match=r"http://no-such-host\.invalid \(Name or service"):
            await client.send(lab.request())
        await client.aclose()

    with asyncio.Runner(loop_factory=NoAddresses) as runner:
        runner.run(main())


class NoAddresses(asyncio.SelectorEventLoop):
    """A loop that finds no address for any name: a test asks no name server."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class TwoAddresses(asyncio.SelectorEventLoop):
    """A loop that finds these addresses for every name."""

    addresses: tuple[tuple[str, int], ...] = ()

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)
            for where in self.addresses
        ]


def dialled(*ports: int, cancel_after_turns: int | None = None) -> int:
    """The port of the address that answered first."""
    loop = TwoAddresses()
    loop.addresses = tuple(("127.0.0.1", port) for port in ports)

    async def main() -> int:
        call = asyncio.ensure_future(dial(loop, "two.example", 1))
        if cancel_after_turns is not None:
            for _ in range(cancel_after_turns):
                await asyncio.sleep(0)
            call.cancel()
        connected = await call
        try:
            return int(connected.getpeername()[1])
        finally:
            connected.close()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main())


def test_next_address_is_tried_when_one_refuses_or_does_not_answer() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as good,
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.socket() as first,
        socket.socket() as second,
        socket.socket() as closed,
    ):
        closed.bind(("127.0.0.1", 0))
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        port, silent, refusing = (s.getsockname()[1] for s in (good, full, closed))
        assert dialled(port, refusing) == port
        assert dialled(refusing, port) == port
        assert dialled(silent, port) == port
        with pytest.raises(ConnectionRefusedError):
            dialled(refusing, refusing)


def test_race_that_is_cancelled_leaves_no_socket(lab: Any) -> None:
    import contextlib

    with socket.create_server(("127.0.0.1", 0), backlog=100) as good:
        port = good.getsockname()[1]
        before = lab.descriptors()
        for turns in range(12):
            with contextlib.suppress(asyncio.CancelledError):
                dialled(port, port, cancel_after_turns=turns)
        assert lab.descriptors() == before


# Proxies for http: the request itself goes to the proxy.


def test_proxy_is_asked_for_the_absolute_address(lab: Any) -> None:
    async def main() -> None:
        async with lab.serve(lab.answering(lab.sized(lab.answer()))) as between:
            proxies = Proxies(http=f"http://user:p%40ss@127.0.0.1:{between.port}")
            client = lab.client("http://api.example:81/path", proxies=proxies)
            for _ in range(2):
                assert (await client.send(lab.request())).text == "fine"
            await client.aclose()
            lines = between.heads[0].split("\r\n")
            assert lines[:3] == [
                "POST http://api.example:81/path/v1/messages HTTP/1.1",
                "host: api.example:81",
                "proxy-authorization: Basic dXNlcjpwQHNz",
            ]
            assert between.connections == 1

    lab.run(main())


def test_proxy_without_a_user_gets_no_authorization(lab: Any) -> None:
    async def main() -> None:
        async with lab.serve(lab.answering(lab.sized(lab.answer()))) as between:
            client = lab.client(
                "http://api.example", proxies=Proxies(all=f"127.0.0.1:{between.port}")
            )
            await client.send(lab.request())
            await client.aclose()
            assert "proxy-authorization" not in between.heads[0]

    lab.run(main())


def test_proxy_that_refuses_is_named(lab: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

        async def main() -> None:
            proxies = Proxies(http=f"http://127.0.0.1:{port}")
            client = lab.client("http://api.example", proxies=proxies)
            with pytest.raises(TransportError, match=f"through the proxy 127.0.0.1:{port}"):
                await client.send(lab.request())
            await client.aclose()

        lab.run(main())


def test_refusal_of_a_plain_proxy_is_an_error_with_its_status(lab: Any) -> None:
    async def main() -> None:
        refusal = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"
        async with lab.serve(lab.answering(refusal)) as between:
            client = lab.client("http://api.example", proxies=Proxies(http=between.url))
            with pytest.raises(ServiceError) as caught:
                await client.send(lab.request())
            assert caught.value.status == 502
            await client.aclose()

    lab.run(main())


@pytest.mark.parametrize(
    "proxy",
    ["socks5://user:hunter2@host:1080", "https://host:443", "http://", "http://hunter2@h:port"],
)
def test_proxy_of_another_kind_is_refused_without_its_secrets(lab: Any, proxy: str) -> None:
    with pytest.raises(ConfigError, match="The proxy of the environment") as caught:
        lab.client("https://api.anthropic.com", proxies=Proxies(all=proxy))
    assert "hunter2" not in str(caught.value)


def test_proxy_of_the_environment_carries_the_calls_of_the_orchestrator(
    lab: Any, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from claude_force import AsyncAgentOrchestrator

    async def main() -> None:
        async with (
            lab.serve(lab.answering(lab.sized(lab.answer()))) as between,
            Simulator() as direct,
        ):
            monkeypatch.setenv("http_proxy", between.url)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            options = {"api_key": lab.key, "base_url": "http://api.example", "enable_cache": False}
            async with AsyncAgentOrchestrator(**options) as force:
                assert await force.execute_agent("alpha", "Say it.") == "fine"
            assert between.heads[0].startswith("POST http://api.example/v1/messages HTTP/1.1\r\n")
            monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
            options["base_url"] = direct.base_url
            async with AsyncAgentOrchestrator(**options) as force:
                assert "no model" in await force.execute_agent("alpha", "Say it.")
            assert (between.connections, direct.stats.requests) == (1, 1)

    lab.run(main())
