"""The prompt cache of one simulated platform: who reads, who writes, and what each pays."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from claude_force.domain.models import prompt_cache_minimum
from claude_force.domain.usage import Usage

if TYPE_CHECKING:
    from claude_force.simulator.prompts import Prompt

LIFETIME_SECONDS: Final = {"5m": 300.0, "1h": 3600.0}
# Blocks before a breakpoint in which an entry that an earlier request wrote is still found.
LOOK_BACK_BLOCKS: Final = 20
_SWEEP_ABOVE_ENTRIES: Final = 10_000

_Key = tuple[str, str, bytes]


class _Entry(msgspec.Struct):
    ttl: str
    expires_at: float


class _Point(msgspec.Struct, frozen=True):
    # The prefix up to here, and what the block behind it asks for.
    key: _Key
    tokens: int
    ttl: str | None


class CacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """What one request does with the cache."""

    # Input only; `output_tokens` is 0.
    usage: Usage
    # What the request reads, and so renews.
    read: tuple[_Key, ...]
    # What becomes readable when the response begins.
    written: tuple[tuple[_Key, str], ...]
    started_at: float


class PromptCache:
    """Entries by organisation, model and exact prefix.

    Only a request whose response has begun leaves entries behind, so equal requests that are sent at the same time
    all pay for the write. Not thread-safe: it lives on the simulator's loop.
    """

    def __init__(self) -> None:
        self._entries: dict[_Key, _Entry] = {}

    def look_up(self, prompt: Prompt, *, organisation: str, now: float) -> CacheUse:
        """Split the prompt into read, written and uncached tokens; changes nothing."""
        if not prompt.marked:
            usage = Usage(input_tokens=prompt.total_tokens)
            return CacheUse(usage=usage, read=(), written=(), started_at=now)
        points = _points(prompt, organisation)
        read = self._longest_match(points, now)
        written, tokens_by_ttl = _writes(points, read, prompt_cache_minimum(prompt.model))
        usage = Usage(
            input_tokens=prompt.total_tokens - read - sum(tokens_by_ttl.values()),
            cache_write_5m_tokens=tokens_by_ttl["5m"],
            cache_write_1h_tokens=tokens_by_ttl["1h"],
            cache_read_tokens=read,
        )
        keys = tuple(point.key for point in points if point.tokens <= read)
        return CacheUse(usage=usage, read=keys, written=written, started_at=now)

    def accept(self, use: CacheUse) -> None:
        """The request was not refused: what it reads lives on from its start, whatever becomes of the answer."""
        for key in use.read:
            entry = self._entries.get(key)
            if entry is not None and entry.expires_at > use.started_at:
                lifetime = LIFETIME_SECONDS[entry.ttl]
                entry.expires_at = max(entry.expires_at, use.started_at + lifetime)

    def begin(self, use: CacheUse) -> None:
        """The response has begun: what it writes can be read from now on. Lifetimes count from its start."""
        for key, ttl in use.written:
            expires_at = use.started_at + LIFETIME_SECONDS[ttl]
            entry = self._entries.get(key)
            if entry is None or entry.expires_at < expires_at:
                self._entries[key] = _Entry(ttl, expires_at)
        if len(self._entries) > _SWEEP_ABOVE_ENTRIES:
            self._sweep(use.started_at)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def _longest_match(self, points: tuple[_Point, ...], now: float) -> int:
        for index in range(len(points) - 1, -1, -1):
            window = points[index : index + LOOK_BACK_BLOCKS]
            if all(point.ttl is None for point in window):
                continue
            entry = self._entries.get(points[index].key)
            if entry is not None and entry.expires_at > now:
                return points[index].tokens
        return 0

    def _sweep(self, now: float) -> None:
        self._entries = {
            key: entry for key, entry in self._entries.items() if entry.expires_at > now
        }


def _points(prompt: Prompt, organisation: str) -> tuple[_Point, ...]:
    digest = blake2b(digest_size=16)
    points = []
    tokens = 0
    for block in prompt.blocks:
        digest.update(len(block.key).to_bytes(8, "big"))
        digest.update(block.key)
        tokens += block.tokens
        key = (organisation, prompt.model, digest.digest())
        points.append(_Point(key, tokens, block.cache_ttl))
    return tuple(points)


def _writes(
    points: tuple[_Point, ...], read: int, minimum: int
) -> tuple[tuple[tuple[_Key, str], ...], dict[str, int]]:
    written = []
    tokens_by_ttl = {"5m": 0, "1h": 0}
    paid_up_to = read
    for point in points:
        if point.ttl is None or point.tokens <= paid_up_to or point.tokens < minimum:
            continue
        tokens_by_ttl[point.ttl] += point.tokens - paid_up_to
        paid_up_to = point.tokens
        written.append((point.key, point.ttl))
    return tuple(written), tokens_by_ttl
