"""Takes secrets out of text before it is kept, and before it is sent again.

Every rule names what it is for. Rules of a known form (a vendor's prefix) come first, then those that go by the name
beside the value (``password = …``), then values that look drawn at random. What is taken out leaves a mark,
``[redacted: kind]``, so that a reader knows that something was there. Leaning to too much: a redacted commit id costs a
word of a memory, a kept key costs an account.

The rules are our own: detect-secrets, the one that is kept up, is made for lines of code in a commit. It says that a line
has a secret and not where, knows no private key over several lines and few of today's vendors, and brings an HTTP client.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache
from typing import Final, NamedTuple

from claude_force.memory.secret_forms import ABOUT, FORMS, NAMED, PLACEHOLDER, PLAIN


class Redacted(NamedTuple):
    """A text without its secrets."""

    text: str
    # How many were taken out.
    secrets: int


_DRAWN: Final = re.compile(r"(?<![\w/+=.@-])[A-Za-z0-9+/_=-]{24,}(?![\w@])")
_LONG_HEX: Final = re.compile(r"(?<![\w-])(?:0x)?[0-9a-fA-F]{48,}(?![\w-])")
# Bits a character: English words and identifiers lie below 3.9, base64 of random bytes of this length above 4.1.
_DRAWN_BITS: Final = 4.0
# Two or three are enough for any text that was not made to need more.
_MOST_PASSES: Final = 20


def redact(text: str) -> Redacted:
    """``text`` with a mark in the place of each secret. Redacting twice changes nothing more."""
    secrets = 0
    # What was hidden behind one secret can show when that is gone, as in `password = token = …`.
    for _ in range(_MOST_PASSES):
        text, found = _redact_once(text)
        secrets += found
        if not found:
            break
    return Redacted(text, secrets)


def _redact_once(text: str) -> Redacted:
    secrets = 0
    folded = text.lower()
    for kind, needles, pattern in _forms():
        if any(needle in folded for needle in needles):
            text, found = _replace(pattern, kind, text)
            secrets += found
    text, found = _replace(_named(), "named value", text)
    secrets += found
    for pattern in (_LONG_HEX, _DRAWN):
        text, found = _replace(pattern, "random value", text)
        secrets += found
    return Redacted(text, secrets)


def _replace(pattern: re.Pattern[str], kind: str, text: str) -> Redacted:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        kept = match.groupdict().get("kept") or ""
        if _is_harmless(pattern, match, match[0][len(kept) :]):
            return match[0]
        count += 1
        return f"{kept}[redacted: {kind}]"

    return Redacted(pattern.sub(replace, text), count)


def _is_harmless(pattern: re.Pattern[str], match: re.Match[str], value: str) -> bool:
    if value.lstrip("\"'`").startswith("[redacted"):
        return True
    if pattern is _DRAWN:
        return not _looks_drawn(value)
    if pattern is _named():
        return _is_code(match) or PLACEHOLDER.fullmatch(value) is not None
    return False


def _is_code(match: re.Match[str]) -> bool:
    """A call, a variable that is called like the secret, or what a longer name says of it: its bytes, its file."""
    name, value = match["name"].strip("_").lower(), match["value"].lower()
    if match["call"] is not None or value == name or value.endswith((f"_{name}", f".{name}")):
        return True
    more = match["more"]
    return more is not None and more.lower() in ABOUT and PLAIN.fullmatch(value) is not None


@cache
def _forms() -> tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...]:
    """Compiled when the first text comes: it takes milliseconds."""
    case = {"authorization", "password", "signature", "azure key"}
    return tuple(
        (kind, needles, re.compile(form, re.DOTALL | (re.IGNORECASE if kind in case else 0)))
        for kind, needles, form in FORMS
    )


@cache
def _named() -> re.Pattern[str]:
    return re.compile(NAMED, re.IGNORECASE)


def _looks_drawn(value: str) -> bool:
    """Letters of both cases and digits, mixed, with the entropy of random characters."""
    kinds = sum(
        any(test(character) for character in value)
        for test in (str.isupper, str.islower, str.isdigit)
    )
    if kinds < 3 or value.count("/") > 3 or value.count("_") > 3 or value.count("-") > 4:
        return False
    counts = Counter(value).values()
    bits = -sum(count / len(value) * math.log2(count / len(value)) for count in counts)
    return bits >= _DRAWN_BITS
