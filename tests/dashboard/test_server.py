"""Who is let in, what is shown where something is wrong, and what is never shown or logged."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.dashboard.conftest import SECRET, row, run_under_way, served

from claude_force import Dashboard
from claude_force.domain.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project
    from tests.dashboard.conftest import Served


def get(port: int, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1.evil.example:1", ""])
@pytest.mark.parametrize("path", ["/", "/calls", "/_nicegui_ws/socket.io/?EIO=4&transport=polling"])
def test_a_request_for_another_host_is_refused(dashboard: Served, host: str, path: str) -> None:
    assert get(dashboard.port, path, Host=host)[0] == 403


def test_a_page_of_another_site_is_refused_also_on_its_socket(dashboard: Served) -> None:
    assert get(dashboard.port, "/", Origin="http://evil.example")[0] == 403
    own = f"http://127.0.0.1:{dashboard.port}"
    assert get(dashboard.port, "/", Origin=own)[0] == 200
    assert upgrade(dashboard.port, own) == "101"
    assert upgrade(dashboard.port, "http://evil.example") == "403"
    assert upgrade(dashboard.port, f"http://127.0.0.1:{dashboard.port + 1}") == "403"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:{port}", "evil.example:{port}"]
)
def test_a_name_that_points_at_this_machine_gets_no_socket(dashboard: Served, host: str) -> None:
    host = host.format(port=dashboard.port)
    assert upgrade(dashboard.port, f"http://{host}", host) == "403"


def upgrade(port: int, origin: str, host: str | None = None) -> str:
    """The status that the server answers to a web socket of a page of this origin."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(
            f"GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host or f'127.0.0.1:{port}'}\r\n"
            f"Origin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        return connection.makefile("rb").readline().split()[1].decode()


def test_the_token_becomes_a_cookie_and_leaves_the_address(dashboard: Served) -> None:
    status, headers, _ = get(dashboard.port, f"/calls?agent=a%26b&token={dashboard.token}")
    assert (status, headers["location"]) == (303, "/calls?agent=a%26b")
    cookie = headers["set-cookie"]
    assert cookie.startswith(f"claude_force_dashboard_{dashboard.port}={dashboard.token};")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


def test_a_wrong_token_is_no_cookie_and_a_redirect_never_leaves_this_server(
    dashboard: Served,
) -> None:
    status, headers, _ = get(dashboard.port, "/?token=guess")
    assert status == 303
    assert "set-cookie" not in headers
    for path in ("//evil.example/", "/\\evil.example/", "/%0d%0aset-cookie:a=b"):
        location = get(dashboard.port, f"{path}?token=guess")[1]["location"]
        assert not location.startswith(("//", "/\\"))
        assert "\n" not in location


def test_an_address_for_a_browser_allows_changes_once(tmp_path: Path) -> None:
    with Dashboard(port=0, state_dir=tmp_path, token="known") as one:
        path = one.url_for_once().removeprefix(one.address.rstrip("/"))
        assert one.token not in path
        cookies = [get(one.port, path)[1].get("set-cookie", "") for _ in range(2)]
    assert cookies[0].startswith(f"claude_force_dashboard_{one.port}=known;")
    assert cookies[1] == ""


def test_every_page_allows_nothing_from_outside(dashboard: Served) -> None:
    for path in ("/", "/calls", "/runs", "/runs/unknown", "/nowhere"):
        policy = get(dashboard.port, path)[1]["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "connect-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "http" not in policy


def test_an_address_that_makes_no_sense_shows_a_page(dashboard: Served) -> None:
    for path in (
        "/?days=-1",
        "/calls?days=x&since=-5&until=99999999999999999999&before=abc&state=odd",
        "/calls?before=9999999999999999999999&agent=%00",
    ):
        assert get(dashboard.port, path)[0] == 200
    status, _, body = get(dashboard.port, "/runs/unknown")
    assert status == 200
    assert "No run is called" in body


def test_no_prompt_or_answer_is_on_a_page_or_in_the_log(tmp_path: Path) -> None:
    with served(tmp_path) as one, run_under_way(tmp_path, "d4e5f6"):
        one.write([row(agent_name="writer")])
        pages = [get(one.port, path)[2] for path in ("/", "/calls", "/runs", "/runs/d4e5f6")]
        assert "flow-d4e5f6" in pages[2]
        one.process.send_signal(signal.SIGINT)
        out, err = one.process.communicate(timeout=30)
        assert one.process.returncode == 0
    for text in (*pages, out, err):
        assert SECRET not in text
    assert one.token not in out + err
    assert err == "The dashboard has stopped.\n"


def test_a_store_that_cannot_be_read_is_said_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "limits.db").write_bytes(b"no database" * 1000)
    with served(tmp_path) as one:
        status, _, body = get(one.port, "/")
        assert status == 200
        assert "limits.db" in body
        assert "Calls per minute" in body
        (tmp_path / "metrics.db").write_bytes(b"no database" * 1000)
        status, _, body = get(one.port, "/calls")
        assert status == 200
        assert "metrics.db" in body


def test_only_loopback_is_served(project: Project) -> None:
    with pytest.raises(InputError, match=r"'192\.0\.2\.1'"):
        Dashboard(host="192.0.2.1")


@pytest.mark.parametrize("token", ["", "a;b", "a&b", "a\r\nb"])
def test_a_token_that_would_break_a_cookie_is_refused(token: str) -> None:
    with pytest.raises(InputError, match="letters, digits"):
        Dashboard(token=token)


def test_a_dashboard_runs_in_a_program_twice_but_not_two_at_a_time(project: Project) -> None:
    script = """
import asyncio, urllib.request
from claude_force import Dashboard
from claude_force.domain.errors import ConfigError

def look(dashboard):
    with urllib.request.urlopen(dashboard.address, timeout=30) as response:
        return b"Calls per minute" in response.read()

with Dashboard(port=0) as dashboard:
    assert look(dashboard)
    try:
        Dashboard(port=0).__enter__()
    except ConfigError as error:
        assert "already" in str(error)
    else:
        raise AssertionError

async def main():
    async with Dashboard(port=0, state_dir=".") as dashboard:
        assert await asyncio.to_thread(look, dashboard)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_port_that_is_taken_is_named(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        said = f"port {port}: Address already in use. Give another port with --port"
        with pytest.raises(ConfigError, match=said), Dashboard(port=port):
            pass


def test_without_the_library_the_extra_is_named(project: Project) -> None:
    script = (
        "import sys; sys.modules['nicegui'] = None\n"
        "from claude_force.cli.main import run\n"
        "sys.exit(run(['dashboard', '--port', '0', '--no-browser']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert "pip install 'claude-force[dashboard]'" in done.stderr
    assert done.returncode == 3


def test_the_library_is_loaded_by_nothing_but_the_command() -> None:
    script = (
        "import sys, asyncio\n"
        "import claude_force\n"
        "from claude_force.cli.main import run\n"
        "run(['dashboard', '--help']); run(['metrics', 'serve', '--help'])\n"
        "sys.exit(any(name in sys.modules for name in ('nicegui', 'uvicorn', 'prometheus_client')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0
