"""The words of a text as they are compared: split, folded, without their endings, without words that say nothing."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise
from typing import Final

# Longer runs are digests and encoded data, which nobody asks for by their words.
_LONGEST_TERM: Final = 40
_WORD: Final = re.compile(r"[^\W_]+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# Scripts that are written without spaces: han, kana, hangul are compared by pairs of characters.
_UNSPACED: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_VOWEL: Final = re.compile(r"[aeiouy]")

_SILENT: Final = frozenset(
    """
    a about above after again all also am an and any are as at be because been before being below between both but by
    can could did do does doing down during each few for from further had has have having he her here hers him his how
    i if in into is it its itself just me more most my no nor not now of off on once only or other our out over own
    please same shall she should so some such than that the their them then there these they this those through to too
    under until up us very was we were what when where which while who whom why will with would you your yours
    """.split()  # noqa: SIM905 - prose of words reads better than a list of strings
)


def terms_of(text: str) -> list[str]:
    """The terms of ``text`` in their order, repeated ones too.

    ``getUserNames`` and ``get_user_names`` are the words they are made of; case, accents and the usual English endings
    make no difference; a run of Chinese, Japanese or Korean characters is its pairs. Equal texts have equal terms, so
    what was indexed by them is found by them.
    """
    plain = text if text.isascii() else _without_accents(text)
    if not plain.isascii():
        plain = _UNSPACED.sub(_pairs, plain)
    words = _WORD.findall(_CAMEL.sub(" ", plain).lower())
    return [_stem(word) for word in words if len(word) <= _LONGEST_TERM and word not in _SILENT]


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    kept = "".join(character for character in decomposed if not unicodedata.combining(character))
    # Hangul comes apart into letters, which pairs are not made of.
    return unicodedata.normalize("NFC", kept).casefold() if not kept.isascii() else kept


def _pairs(match: re.Match[str]) -> str:
    run = match[0]
    return f" {' '.join(map(''.join, pairwise(run))) or run} "


@lru_cache(maxsize=20_000)
def _stem(word: str) -> str:
    """The word without plural, -ing, -ed, -ion and -ly. Not linguistics: forms of one word only have to come out alike."""
    if len(word) <= 3 or not word.isascii() or not word.isalpha():
        return word
    stem = _singular(word)
    for ending in ("ing", "ed"):
        if stem.endswith(ending):
            rest = stem[: -len(ending)]
            if len(rest) >= 3 and _VOWEL.search(rest):
                stem = _single_end(rest)
            break
    if stem.endswith(("tion", "sion")) and len(stem) > 5:
        stem = stem[:-3]
    elif stem.endswith("ly") and len(stem) > 5:
        stem = stem[:-2]
    if stem.endswith("e") and len(stem) > 4:
        stem = stem[:-1]
    return f"{stem[:-1]}i" if stem.endswith("y") and len(stem) > 3 else stem


def _singular(word: str) -> str:
    if word.endswith(("ies", "ied")) and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _single_end(rest: str) -> str:
    """``stopp`` as ``stop``; ``call``, ``miss`` and ``buzz`` stay."""
    return rest[:-1] if rest[-1] == rest[-2] and rest[-1] not in "lsz" else rest
