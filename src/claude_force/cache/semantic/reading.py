"""A task as the guard reads it: what is left when ways of asking are out. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from claude_force.cache.semantic.words import (
    ARTICLES,
    AUXILIARIES,
    DEGREES,
    FILLERS,
    FORMS,
    KINDS,
    NEGATIONS,
    NO_PLURALS,
    PHRASES,
    REQUESTS,
    SYNONYMS,
)

_QUOTES: Final = str.maketrans("\u2018\u2019\u201c\u201d\u00b4", "''\"\"'")
_QUOTED: Final = re.compile(r"\"([^\"]+)\"|`([^`]+)`|(?<!\w)'([^']+)'(?!\w)")
# What is stripped at the edges of a word: punctuation, not operators or units.
_EDGES: Final = ".,;:?!()[]{}\"'`\u2026\u2013\u2014"
_SENTENCE_ENDS: Final = ".?!:"
# Names of things, which are compared as they are written: a digit, or a sign of a path, address, option or operator.
_LITERAL: Final = re.compile(r"\d|[_/\\@#$%&*+=<>~^|]|\w[.:]\w|^-|[a-z][A-Z]")
_SMALL: Final = FILLERS | FORMS.keys() | KINDS.keys() | NEGATIONS
# Words of relation, which end a name. Those that are missing here cost hits.
_RELATIONS: Final = frozenset(
    [
        "to",
        "in",
        "on",
        "at",
        "for",
        "with",
        "as",
        "from",
        "by",
        "than",
        "and",
        "or",
        "before",
        "after",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A task as the guard compares it: two tasks with equal readings ask the same, if there are words in them."""

    # In quotes, as they are written and in this order.
    quoted: tuple[str, ...]
    numbers: tuple[str, ...]
    negations: int
    # What is asked for: person, place, reason, manner, yes or no, …
    kinds: tuple[str, ...]
    # Forms of verbs that say when, and whether at all.
    forms: tuple[str, ...]
    # All other words, in their order.
    words: tuple[str, ...]


@lru_cache(maxsize=512)
def read_task(task: str) -> Reading:
    """The reading of a task."""
    text = task.translate(_QUOTES)
    tokens = _possessives_first(_tokens(text))
    kinds = _kinds(tokens)
    forms = [FORMS[token] for token in tokens if token in FORMS]
    if kinds == ("manner",):
        # How something can be done is how it is done.
        forms = [form for form in forms if form != "can"]
    return Reading(
        quoted=tuple(next(filter(None, found)) for found in _QUOTED.findall(text)),
        numbers=tuple(token for token in tokens if token[:1].isdigit() or token[-1:].isdigit()),
        negations=sum(token in NEGATIONS for token in tokens),
        kinds=kinds,
        forms=tuple(forms),
        words=tuple(
            _stem(token)
            for place, token in enumerate(tokens)
            if token in NEGATIONS or not _says_nothing(tokens, place)
        ),
    )


def _tokens(text: str) -> list[str]:
    written = text.split()
    lowered = " ".join(
        _lowered(token, starts_sentence=place == 0 or written[place - 1][-1] in _SENTENCE_ENDS)
        for place, token in enumerate(written)
    )
    for pattern, replacement in PHRASES:
        lowered = pattern.sub(replacement, lowered)
    return [bare for token in lowered.split() if (bare := token.strip(_EDGES))]


def _lowered(token: str, *, starts_sentence: bool) -> str:
    """A word in lower case, unless its capitals make it another word: ``US``, ``Will``, ``Teams``, ``parseUrl``."""
    bare = token.strip(_EDGES)
    lower = bare.lower()
    if bare in {"I", lower} or (starts_sentence and bare == "A"):
        return token.lower()
    is_name = (bare.isupper() and lower in _SMALL) or len(bare) == 1 or _LITERAL.search(bare)
    if is_name or (not starts_sentence and (lower in _SMALL or lower.endswith("s"))):
        return token
    return token.lower()


def _possessives_first(tokens: list[str]) -> list[str]:
    """``the number of the office`` and ``the office's number`` as one: ``office number``."""
    tokens = list(tokens)
    for place in range(len(tokens) - 2, 0, -1):
        if tokens[place] != "of":
            continue
        start = place
        while start > 0 and _is_of_a_name(tokens[start - 1]):
            start -= 1
        if start in {0, place} or tokens[start - 1] not in ARTICLES:
            continue
        first = place + 1 + (tokens[place + 1] in ARTICLES)
        end = first
        while end < len(tokens) and _is_of_a_name(tokens[end]):
            end += 1
        if end > first:
            owner = tokens[place + 1 : end]
            tokens[start - 1 : end] = [*owner, *tokens[start:place]]
    return [token.removesuffix("'s") for token in tokens]


def _is_of_a_name(token: str) -> bool:
    return token not in _SMALL and token not in _RELATIONS and token not in ARTICLES


def _says_nothing(tokens: list[str], place: int) -> bool:
    token = tokens[place]
    return (
        token in _SMALL
        or (place == 0 and token in REQUESTS)
        or (place > 0 and tokens[place - 1] == "how" and token in DEGREES)
    )


def _kinds(tokens: list[str]) -> tuple[str, ...]:
    if tokens and tokens[0] in AUXILIARIES:
        return ("yes or no",)
    found = ["thing"] if tokens[:1] and tokens[0] in REQUESTS else []
    for place, word in enumerate(tokens):
        if word in KINDS:
            degree = " ".join(tokens[place + 1 : place + 2]) if word == "how" else ""
            found.append(f"how {degree}" if degree in DEGREES else KINDS[word])
    return tuple(found)


def _stem(token: str) -> str:
    """A word in the singular, and one of those that mean the same. No other ending is taken off."""
    if _LITERAL.search(token) or not token.islower():
        return token
    word = SYNONYMS.get(token, token)
    return SYNONYMS.get(singular := _singular(word), singular) if word == token else word


def _singular(word: str) -> str:
    if word in NO_PLURALS or len(word) < 4 or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    # "caches" above comes to "cach", so "cache" has to.
    return word[:-1] if word.endswith(("s", "che")) else word
