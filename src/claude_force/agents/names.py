"""The names that an agent can have."""

from __future__ import annotations

import re
from typing import Final

from claude_force.domain.errors import InvalidAgentNameError

MAX_NAME_CHARACTERS: Final = 128

# Matched whole: `\Z` and not `$`, which would let a trailing newline through. Dots stand between words only, so
# that `..` can never be part of a path made from a name.
_NAME: Final = re.compile(r"\A[a-zA-Z0-9_][a-zA-Z0-9_-]*(\.[a-zA-Z0-9_-]+)*\Z")

NAME_RULE: Final = (
    "letters, digits, '-' and '_', with single dots between words, not starting with '-', "
    f"at most {MAX_NAME_CHARACTERS} characters"
)


def is_agent_name(name: str) -> bool:
    """True when ``name`` can be an agent's name."""
    return len(name) <= MAX_NAME_CHARACTERS and _NAME.match(name) is not None


def check_agent_name(name: str) -> str:
    """``name`` itself when it can be an agent's name.

    Raises:
        InvalidAgentNameError: it cannot; the message shows the value, cut where it is very long.
    """
    if is_agent_name(name):
        return name
    shown = (
        repr(name)
        if len(name) <= MAX_NAME_CHARACTERS
        else f"{name[:40]!r}… ({len(name):,} characters)"
    )
    raise InvalidAgentNameError(f"Invalid agent name: {shown}. A name has {NAME_RULE}.")
