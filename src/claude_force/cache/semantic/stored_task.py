"""A task that was answered, as it is kept: signed like every entry of the cache, with the key of its answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from claude_force.cache.entries import CacheEntry
from claude_force.cache.fingerprint import KEY_CHARACTERS, CacheKey, request_key

if TYPE_CHECKING:
    from claude_force.domain.messages import MessageRequest

# A change of what is stored changes this word; records of another form are passed over.
_FORM: Final = "claude-force similar task 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTask:
    """A task, its vector, and where its answer is."""

    # Everything that was asked beside the task: tasks of different scopes are never compared.
    scope: CacheKey
    # Of the answer in the response cache.
    answer_key: CacheKey
    agent_name: str
    model: str
    # Seconds since the epoch.
    created_at: float
    # `Embedder.name` of what made the vector.
    embedder: str
    task: str
    # float16, little-endian.
    vector: bytes

    @property
    def key(self) -> CacheKey:
        """The key under which it is kept; nobody asks for an answer under it."""
        named = f"{_FORM}|{self.scope}|{self.answer_key}|{self.embedder}"
        return CacheKey(sha256(named.encode()).hexdigest()[:KEY_CHARACTERS])

    def to_entry(self) -> CacheEntry:
        """What a tier keeps."""
        body = _Body(
            form=_FORM,
            scope=self.scope,
            answer_key=self.answer_key,
            embedder=self.embedder,
            # Bytes, because a task may hold lone surrogates, which MessagePack text cannot.
            task=self.task.encode("utf-8", "surrogatepass"),
            vector=self.vector,
        )
        return CacheEntry(
            key=self.key,
            agent_name=self.agent_name,
            model=self.model,
            created_at=self.created_at,
            body=msgspec.msgpack.encode(body),
        )


class _Body(msgspec.Struct, array_like=True):
    form: str
    scope: str
    answer_key: str
    embedder: str
    task: bytes
    vector: bytes


_decode = msgspec.msgpack.Decoder(_Body).decode


def task_of(entry: CacheEntry) -> StoredTask | None:
    """The task in an entry; None where it is something else, such as an answer that was put into this file."""
    try:
        body = _decode(entry.body)
        task = body.task.decode("utf-8", "surrogatepass")
    except (msgspec.MsgspecError, ValueError):
        return None
    if body.form != _FORM:
        return None
    return StoredTask(
        scope=CacheKey(body.scope),
        answer_key=CacheKey(body.answer_key),
        agent_name=entry.agent_name,
        model=entry.model,
        created_at=entry.created_at,
        embedder=body.embedder,
        task=task,
        vector=body.vector,
    )


def scope_of(request: MessageRequest, origin: str) -> CacheKey:
    """128 bits over everything that is asked beside the task: definition, model, settings, provider."""
    return request_key(replace(request, messages=()), origin)
