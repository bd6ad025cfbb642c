"""What two tasks must agree in, however similar they are. Pure."""

from __future__ import annotations

import re
from typing import Final

_NUMBERS: Final = re.compile(r"\d+(?:[.,:]\d+)*")
_QUOTED: Final = re.compile(r"\"([^\"]+)\"|`([^`]+)`")
_NEGATIONS: Final = re.compile(
    r"\b(?:not|no|never|without|none|cannot|nor|neither)\b|n.t\b", re.IGNORECASE
)


def disagreement(asked: str, answered: str) -> str | None:
    """What the tasks differ in that forbids to answer one with the other; None where nothing does."""
    for what, pattern in (("numbers", _NUMBERS), ("quoted text", _QUOTED)):
        if pattern.findall(asked) != pattern.findall(answered):
            return what
    if len(_NEGATIONS.findall(asked)) != len(_NEGATIONS.findall(answered)):
        return "negations"
    return None
