"""TLS: who is trusted, and what is said about who is not. Certificates are made once with openssl."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.domain.errors import CertificateError, TransportError
from claude_force.provider.sdk import AnthropicSdkClient

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli, MakeAsync


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder, and the servers it has signed."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def make(self) -> None:
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test CA"),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign"),
        )

    def sign(self, name: str, *, host: str, dates: tuple[str, ...] = ("-days", "2")) -> None:
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=server"),
        )
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={host}\n")
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-out", f"{name}.pem", "-extfile", f"{name}.ext", *dates),
        )

    def server(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=30
        )


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command makes the certificates, and is not installed")
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.make()
    made.sign("good", host="IP:127.0.0.1,DNS:localhost")
    made.sign("other", host="DNS:other.example")
    # A negative number of days: it ended before it began to be used.
    made.sign("expired", host="IP:127.0.0.1", dates=("-days", "-1"))
    return made


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """OpenSSL trusts this authority, and only it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    return authority


def url_of(server: Any) -> str:
    return f"https://127.0.0.1:{server.port}"


def test_authority_of_ssl_cert_file_is_trusted_and_connections_are_reused(
    lab: Any, trusted: Authority
) -> None:
    async def main() -> None:
        handler = lab.answering(lab.chunked(lab.answer()))
        async with lab.serve(handler, tls=trusted.server("good")) as server:
            client = lab.client(url_of(server))
            for _ in range(3):
                assert (await client.send(lab.request())).text == "fine"
            assert server.connections == 1
            await client.aclose()

    lab.run(main())


@pytest.mark.parametrize(
    ("name", "reason"),
    [("other", "IP address mismatch"), ("expired", "certificate has expired")],
)
def test_wrong_certificate_is_named_and_nothing_is_sent(
    lab: Any, trusted: Authority, name: str, reason: str
) -> None:
    async def main() -> None:
        handler = lab.answering(lab.sized(lab.answer()))
        async with lab.serve(handler, tls=trusted.server(name)) as server:
            client = lab.client(url_of(server))
            with pytest.raises(CertificateError, match=f"TLS failed: .*{reason}"):
                await client.send(lab.request())
            await client.aclose()
            assert server.heads == []

    lab.run(main())


def test_unknown_authority_is_named(
    lab: Any, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    async def main() -> None:
        async with lab.serve(lab.answering(b""), tls=authority.server("good")) as server:
            client = lab.client(url_of(server))
            with pytest.raises(
                CertificateError, match=r"TLS failed: .*unable to get local issuer.*SSL_CERT_FILE"
            ):
                await client.send(lab.request())
            await client.aclose()

    lab.run(main())


def test_wrong_certificate_stops_a_run_and_opens_no_breaker(
    lab: Any, trusted: Authority, make_force: MakeAsync, cli: Cli
) -> None:
    async def main() -> None:
        handler = lab.answering(lab.sized(lab.answer()))
        async with lab.serve(handler, tls=trusted.server("expired")) as server:
            async with make_force(base_url=url_of(server), max_concurrent=2) as force:
                calls = [("alpha", f"item {number}") for number in range(200)]
                outcomes = [one async for one in force.run_many(calls)]
            assert {type(one.error) for one in outcomes} == {CertificateError}
            assert len(outcomes) == 200
            # One each for those that were under way together.
            assert server.connections <= 2
            assert server.heads == []

    lab.run(main())
    assert "healthy" in cli("health", "--check").out


def test_wrong_certificate_is_known_through_the_sdk_too(lab: Any, trusted: Authority) -> None:
    anthropic = pytest.importorskip("anthropic")

    async def main() -> None:
        handler = lab.answering(lab.sized(lab.answer()))
        async with lab.serve(handler, tls=trusted.server("other")) as server:
            sdk = anthropic.AsyncAnthropic(api_key="k", base_url=url_of(server), max_retries=0)
            with pytest.raises(CertificateError, match="certificate is refused"):
                await AnthropicSdkClient(sdk).send(lab.request())
            await sdk.close()
            assert server.heads == []

    lab.run(main())


def test_server_without_tls_is_a_failed_connection(lab: Any, trusted: Authority) -> None:
    async def handle(peer: Any) -> None:
        await peer.send(b"HTTP/1.1 400 Plain HTTP\r\n\r\n")
        await peer.left()

    async def main() -> None:
        async with lab.serve(handle) as server:
            client = lab.client(url_of(server))
            with pytest.raises(TransportError, match=r"No connection to https://.*TLS failed"):
                await client.send(lab.request())
            await client.aclose()

    lab.run(main())


def test_handshake_that_is_never_answered_ends_at_the_connect_timeout(
    lab: Any, trusted: Authority
) -> None:
    async def main() -> None:
        async with lab.serve(lambda peer: peer.left()) as server:
            client = lab.client(url_of(server), connect_timeout_seconds=0.3)
            with pytest.raises(TransportError, match=r"nothing within 0\.3 s"):
                await client.send(lab.request())
            await server.left.wait()
            await client.aclose()

    lab.run(main())


def test_cancelled_handshake_frees_its_socket(lab: Any, trusted: Authority) -> None:
    import asyncio

    async def main() -> None:
        async with lab.serve(lambda peer: peer.left()) as server:
            client = lab.client(url_of(server))
            call = asyncio.ensure_future(client.send(lab.request()))
            await asyncio.sleep(0.1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(server.left.wait(), 5)
            await client.aclose()

    lab.run(main())


# Through a proxy; the other half of the proxies' tests needs no certificate.


async def relay(peer: Any, port: int) -> None:
    """What a proxy does once the tunnel is open."""
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def copy(source: Any, sink: Any) -> None:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.close()

    try:
        await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))
    finally:
        writer.close()


