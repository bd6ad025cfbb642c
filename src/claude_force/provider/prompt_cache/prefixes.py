"""The beginnings of a prompt that the provider could keep, and marks behind them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NewType

from claude_force.domain.messages import Message, MessageRequest, TextBlock
from claude_force.domain.models import prompt_cache_minimum
from claude_force.domain.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from hashlib import _Hash as Hash

    from claude_force.domain.messages import PromptCacheTtl

PrefixKey = NewType("PrefixKey", bytes)

_KEY_BYTES: Final = 16
# The definition of an agent is digested once and not at every call: 128 agents at work at once are many.
_DEFINITIONS_KEPT: Final = 128


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prompt up to the end of one of its blocks."""

    # Equal for prompts that begin alike and go to the same model with the same settings.
    key: PrefixKey
    # An estimate; it leans high.
    tokens: int
    # The last block in it, counted from 0 over system and messages.
    block: int


def prefixes_of(request: MessageRequest) -> tuple[Prefix, ...]:
    """Every beginning that reaches the model's minimum for the prompt cache, the shortest first.

    Model, API version, effort and schema are in the keys: the provider keeps a prefix for each model, and puts a
    schema into the prompt itself.
    """
    minimum = prompt_cache_minimum(request.model)
    texts = [block.text for block in request.system]
    for turn in request.messages:
        texts += [block.text for block in turn.content]
    # No text has more tokens than characters, so most short prompts are done here.
    if sum(map(len, texts)) < minimum:
        return ()
    sizes = list(map(estimate_tokens, texts))
    if sum(sizes) < minimum:
        return ()
    digest = _start(request.model, request.api_version, request.effort, request.output_schema)
    found = []
    tokens = 0
    for number, (head, content) in enumerate(_parts(request)):
        digest.update(head)
        digest.update(content)
        tokens += sizes[number]
        if tokens >= minimum:
            found.append(Prefix(PrefixKey(digest.digest()[:_KEY_BYTES]), tokens, number))
    return tuple(found)


def prefix_keys(request: MessageRequest) -> tuple[PrefixKey, ...]:
    """The keys of `prefixes_of`."""
    return tuple(prefix.key for prefix in prefixes_of(request))


def with_marks(request: MessageRequest, marks: Mapping[int, PromptCacheTtl]) -> MessageRequest:
    """The same request with a breakpoint behind each block that ``marks`` names."""
    system, messages = list(request.system), [list(turn.content) for turn in request.messages]
    ends = list(accumulate((len(blocks) for blocks in messages), initial=len(system)))
    for number, ttl in marks.items():
        turn = bisect_right(ends, number)
        blocks, place = (messages[turn - 1], number - ends[turn - 1]) if turn else (system, number)
        blocks[place] = TextBlock(blocks[place].text, ttl)
    # By hand: dataclasses.replace takes three times as long, and this runs at every call that shares anything.
    return MessageRequest(
        model=request.model,
        messages=tuple(
            Message(turn.role, tuple(blocks))
            for turn, blocks in zip(request.messages, messages, strict=True)
        ),
        max_tokens=request.max_tokens,
        system=tuple(system),
        effort=request.effort,
        output_schema=request.output_schema,
        temperature=request.temperature,
        api_version=request.api_version,
        context=request.context,
    )


def _parts(request: MessageRequest) -> Iterator[tuple[bytes, bytes]]:
    """Each block, behind a head that no other sequence of blocks shares."""
    for block in request.system:
        yield b"system;", _definition(block.text)
    for turn, message in enumerate(request.messages):
        for block in message.content:
            encoded = block.text.encode("utf-8", "surrogatepass")
            yield f"{turn};{message.role};{len(encoded)}:".encode(), encoded


def _start(model: str, api_version: str, effort: str | None, schema: str | None) -> Hash:
    return _settings(model, api_version, effort, schema).copy()


@lru_cache(maxsize=_DEFINITIONS_KEPT)
def _settings(model: str, api_version: str, effort: str | None, schema: str | None) -> Hash:
    return sha256(repr((model, api_version, effort, schema)).encode())


@lru_cache(maxsize=_DEFINITIONS_KEPT)
def _definition(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
