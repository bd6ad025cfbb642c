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
    ENGLISH,
    FILLERS,
    FORMS,
    KINDS,
    NEGATIONS,
    NO_PLURALS,
    PERHAPS_ENGLISH,
    PHRASES,
    REQUESTS,
    SYNONYMS,
)

# No task holds it: control characters are taken out of what is sent.
FORM_MARK: Final = "\0"
# A reading takes a quarter of a millisecond and about a kilobyte.
_READINGS_KEPT: Final = 4096
_QUOTES: Final = str.maketrans("\u2018\u2019\u201c\u201d\u00b4", "''\"\"'")
_QUOTED: Final = re.compile(r"\"([^\"]+)\"|`([^`]+)`|(?<!\w)'([^']+)'(?!\w)")
# Punctuation, as far as it cannot be a part of a number or of a formula: brackets and dashes stay, and a point in front.
_OPENING: Final = "\"'`"
_CLOSING: Final = ".,;:?\"'`\u2026"
_EXCLAMATIONS: Final = re.compile(r"(?<!\d)!+$")
_SENTENCE_ENDS: Final = ".?!:"
# Names of things, which are compared as they are written: a digit, or a sign of a path, address, option or operator.
_LITERAL: Final = re.compile(r"\d|[_/\\@#$%&*+=<>~^|]|\w[.:]\w|^-|[a-z][A-Z]")
# At the end of a question these are what is asked for: "What does it do?"
_ACTS: Final = frozenset(["do", "does"])
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
    # All words that say something, in their order; forms of verbs that say when, and whether at all, with a mark.
    words: tuple[str, ...]


def read_tasks(one: str, two: str) -> tuple[Reading, Reading]:
    """The readings of two tasks, in English where one of them is."""
    english = _is_english(one) or _is_english(two)
    return _read(one, english=english), _read(two, english=english)


@lru_cache(maxsize=_READINGS_KEPT)
def _is_english(task: str) -> bool:
    tokens = frozenset(_tokens(task.translate(_QUOTES)))
    return not ENGLISH.isdisjoint(tokens) or len(PERHAPS_ENGLISH & tokens) > 1


@lru_cache(maxsize=_READINGS_KEPT)
def _read(task: str, *, english: bool) -> Reading:
    text = task.translate(_QUOTES)
    quoted = tuple(next(filter(None, found)) for found in _QUOTED.findall(text))
    tokens = _tokens(text)
    if not english:
        return _unread(tokens, quoted)
    tokens = _possessives_first(_without_phrases(tokens))
    kinds = _kinds(tokens)
    # How something can be done is how it is done.
    forms = {} if kinds != ("manner",) else {"can": ""}
    said = [
        forms.get(FORMS[token], FORM_MARK + FORMS[token])
        if token in FORMS
        else _said(tokens, place)
        for place, token in enumerate(tokens)
    ]
    return Reading(
        quoted=quoted,
        numbers=_numbers(tokens),
        negations=sum(token in NEGATIONS for token in tokens),
        kinds=kinds,
        words=tuple(filter(None, said)),
    )


def _unread(tokens: list[str], quoted: tuple[str, ...]) -> Reading:
    """A task in a language that the tables do not know: every word counts."""
    return Reading(
        quoted=quoted,
        numbers=_numbers(tokens),
        negations=0,
        kinds=(),
        words=tuple(tokens),
    )


def _numbers(tokens: list[str]) -> tuple[str, ...]:
    return tuple(token for token in tokens if token[0].isdigit() or token[-1].isdigit())


def _tokens(text: str) -> list[str]:
    """The words without punctuation, in lower case where they begin a sentence."""
    tokens = []
    begins = True
    for written in text.split():
        bare = _bare(written)
        if bare:
            tokens.append(_lowered(bare) if begins or bare.startswith("I'") else bare)
            if bare == "I":
                tokens[-1] = "i"
        begins = written[-1] in _SENTENCE_ENDS
    return tokens


def _bare(written: str) -> str:
    bare = written.lstrip(_OPENING)
    while (shorter := _EXCLAMATIONS.sub("", bare).rstrip(_CLOSING)) != bare:
        bare = shorter
    return bare


def _lowered(token: str) -> str:
    """The first word of a sentence in lower case, unless its capitals are its own: ``US``, ``parseUrl``.

    Any other word keeps them: rust is not Rust, teams are not Teams, and will is not Will.
    """
    own = (len(token) > 1 and token.isupper()) or _LITERAL.search(token)
    return token if own else token.lower()


def _without_phrases(tokens: list[str]) -> list[str]:
    text = " ".join(tokens)
    for pattern, replacement in PHRASES:
        text = pattern.sub(replacement, text)
    return text.split()


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


def _said(tokens: list[str], place: int) -> str:
    """What a word comes to; empty for one that says nothing here."""
    token = tokens[place]
    return "" if _says_nothing(tokens, place) else _stem(token)


def _says_nothing(tokens: list[str], place: int) -> bool:
    token = tokens[place]
    if token in NEGATIONS:
        return False
    return (
        token in _SMALL
        or (place == 0 and token in REQUESTS)
        or (place > 0 and tokens[place - 1] == "how" and token in DEGREES)
    ) and not (token in _ACTS and place == len(tokens) - 1)


def _kinds(tokens: list[str]) -> tuple[str, ...]:
    found = []
    if tokens and tokens[0] in AUXILIARIES:
        found.append("yes or no")
    elif tokens and tokens[0] in REQUESTS:
        found.append("thing")
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
