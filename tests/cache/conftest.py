"""What the tests of the cache share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_force.cache.disk_tier import DATABASE_FILE, DiskTier
from claude_force.cache.entries import CacheEntry, EntrySigner
from claude_force.cache.fingerprint import CacheKey
from claude_force.cache.redis_tier import RedisTier
from claude_force.storage.redis_link import RedisLink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import RedisServer

MEGABYTE = 1024 * 1024


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
