"""Which generation a model belongs to, and what that lets a request ask for."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from claude_force.domain.models import model_facts

if TYPE_CHECKING:
    from datetime import date

_VERSION = re.compile(r"claude-(fable|mythos|opus|sonnet|haiku)-(\d+)(?:-(\d{1,2}))?(?!\d)")
_NO_VERSION: Final = ("", (0, 0))

# From these versions on a model refuses sampling parameters and thinking budgets.
_ADAPTIVE_ONLY_FROM: Final = {
    "fable": (0, 0),
    "mythos": (0, 0),
    "opus": (4, 7),
    "sonnet": (5, 0),
    "haiku": (5, 0),
}
# From these versions on a model does not continue a text that the caller began for it.
_NO_PREFILL_FROM: Final = {**_ADAPTIVE_ONLY_FROM, "opus": (4, 6), "sonnet": (4, 6)}


@lru_cache(maxsize=256)
def _version(model_id: str) -> tuple[str, tuple[int, int]]:
    match = _VERSION.match(model_id)
    if match is None:
        return _NO_VERSION
    return match.group(1), (int(match.group(2)), int(match.group(3) or 0))


def is_adaptive_only(model_id: str) -> bool:
    """The model takes neither ``temperature`` and its like nor a thinking budget."""
    family, version = _version(model_id)
    return version >= _ADAPTIVE_ONLY_FROM.get(family, (0, 0))


def refuses_prefill(model_id: str) -> bool:
    """The model refuses a conversation that ends with a text in its own name."""
    family, version = _version(model_id)
    return version >= _NO_PREFILL_FROM.get(family, (0, 0))


def always_thinks(model_id: str) -> bool:
    """Thinking cannot be switched off."""
    return _version(model_id)[0] == "fable"


def is_served(model_id: str, today: date) -> bool:
    """The API knows the model and has not retired it."""
    facts = model_facts(model_id)
    return facts is not None and (facts.retired_on is None or today < facts.retired_on)
