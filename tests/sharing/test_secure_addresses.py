"""Servers that want TLS, a user and a password, with no more rights than are needed."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from claude_force.assembly.meeting import open_day_accounts, open_limits
from claude_force.resilience.redis_view import read_redis_state
from claude_force.resilience.sharing import Report
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Process

USER, PASSWORD = "force", "hunter2"
# What docs/limits.md tells an administrator to allow.
RIGHTS = "~claude-force:* +@read +@write +@connection +@scripting +@transaction +time +info"


@dataclass(frozen=True)
class SecureServer:
    """Where it listens, and who vouches for it."""

    port: int
    authority: Path

    def url(
        self, *, password: str = PASSWORD, host: str = "127.0.0.1", trusted: bool = True
    ) -> str:
        options = f"?ssl_ca_certs={self.authority}" if trusted else ""
        return f"rediss://{USER}:{password}@{host}:{self.port}/0{options}"


def make_certificates(folder: Path) -> None:
    """An authority, and a server whom it trusts to be 127.0.0.1."""

    def openssl(*arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60
        )

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        *(*new, "-x509", "-days", "2", "-subj", "/CN=Authority of the tests"),
        *("-keyout", "ca.key", "-out", "ca.crt"),
        *("-addext", "keyUsage=critical,keyCertSign"),
    )
    openssl(*new, "-subj", "/CN=redis", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        *("x509", "-req", "-days", "2", "-in", "server.csr", "-extfile", "names"),
        *("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "server.crt"),
    )


@pytest.fixture(scope="module")
def secure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureServer]:
    """A real server that speaks TLS only, and knows one user."""
    program = shutil.which("redis-server")
    if program is None or shutil.which("openssl") is None:
        pytest.skip("no redis-server of the system, or no openssl")
    folder = tmp_path_factory.mktemp("secure")
    make_certificates(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    (folder / "redis.conf").write_text(
        f"bind 127.0.0.1\nport 0\ntls-port {port}\ntls-auth-clients no\n"
        "tls-cert-file server.crt\ntls-key-file server.key\ntls-ca-cert-file ca.crt\n"
        f'save ""\nappendonly no\nuser default off\nuser {USER} on >{PASSWORD} {RIGHTS}\n'
    )
    server = subprocess.Popen(
        [program, "redis.conf"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    found = SecureServer(port, folder / "ca.crt")
    try:
        wait_until_up(server, found)
        yield found
    finally:
        server.kill()
        server.communicate()


def wait_until_up(server: subprocess.Popen[bytes], found: SecureServer) -> None:
    context = ssl.create_default_context(cafile=str(found.authority))
    deadline = time.monotonic() + 20
    while True:
        if server.poll() is not None:
            said = server.communicate()[0].decode()
            assert "Bad directive" in said, said
            pytest.skip("the system's redis-server was built without TLS")
        try:
            with (
                socket.create_connection(("127.0.0.1", found.port), timeout=1) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1"),
            ):
                return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_limits_breakers_and_budgets_work_over_tls_with_a_user_of_few_rights(
    secure_server: SecureServer, tmp_path: Path
) -> None:
    url = secure_server.url()
    limits, breakers = open_limits(tmp_path, url)
    limits.exchange(Report(in_flight=1, waiting=0, classes={}))
    assert breakers.change("m", lambda state: state).failures == 0
    assert [one.in_flight for one in read_redis_state(url).processes] == [1]
    limits.close()
    accounts = open_day_accounts(tmp_path, url)
    reservation = accounts.reserve(
        Decimal("0.01"), Decimal(1), at=datetime(2026, 11, 22, 12, tzinfo=UTC)
    )
    accounts.settle(reservation, Decimal("0.005"))
    accounts.close()
    # Nothing of it fell back to this machine.
    assert not (tmp_path / "limits.db").exists()


def test_a_run_shares_answers_and_limits_with_an_authority_from_the_environment(
    secure_server: SecureServer, process: Process, tmp_path: Path
) -> None:
    results = []
    for machine in ("one", "two"):
        environment = {
            "CLAUDE_FORCE_REDIS_URL": secure_server.url(trusted=False),
            "SSL_CERT_FILE": str(secure_server.authority),
            "CLAUDE_CACHE_SECRET": "of both machines",
            "XDG_CACHE_HOME": str(tmp_path / machine),
            "XDG_STATE_HOME": str(tmp_path / machine),
        }
        run = process("run", "agent", "alpha", "--task", "over TLS", "--json", env=environment)
        assert run.code == 0, run.err
        assert "Warning" not in run.err
        results.append(run.json)
    assert results[0]["cached"] is None
    assert results[1]["cached"]["tier"] == "redis"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ({"password": "wrong"}, "AuthenticationError"),
        ({"trusted": False}, "ConnectionError"),
        ({"host": "localhost"}, "ConnectionError"),
    ],
    ids=["a wrong password", "an authority that is not trusted", "a certificate of another name"],
)
def test_a_server_is_left_alone_with(
    secure_server: SecureServer,
    url: dict[str, str | bool],
    why: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address = secure_server.url(**url)  # type: ignore[arg-type] # one option of its own each
    with caplog.at_level(logging.DEBUG, "claude_force"), pytest.raises(StorageError) as refused:
        read_redis_state(address)
    assert why in caplog.text
    for told in (caplog.text, str(refused.value)):
        assert "wrong" not in told
        assert PASSWORD not in told
    limits, _ = open_limits(tmp_path, address)
    limits.exchange(Report(in_flight=1, waiting=0, classes={}))
    limits.close()
    # It went on alone.
    assert (tmp_path / "limits.db").exists()


def test_a_certificate_of_another_name_is_taken_where_the_address_says_so(
    secure_server: SecureServer,
) -> None:
    address = secure_server.url(host="localhost") + "&ssl_check_hostname=false"
    assert read_redis_state(address).healthy


def test_nobody_speaks_to_it_in_the_clear(secure_server: SecureServer) -> None:
    with pytest.raises(StorageError):
        read_redis_state(secure_server.url().replace("rediss://", "redis://").partition("?")[0])
