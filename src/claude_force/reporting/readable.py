"""Answers as people read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Sequence


def readable(text: str) -> str:
    """An answer that is JSON in indented lines, a list of texts as `joined`; any other as it is."""
    if text[:1] not in {"{", "["}:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if _is_list_of_texts(value) and any("\n" in one for one in value if one is not None):
        return joined(value)
    return json.dumps(value, indent=2, ensure_ascii=False)


def joined(texts: Sequence[str | None]) -> str:
    """The answers of a fan-out below each other, each with its number; None says that there is none."""
    count = len(texts)
    return "\n\n".join(
        f"--- {number} of {count}: no answer ---"
        if text is None
        else f"--- {number} of {count} ---\n{text.strip()}"
        for number, text in enumerate(texts, start=1)
    )


def _is_list_of_texts(value: object) -> TypeGuard[list[str | None]]:
    return isinstance(value, list) and all(one is None or isinstance(one, str) for one in value)
