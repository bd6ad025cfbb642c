"""A cache of answers by agent, task and model, for use on its own: blocking, thread-safe, persistent."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict

import msgspec

from claude_force.cache.disk_tier import DATABASE_FILE, DiskTier
from claude_force.cache.entries import CacheEntry, EntrySigner
from claude_force.cache.fingerprint import call_fields, call_key
from claude_force.cache.lru import ByteLru
from claude_force.cache.secret import given_secret, kept_secret
from claude_force.config.environment import read_environment
from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Hashable
    from typing import Self

    from claude_force.cache.fingerprint import CacheKey

# Below the cache folder of the user.
_FOLDER: Final = "answers"
_BYTES_PER_MB: Final = 1024 * 1024
_SECONDS_PER_HOUR: Final = 3600.0
_MEMORY_BYTES: Final = 32 * _BYTES_PER_MB
# What a hit takes in memory beside its texts.
_OVERHEAD_BYTES: Final = 1024


class CachedAnswer(TypedDict):
    """What ``ResponseCache.get`` gives back."""

    response: str
    input_tokens: int
    output_tokens: int
    # As it was given to ``set``: a Decimal stays one.
    estimated_cost: float | Decimal
    # Always True.
    cached: bool
    cache_age_seconds: float


class CacheStats(TypedDict):
    """What ``ResponseCache.get_stats`` gives back; counts are of this object, entries and sizes of the disk."""

    enabled: bool
    hits: int
    misses: int
    # As in "50.0%".
    hit_rate: str
    evictions: int
    integrity_failures: int
    size_mb: float
    entries: int


class _Hit(NamedTuple):
    """An answer as it is kept in memory: found without hashing its task again."""

    key: CacheKey
    agent_name: str
    created_at: float
    response: str
    input_tokens: int
    output_tokens: int
    estimated_cost: float | Decimal


class _Body(msgspec.Struct, array_like=True):
    # Bytes, because a response may hold lone surrogates, which MessagePack text cannot.
    response: bytes
    cost_is_decimal: bool


class ResponseCache:
    """Answers that were paid for once. Any thread may call any method; none belongs on an event loop but ``get``.

    An answer lives ``ttl_hours`` from its creation. ``max_size_mb`` (of 1,048,576 bytes) bounds the bytes on disk,
    and the least recently used answers make room; memory takes 32 MB of it at most. ``set`` returns when the answer
    can be found by this process; it is on disk within 100 ms, at ``flush`` and at ``close``. Answers are signed
    with ``cache_secret``, else ``CLAUDE_CACHE_SECRET``, else a random secret that is made once in ``cache_dir``.
    Without ``cache_dir`` they are kept in the user's cache folder, apart from those of the orchestrators.

    A disk that is full, locked, damaged or not writable costs hits, never an exception.

    Raises:
        ConfigError: a limit is not positive, or the secret is empty.
    """

    def __init__(  # noqa: PLR0917 - the documented signature
        self,
        cache_dir: str | os.PathLike[str] | None = None,
        ttl_hours: float = 24,
        max_size_mb: float = 100,
        enabled: bool = True,  # noqa: FBT001, FBT002 - the documented signature
        cache_secret: str | bytes | None = None,
        exclude_agents: Collection[str] = (),
        *,
        use_integrity_check: bool = True,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        for name, value in (("ttl_hours", ttl_hours), ("max_size_mb", max_size_mb)):
            if not value > 0:
                message = (
                    f"{name} is {value!r}; give a number above 0, or enabled=False for no cache"
                )
                raise ConfigError(message)
        environment = read_environment()
        self.enabled = enabled
        self.cache_dir = (
            environment.cache_home / _FOLDER if cache_dir is None else Path(cache_dir).expanduser()
        )
        self._ttl_seconds = ttl_hours * _SECONDS_PER_HOUR
        self._exclude_agents = frozenset(exclude_agents)
        self._wall_clock = wall_clock
        self._hits = self._misses = 0
        max_bytes = int(max_size_mb * _BYTES_PER_MB)
        self._front: ByteLru[Hashable, _Hit] = ByteLru(min(_MEMORY_BYTES, max_bytes))
        folder = self.cache_dir
        secret = environment.cache_secret if cache_secret is None else cache_secret
        self._disk = DiskTier(
            folder / DATABASE_FILE,
            signer=EntrySigner(
                (lambda: kept_secret(folder)) if secret is None else given_secret(secret)
            ),
            max_bytes=max_bytes,
            keep_seconds=self._ttl_seconds,
            use_integrity_check=use_integrity_check,
            wall_clock=wall_clock,
        )

    def get(self, agent_name: str, task: str, model: str, **context: object) -> CachedAnswer | None:
        """The answer to this task by this agent and model in this context, or None.

        Raises:
            TypeError: a value in ``context`` has no canonical form.
        """
        if not self.enabled:
            return None
        question = (
            _question(agent_name, task, model, context) if context else (agent_name, task, model)
        )
        now = self._wall_clock()
        hit = self._front.get(question)
        if hit is not None and now - hit[2] < self._ttl_seconds:
            self._disk.touch(hit[0])
        else:
            hit = self._from_disk(question, (agent_name, task, model, context), now)
            if hit is None:
                self._misses += 1
                return None
        self._hits += 1
        age_seconds = now - hit[2]
        return {
            "response": hit[3],
            "input_tokens": hit[4],
            "output_tokens": hit[5],
            "estimated_cost": hit[6],
            "cached": True,
            # A clock that was set back does not make an answer younger than new.
            "cache_age_seconds": max(0.0, age_seconds),
        }

    def set(  # noqa: PLR0917 - the documented signature
        self,
        agent_name: str,
        task: str,
        model: str,
        response: str,
        input_tokens: int,
        output_tokens: int,
        estimated_cost: float | Decimal,
        **context: object,
    ) -> None:
        """Keep an answer in place of an earlier one. An empty answer and an excluded agent's are not kept.

        Raises:
            TypeError: a value in ``context`` has no canonical form.
        """
        if not self.enabled or agent_name in self._exclude_agents or not response.strip():
            return
        key = call_key(agent_name, task, model, context)
        now = self._wall_clock()
        hit = _Hit(key, agent_name, now, response, input_tokens, output_tokens, estimated_cost)
        self._remember(_question(agent_name, task, model, context), hit, task)
        body = _Body(response.encode("utf-8", "surrogatepass"), isinstance(estimated_cost, Decimal))
        self._disk.put(
            CacheEntry(
                key=key,
                agent_name=agent_name,
                model=model,
                created_at=now,
                body=msgspec.msgpack.encode(body),
                fields=call_fields(agent_name, task, model, context),
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cost_usd=str(estimated_cost),
            )
        )

    def clear(
        self, *, agent_name: str | None = None, older_than_seconds: float | None = None
    ) -> int:
        """Remove the answers of an agent, older than an age, or all; how many there were on disk."""
        created_before = (
            None if older_than_seconds is None else self._wall_clock() - older_than_seconds
        )
        self._front.discard_if(
            lambda hit: (
                (agent_name is None or hit.agent_name == agent_name)
                and (created_before is None or hit.created_at < created_before)
            )
        )
        return self._disk.clear(agent_name=agent_name, created_before=created_before)

    def get_stats(self) -> CacheStats:
        """The cache in numbers, everything that was set included."""
        lookups = self._hits + self._misses
        disk = self._disk.stats()
        return {
            "enabled": self.enabled,
            "hits": self._hits,
            "misses": self._misses,
            "hit_rate": f"{100 * self._hits / lookups if lookups else 0:.1f}%",
            "evictions": disk.evictions,
            "integrity_failures": disk.integrity_failures,
            "size_mb": disk.size_bytes / _BYTES_PER_MB,
            "entries": disk.entries,
        }

    def flush(self) -> None:
        """Wait until everything that was set is on disk."""
        self._disk.flush()

    def close(self) -> None:
        """Write what is waiting and close the file. Done at the exit of the process where nobody did it."""
        self._disk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _remember(self, question: Hashable, hit: _Hit, task: str) -> None:
        # Four bytes a character is what text takes at most.
        width = 1 if hit.response.isascii() else 4
        self._front.put(question, hit, len(hit.response) * width + len(task) * 4 + _OVERHEAD_BYTES)

    def _from_disk(
        self,
        question: Hashable,
        call: tuple[str, str, str, dict[str, object]],
        now: float,
    ) -> _Hit | None:
        agent_name, task, _, _ = call
        if agent_name in self._exclude_agents:
            return None
        entry = self._disk.get(call_key(*call))
        if entry is None or now - entry.created_at >= self._ttl_seconds:
            return None
        try:
            body = msgspec.msgpack.decode(entry.body, type=_Body)
            response = body.response.decode("utf-8", "surrogatepass")
            cost = Decimal(entry.cost_usd or "0")
        except (msgspec.MsgspecError, ValueError, ArithmeticError):
            # Possible only without the integrity check.
            return None
        hit = _Hit(
            entry.key,
            entry.agent_name,
            entry.created_at,
            response,
            entry.input_tokens,
            entry.output_tokens,
            cost if body.cost_is_decimal else float(cost),
        )
        self._remember(question, hit, task)
        return hit


def _question(
    agent_name: str, task: str, model: str, context: dict[str, object]
) -> tuple[Hashable, ...]:
    """What a memory hit is looked up by: the texts themselves, so that nothing is hashed that was hashed before."""
    if not context:
        return (agent_name, task, model)
    # 1, 1.0 and True are one key to a dictionary but not to the cache, so only plain texts go in as they are.
    if all(type(value) is str for value in context.values()):
        return (agent_name, task, model, *sorted(context.items()))
    return (call_key(agent_name, task, model, context),)