def test_tunnel_carries_tls_to_the_server_and_the_user_to_the_proxy(
    lab: Any, trusted: Authority
) -> None:
    from claude_force.config.proxies import Proxies

    async def main() -> None:
        handler = lab.answering(lab.chunked(lab.answer()))
        async with lab.serve(handler, tls=trusted.server("good")) as server:

            async def proxy(peer: Any) -> None:
                await peer.request()
                await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await relay(peer, server.port)

            async with lab.serve(proxy) as between:
                proxies = Proxies(https=f"http://user:p%40ss@127.0.0.1:{between.port}")
                client = lab.client(url_of(server), proxies=proxies)
                for _ in range(2):
                    assert (await client.send(lab.request())).text == "fine"
                await client.aclose()
                assert between.connections == 1
                [head] = between.heads
                authority = f"127.0.0.1:{server.port}"
                assert head == (
                    f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n"
                    "proxy-authorization: Basic dXNlcjpwQHNz\r\n\r\n"
                )
                assert lab.key not in head
                assert "proxy-authorization" not in "".join(server.heads)
                assert f"authorization: Bearer {lab.key}" in server.heads[0]

    lab.run(main())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n", "answered with status 407"),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", "answered with status 500"),
        (b"", "closed the connection"),
        (b"what is this\r\n\r\n", "HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "TLS handshake|EOF|[Rr]eset|closed"),
    ],
)
def test_proxy_that_opens_no_tunnel_is_named(
    lab: Any, trusted: Authority, answer: bytes, reason: str
) -> None:
    from claude_force.config.proxies import Proxies

    async def main() -> None:
        async with lab.serve(lab.answering(answer, close=True)) as between:
            proxies = Proxies(https=f"http://user:secret@127.0.0.1:{between.port}")
            client = lab.client("https://127.0.0.1:9", proxies=proxies)
            with pytest.raises(TransportError, match=reason) as caught:
                await client.send(lab.request())
            assert f"through the proxy 127.0.0.1:{between.port}" in str(caught.value)
            assert "secret" not in str(caught.value)
            await client.aclose()

    lab.run(main())


def test_proxy_that_never_answers_ends_at_the_connect_timeout(lab: Any, trusted: Authority) -> None:
    from claude_force.config.proxies import Proxies

    async def main() -> None:
        async with lab.serve(lambda peer: peer.left()) as between:
            proxies = Proxies(https=between.url)
            client = lab.client("https://127.0.0.1:9", proxies=proxies, connect_timeout_seconds=0.2)
            with pytest.raises(TransportError, match=r"nothing within 0\.2 s, through the proxy"):
                await client.send(lab.request())
            await between.left.wait()
            await client.aclose()

    lab.run(main())
