"""Answers as people read them."""

from __future__ import annotations

import json


def readable(text: str) -> str:
    """An answer that is JSON in indented lines; any other as it is."""
    if text[:1] not in {"{", "["}:
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
