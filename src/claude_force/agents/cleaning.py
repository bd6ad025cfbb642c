"""Strips from text what a reader cannot see and a model can.

Hidden characters carry instructions past the person who reads a file. Removed are:

- control characters (C0, DEL, C1) except line feed and tab; CRLF, a lone CR, NEL and the Unicode line and paragraph
  separators become line feeds;
- zero-width and other invisible characters, soft hyphens, fillers, direction marks and embeddings, the byte order
  mark, and the whole block of Unicode tags (which costs the three flags that are spelled with it);
- joiners (U+200C, U+200D), except one after a letter of the scripts that need them and after an emoji;
- variation selectors, except one after a character whose look they change: so `❤️`, `1️⃣` and `👩‍💻` stay whole, and
  runs of selectors, which can carry any bytes, do not.

A lone surrogate, which cannot be sent, becomes U+FFFD.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

# Scripts from Arabic to Vedic extensions; arrows to miscellaneous symbols; emoji, with the presentation selector.
_JOINABLE: Final = r"\u0620-\u17ff\u1820-\u1cff\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
# Digits and signs of keycaps, symbols, ideographs, emoji.
_SELECTABLE: Final = r"#*0-9\xa9\xae\u2010-\u2027\u2030-\u205e\u2100-\u2bff\u3004-\u9fff\uf900-\ufaff\U0001f000-\U0001faff"
_IDEOGRAPHS: Final = r"\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"

# Deleted as bytes: a table look-up a character, a tenth of the time that a pattern takes.
_ASCII_CONTROL: Final = bytes(code for code in (*range(32), 127) if chr(code) not in "\t\n\r")


@cache
def _invisible() -> re.Pattern[str]:
    """Compiled when the first text that is not ASCII comes: it takes milliseconds."""
    return re.compile(
        r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad"
        r"\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
        r"\u3164\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]+"
        rf"|(?<![{_JOINABLE}])[\u200c\u200d]+|(?<=[\u200c\u200d])[\u200c\u200d]+"
        rf"|(?<![{_SELECTABLE}])[\ufe00-\ufe0f]+|(?<=[\ufe00-\ufe0f])[\ufe00-\ufe0f]+"
        rf"|(?<![{_IDEOGRAPHS}])[\U000e0100-\U000e01ef]+|(?<=[\U000e0100-\U000e01ef])[\U000e0100-\U000e01ef]+"
    )


def clean_text(text: str) -> str:
    r"""``text`` with only what a reader can see, and ``\n`` line ends. Cleaning twice changes nothing more."""
    text = _with_line_feeds(text)
    if text.isascii():
        return text.encode("ascii").translate(None, _ASCII_CONTROL).decode("ascii")
    if _is_broken(text):
        text = re.sub(r"[\ud800-\udfff]", "\ufffd", text)
    # A removed character can leave two parts side by side that may not stand so; what remains is a fixed point.
    while (cleaned := _invisible().sub("", text)) != text:
        text = cleaned
    return text


def hidden_characters(text: str) -> int:
    """How many characters of ``text`` cleaning would remove."""
    text = _with_line_feeds(text)
    return len(text) - len(clean_text(text))


def _with_line_feeds(text: str) -> str:
    for line_end in ("\r\n", "\r", "\x85", "\u2028", "\u2029"):
        if line_end in text:
            text = text.replace(line_end, "\n")
    return text


def _is_broken(text: str) -> bool:
    """True with a lone surrogate, which cannot be sent."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
