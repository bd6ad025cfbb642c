"""The most that one request can be billed for: what a budget has to have left before it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.domain.usage import Usage

if TYPE_CHECKING:
    from claude_force.domain.messages import MessageRequest

# ASCII comes to 3.5-4.5 characters a token in prose and code, and to a little over 2 in digits and minified data;
# no tokenizer makes more than one token of a byte, which is taken for everything else.
_ASCII_CHARACTERS_PER_TOKEN: Final = 2
# What the API adds around a block, and around a request for its schema and instructions of its own.
_TOKENS_PER_BLOCK: Final = 10
_TOKENS_PER_REQUEST: Final = 500


def worst_case_usage(request: MessageRequest) -> Usage:
    """Tokens of ``request`` if everything comes out as dear as it can.

    The whole prompt counts as the dearest kind that it may be billed as: written to the prompt cache for an hour
    where any block is marked so, for five minutes where any is marked at all, else as input. The answer counts with
    all of ``max_tokens``. Priced with `PriceCatalogue.cost_usd` this gives dollars, or None for an unknown price.
    """
    # One plain loop: every call with a budget comes by here.
    tokens, lifetimes = _TOKENS_PER_REQUEST, set()
    for blocks in (request.system, *(message.content for message in request.messages)):
        for block in blocks:
            tokens += most_tokens(block.text) + _TOKENS_PER_BLOCK
            if block.cache_ttl is not None:
                lifetimes.add(block.cache_ttl)
    if request.output_schema is not None:
        tokens += most_tokens(request.output_schema)
    if "1h" in lifetimes:
        return Usage(cache_write_1h_tokens=tokens, output_tokens=request.max_tokens)
    if "5m" in lifetimes:
        return Usage(cache_write_5m_tokens=tokens, output_tokens=request.max_tokens)
    return Usage(input_tokens=tokens, output_tokens=request.max_tokens)


def most_tokens(text: str) -> int:
    """The most that a tokenizer makes of ``text``."""
    if text.isascii():
        return -(-len(text) // _ASCII_CHARACTERS_PER_TOKEN)
    encoded = text.encode("utf-8", "surrogatepass")
    ascii_characters = len(text.encode("ascii", "ignore"))
    return -(-ascii_characters // _ASCII_CHARACTERS_PER_TOKEN) + len(encoded) - ascii_characters
