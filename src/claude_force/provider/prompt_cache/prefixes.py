"""The beginnings of a prompt that the provider could keep, and marks behind them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NewType

from claude_force.domain.messages import Message, TextBlock
from claude_force.domain.models import prompt_cache_minimum
from claude_force.domain.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.domain.messages import MessageRequest, PromptCacheTtl

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
    sizes = [estimate_tokens(block.text) for block in request.system]
    sizes += [estimate_tokens(block.text) for turn in request.messages for block in turn.content]
    minimum = prompt_cache_minimum(request.model)
    if sum(sizes) < minimum:
        return ()
    digest = sha256(
        repr((request.model, request.api_version, request.effort, request.output_schema)).encode()
    )
    found = []
    tokens = 0
    for number, part in enumerate(_parts(request)):
        digest.update(part)
        tokens += sizes[number]
        if tokens >= minimum:
            found.append(Prefix(PrefixKey(digest.digest()[:_KEY_BYTES]), tokens, number))
    return tuple(found)


def prefix_keys(request: MessageRequest) -> tuple[PrefixKey, ...]:
    """The keys of `prefixes_of`."""
    return tuple(prefix.key for prefix in prefixes_of(request))


def with_marks(request: MessageRequest, marks: Mapping[int, PromptCacheTtl]) -> MessageRequest:
    """The same request with a breakpoint behind each block that ``marks`` names."""
    number = len(request.system)
    system = _marked(request.system, 0, marks)
    messages = []
    for message in request.messages:
        messages.append(Message(message.role, _marked(message.content, number, marks)))
        number += len(message.content)
    return replace(request, system=system, messages=tuple(messages))


def _marked(
    blocks: tuple[TextBlock, ...], first: int, marks: Mapping[int, PromptCacheTtl]
) -> tuple[TextBlock, ...]:
    last = first + len(blocks)
    if not any(first <= block < last for block in marks):
        return blocks
    return tuple(
        TextBlock(block.text, marks[number]) if number in marks else block
        for number, block in enumerate(blocks, first)
    )


def _parts(request: MessageRequest) -> list[bytes]:
    """Each block in a form that no other sequence of blocks shares."""
    parts = [_definition(block.text) for block in request.system]
    for turn, message in enumerate(request.messages):
        for block in message.content:
            encoded = block.text.encode("utf-8", "surrogatepass")
            parts.append(f"{turn};{message.role};{len(encoded)}:".encode() + encoded)
    return parts


@lru_cache(maxsize=_DEFINITIONS_KEPT)
def _definition(text: str) -> bytes:
    return b"system;" + sha256(text.encode("utf-8", "surrogatepass")).digest()
