"""What is known about Claude models: aliases, context, prompt-cache minimum, end of life.

Source: the published model pages and the model lists of the ``anthropic`` package 2.12.0, November 2026.
Prices are not here: they change by date and tier and come from ``pricing``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

DEFAULT_MODEL: Final = "claude-sonnet-5-5"

ALIASES: Final[dict[str, str]] = {
    "fable": "claude-fable-5-2",
    "opus": "claude-opus-5-5",
    "sonnet": "claude-sonnet-5-5",
    "haiku": "claude-haiku-5-5",
}

LARGEST_PROMPT_CACHE_MINIMUM_TOKENS: Final = 4096


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model that the API serves today."""

    model_id: str
    context_tokens: int
    # Shortest prefix, in tokens, that the prompt cache keeps; None where none is published.
    prompt_cache_minimum_tokens: int | None
    # First day on which the API answers 404; None while no date is announced.
    retired_on: date | None = None


_SERVED: Final[tuple[ModelFacts, ...]] = (
    ModelFacts("claude-fable-5-2", 1_000_000, 512),
    ModelFacts("claude-fable-5-1", 1_000_000, 512),
    ModelFacts("claude-fable-5", 1_000_000, 512),
    ModelFacts("claude-mythos-5-2", 1_000_000, None),
    ModelFacts("claude-mythos-5-1", 1_000_000, None),
    ModelFacts("claude-mythos-5", 1_000_000, None),
    ModelFacts("claude-opus-5-5", 1_000_000, None),
    ModelFacts("claude-opus-5", 1_000_000, 512),
    ModelFacts("claude-opus-4-8", 1_000_000, 1024),
    ModelFacts("claude-opus-4-7", 1_000_000, 2048),
    ModelFacts("claude-opus-4-6", 1_000_000, 4096),
    ModelFacts("claude-opus-4-5", 200_000, 4096),
    ModelFacts("claude-sonnet-5-5", 1_000_000, None),
    ModelFacts("claude-sonnet-5", 1_000_000, 1024),
    ModelFacts("claude-sonnet-4-6", 1_000_000, 1024),
    ModelFacts("claude-sonnet-4-5", 200_000, 1024, retired_on=date(2026, 11, 30)),
    ModelFacts("claude-haiku-5-5", 1_000_000, None),
    ModelFacts("claude-haiku-4-5", 200_000, 4096),
)

# Every later model refuses a conversation that ends with a text in its own name.
_TAKE_PREFILL: Final = frozenset({"claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"})

_BY_ID: Final = {facts.model_id: facts for facts in _SERVED}

# Gone: the API answers 404 to these.
_RETIRED: Final[dict[str, date]] = {
    "claude-1.3": date(2024, 11, 6),
    "claude-2.0": date(2025, 7, 21),
    "claude-2.1": date(2025, 7, 21),
    "claude-3-sonnet": date(2025, 7, 21),
    "claude-3-opus": date(2026, 1, 5),
    "claude-3-haiku": date(2026, 4, 20),
    "claude-3-5-sonnet": date(2025, 10, 28),
    "claude-3-5-haiku": date(2026, 2, 19),
    "claude-3-7-sonnet": date(2026, 2, 19),
    "claude-mythos-preview": date(2026, 6, 30),
    "claude-opus-4": date(2026, 6, 15),
    "claude-opus-4-0": date(2026, 6, 15),
    "claude-opus-4-1": date(2026, 8, 5),
    "claude-sonnet-4": date(2026, 6, 15),
    "claude-sonnet-4-0": date(2026, 6, 15),
}

_SNAPSHOT = re.compile(r"(-\d{8}|-latest)\Z")
_FAMILY = re.compile(r"claude-(?:[\d.-]+-)?(fable|mythos|opus|sonnet|haiku)")


def resolve_model(name: str | None) -> str:
    """The model id that ``name`` stands for.

    An alias (``sonnet``, ``opus``, ``haiku``, ``fable``) gives today's model of that family; ``None``, the empty
    string and ``inherit`` give the default model; anything else is taken as an id and returned as it is.
    """
    if not name or name == "inherit":
        return DEFAULT_MODEL
    return ALIASES.get(name, name)


def model_facts(model_id: str) -> ModelFacts | None:
    """What is known about a model id (a dated snapshot counts as its model), or None if it is unknown."""
    return _BY_ID.get(model_id) or _BY_ID.get(_SNAPSHOT.sub("", model_id))


def retirement_date(model_id: str) -> date | None:
    """The day from which the API answers 404 for this model, past or announced; None if there is none."""
    base = _SNAPSHOT.sub("", model_id)
    facts = _BY_ID.get(base)
    return facts.retired_on if facts else _RETIRED.get(base)


def known_model_ids() -> tuple[str, ...]:
    """Every model id that is served today, the newest of a family first."""
    return tuple(_BY_ID)


def model_class(model_id: str) -> str:
    """The rate-limit class of a model: its family name, or the id itself where no family can be read from it."""
    match = _FAMILY.search(model_id)
    return match.group(1) if match else model_id


def prompt_cache_minimum(model_id: str) -> int:
    """The shortest prefix, in tokens, worth marking for the prompt cache.

    Where no minimum is published the largest published one (4,096) is taken: a mark below the minimum does
    nothing, silently, so the cautious figure never promises a saving that does not come.
    """
    facts = model_facts(model_id)
    if facts is None or facts.prompt_cache_minimum_tokens is None:
        return LARGEST_PROMPT_CACHE_MINIMUM_TOKENS
    return facts.prompt_cache_minimum_tokens


def takes_prefill(model_id: str) -> bool:
    """True for a model that goes on with a text that the caller puts into its mouth; False for one that is unknown."""
    return _SNAPSHOT.sub("", model_id) in _TAKE_PREFILL
