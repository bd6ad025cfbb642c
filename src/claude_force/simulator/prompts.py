"""A request that passed every check, taken apart: its blocks in prompt-cache order, its size, its fingerprint."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from claude_force.domain.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from claude_force.simulator.errors import JsonObject

# What an image or a PDF counts, whatever its size: there is no text in it to estimate.
BINARY_BLOCK_TOKENS: Final = 1_600

_canonical = msgspec.json.Encoder(order="deterministic").encode
# Two requests that differ in nothing else, and in marks for the prompt cache, ask the model the same.
_NOT_IN_FINGERPRINT: Final = ("stream", "metadata", "cache_control")


class PromptBlock(msgspec.Struct, frozen=True):
    """One block of the prompt."""

    # tool, system, or the role of the message.
    part: str
    text: str
    tokens: int
    # The block without its cache_control, as canonical JSON; empty where nothing in the prompt is marked.
    key: bytes
    # Lifetime of the breakpoint behind this block.
    cache_ttl: str | None


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the model."""

    model: str
    blocks: tuple[PromptBlock, ...]
    total_tokens: int
    # 32 hex characters over everything that the model is asked.
    fingerprint: str
    # Any block, or the whole request, asks for the prompt cache.
    marked: bool
    body: Mapping[str, Any]

    def texts(self, part: str) -> list[str]:
        """The texts of one part, in order."""
        return [block.text for block in self.blocks if block.part == part]


def read_prompt(body: JsonObject) -> Prompt:
    """Take a checked body apart."""
    raw_blocks = list(_raw_blocks(body))
    top_level = body.get("cache_control")
    marked = top_level is not None or any("cache_control" in block for _, block in raw_blocks)
    blocks = [_block(part, block, with_key=marked) for part, block in raw_blocks]
    if top_level is not None:
        blocks[-1] = _with_ttl(blocks[-1], top_level.get("ttl", "5m"))
    return Prompt(
        model=body["model"],
        blocks=tuple(blocks),
        total_tokens=sum([block.tokens for block in blocks]),
        fingerprint=_fingerprint(_unmarked(body) if marked else body),
        marked=marked,
        body=body,
    )


def _fingerprint(body: JsonObject) -> str:
    content = {name: value for name, value in body.items() if name not in _NOT_IN_FINGERPRINT}
    return blake2b(_canonical(content), digest_size=16).hexdigest()


def _unmarked(body: JsonObject) -> JsonObject:
    """The body with no mark behind any block; what is inside a block stays as it is."""
    bare = dict(body)
    for field in ("tools", "system"):
        if isinstance(body.get(field), list):
            bare[field] = _bare_blocks(body[field])
    bare["messages"] = [
        {**message, "content": _bare_blocks(message["content"])}
        if isinstance(message["content"], list)
        else message
        for message in body["messages"]
    ]
    return bare


def _bare_blocks(blocks: list[JsonObject]) -> list[JsonObject]:
    return [_bare(block) for block in blocks]


def _bare(block: JsonObject) -> JsonObject:
    return {name: value for name, value in block.items() if name != "cache_control"}


def _raw_blocks(body: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    for tool in body.get("tools", ()):
        yield "tool", tool
    yield from _content("system", body.get("system", ()))
    for message in body["messages"]:
        yield from _content(message["role"], message["content"])


def _content(part: str, content: str | list[JsonObject]) -> Iterator[tuple[str, JsonObject]]:
    if isinstance(content, str):
        if content:
            yield part, {"type": "text", "text": content}
    else:
        for block in content:
            yield part, block


def _block(part: str, block: JsonObject, *, with_key: bool) -> PromptBlock:
    text, tokens = _text_and_tokens(part, block)
    if not with_key:
        return PromptBlock(part, text, tokens, b"", None)
    control = block.get("cache_control")
    key = part.encode() + b"\x1f" + _canonical(_bare(block))
    return PromptBlock(
        part, text, tokens, key, None if control is None else control.get("ttl", "5m")
    )


def _text_and_tokens(part: str, block: JsonObject) -> tuple[str, int]:
    kind = block.get("type")
    if kind == "text" and part != "tool":
        text = block["text"]
    elif kind in {"image", "document"} and block["source"].get("type") != "text":
        return f"[{kind}]", BINARY_BLOCK_TOKENS
    else:
        text = _canonical(_bare(block)).decode()
    return text, estimate_tokens(text)


def _with_ttl(block: PromptBlock, ttl: str) -> PromptBlock:
    if block.cache_ttl is not None:
        return block
    return PromptBlock(block.part, block.text, block.tokens, block.key, ttl)
