"""A token estimate for text, without a tokenizer."""

from __future__ import annotations

from typing import Final

# English prose and source code come to 3.5-4.5 characters a token with current Claude tokenizers; text outside
# ASCII comes to far fewer. The estimate leans high, because it is used for reservations and bounds.
_CHARACTERS_PER_TOKEN: Final = 3.8


def estimate_piece(text: str) -> float:
    """The share that one of many pieces of a text has in its tokens."""
    return len(text) / _CHARACTERS_PER_TOKEN if text.isascii() else float(len(text))


def estimate_tokens(text: str) -> int:
    """About how many tokens ``text`` is: 3.8 ASCII characters a token, one token for every other character.

    Never 0 for a text that is not empty. The exact count is what the API reports in ``usage``.
    """
    if not text:
        return 0
    if text.isascii():
        return max(1, round(len(text) / _CHARACTERS_PER_TOKEN))
    ascii_characters = len(text.encode("ascii", "ignore"))
    return max(1, round(ascii_characters / _CHARACTERS_PER_TOKEN) + len(text) - ascii_characters)
