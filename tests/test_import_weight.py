"""Which modules a command may load. Start-up time is imports; here they are counted by name, not by the clock."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Each costs between ten milliseconds and a second and a half; nothing but what needs it may load it.
NEVER_AT_START = frozenset(
    {
        "anthropic",
        "anyio",
        "email",
        "genai_prices",
        "httpx2",
        "importlib.metadata",
        "jinja2",
        "pathspec",
        "pydantic",
        "rich",
        "tempfile",
        "unittest",
        "yaml",
    }
)
# What a call needs and a command without one does not.
OF_A_CALL = frozenset(
    {
        "asyncio",
        "claude_force.orchestrator",
        "claude_force.provider",
        "claude_force.simulator",
        "concurrent.futures",
        "http",
        "httptools",
        "logging",
        "msgspec",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
    }
)
# The command line that is given to the trace follows its file. An import is noted when it begins.
TRACE = """
import sys, time
imports = []
class Watch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        imports.append((time.monotonic_ns(), name))
sys.meta_path.insert(0, Watch)
from claude_force.cli.main import run
code = run(sys.argv[2:])
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.writelines(f"{when} {name}\\n" for when, name in imports.copy())
sys.exit(code)
"""
ANSWER = b"".join(
    b"data: %b\n\n" % data
    for data in (
        b'{"type":"message_start","message":{"id":"msg_1","model":"claude-sonnet-5","usage":{"input_tokens":9}}}',
        b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Looks right."}}',
        b'{"type":"content_block_stop","index":0}',
        b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}',
        b'{"type":"message_stop"}',
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A command that has run."""

    stdout: str
    # Modules whose import began, with the monotonic time in nanoseconds.
    imports: tuple[tuple[int, str], ...]

    def names(self) -> set[str]:
        return {name for _, name in self.imports}


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    folder = tmp_path / "agents"
    folder.mkdir()
    for name in ("reviewer", "writer"):
        folder.joinpath(f"{name}.md").write_text(
            f'---\nname: {name}\ndescription: "Works: on text."\ntools: Read, Grep\nmodel: sonnet\n---\n\nWork.\n',
            encoding="utf-8",
        )
    return folder


def traced(tmp_path: Path, *arguments: str) -> Trace:
    report = tmp_path / "imports.txt"
    done = subprocess.run(
        [sys.executable, "-c", TRACE, str(report), *arguments],
        env={
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(tmp_path),
            "ANTHROPIC_API_KEY": "sk-test",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (line.split(" ", 1) for line in report.read_text(encoding="utf-8").splitlines())
    return Trace(stdout=done.stdout, imports=tuple((int(when), name) for when, name in lines))


@contextmanager
def answering_once() -> Iterator[tuple[str, list[int]]]:
    """A server for one request, and the monotonic times at which parts of it arrived."""
    arrivals: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                request = b""
                while b'"stream":true' not in request:
                    request += connection.recv(65_536)
                    arrivals.append(time.monotonic_ns())
                head = (
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
                )
                connection.sendall(head + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", arrivals
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("run", "--help")], ids=" ".join
)
def test_help_and_version_load_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    loaded = traced(tmp_path, *arguments).names()
    assert "click" in loaded
    assert loaded & (NEVER_AT_START | OF_A_CALL | {"json", "decimal"}) == set()


def test_a_list_of_agents_loads_nothing_of_a_call_and_no_yaml_library(
    tmp_path: Path, agents: Path
) -> None:
    trace = traced(tmp_path, "agents", "list", "--agents", str(agents))
    assert "reviewer" in trace.stdout
    assert trace.names() & (NEVER_AT_START | OF_A_CALL) == set()


def test_a_call_loads_nothing_before_its_first_byte_that_the_request_does_not_need(
    tmp_path: Path, agents: Path
) -> None:
    with answering_once() as (base_url, arrivals):
        trace = traced(tmp_path, *_run_agent(agents, base_url))
    assert "Looks right." in trace.stdout
    before = {name for when, name in trace.imports if when < arrivals[0]}
    after = {name for when, name in trace.imports if when > arrivals[0]}
    assert "httptools" in before
    assert before & NEVER_AT_START == set()
    # The price list is loaded while the answer is on its way.
    assert "genai_prices" in after


def test_a_cache_hit_loads_no_prices(tmp_path: Path, agents: Path) -> None:
    with answering_once() as (base_url, _):
        traced(tmp_path, *_run_agent(agents, base_url))
    # Nothing listens there any more: only the cache can answer.
    hit = traced(tmp_path, *_run_agent(agents, base_url))
    assert "Looks right." in hit.stdout
    assert hit.names() & NEVER_AT_START == set()


def _run_agent(agents: Path, base_url: str) -> tuple[str, ...]:
    call = ("run", "agent", "reviewer", "--task", "Review this.")
    return (*call, "--agents", str(agents), "--base-url", base_url)
