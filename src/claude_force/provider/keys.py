"""Checks an API key before it becomes a header, so that no error of a library below ever quotes it."""

from __future__ import annotations

import re
from typing import Final

from claude_force.domain.errors import ConfigError

_KEY: Final = re.compile(r"[\x21-\x7e]+")


def check_key(api_key: str) -> None:
    """Pass over a key that can be a header.

    Raises:
        ConfigError: it holds something else than printable ASCII; the message does not show it.
    """
    if not _KEY.fullmatch(api_key):
        raise ConfigError(
            "The API key is empty or holds characters that no key has (a space, a line break or a letter outside "
            "ASCII). Set ANTHROPIC_API_KEY again, without quotes or a trailing line break."
        )
