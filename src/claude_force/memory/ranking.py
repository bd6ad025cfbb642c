"""How well a record fits a question: BM25 over its terms, blended with how recent it is. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# BM25 with the usual constants; a record of the usual length is one of so many terms.
_K1: Final = 1.2
_B: Final = 0.75
_USUAL_TERMS: Final = 80
# A word that most of three records have says little of it: as if there were so many others that have none of the words.
_OTHERS: Final = 50
# Whoever has so many of the rarest words of a question fits it wholly; long tasks have many more.
_MOST_COUNTED: Final = 8
# A word of the task says more of what a record is about than one of the answer. The index is asked with the same.
TASK_WEIGHT: Final = 3.0
OUTCOME_WEIGHT: Final = 1.0
# A record of today outranks an equally relevant one of long ago, and an old one that fits clearly better stays ahead.
_RECENCY_SHARE: Final = 0.15
_HALF_LIFE_DAYS: Final = 30.0
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record, as far as ranking needs it."""

    id: int
    recorded_ms: int
    task_terms: str
    outcome_terms: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its score from 0 to 1, and the part of it that comes of the words alone."""

    id: int
    score: float
    relevance: float


def inverse_frequency(containing: int, records: int) -> float:
    """How much a term says that so many of the records have; one that none has says as much as one of a single record."""
    known = max(containing, 1)
    return math.log(1 + (records + _OTHERS - known + 0.5) / (known + 0.5))


def rank(
    candidates: Sequence[Candidate],
    weight_by_term: Mapping[str, float],
    *,
    now_ms: int,
) -> list[Ranked]:
    """The candidates that share a word with the question, the best first; of equals the newest.

    Args:
        candidates: records that may fit.
        weight_by_term: the terms of the question with their inverse frequency, those that no record has included:
            relevance is the share of what the weightiest of them together would come to.
        now_ms: milliseconds since the epoch.
    """
    most = sum(sorted(weight_by_term.values())[-_MOST_COUNTED:]) * (_K1 + 1)
    if not most:
        return []
    found = []
    for candidate in candidates:
        score = _bm25(candidate, weight_by_term)
        if score:
            relevance = min(score / most, 1.0)
            blended = relevance * (
                1 - _RECENCY_SHARE + _RECENCY_SHARE * _recency(candidate, now_ms)
            )
            found.append((Ranked(candidate.id, blended, relevance), candidate.recorded_ms))
    found.sort(key=lambda one: (-one[0].score, -one[1], -one[0].id))
    return [ranked for ranked, _ in found]


def _bm25(candidate: Candidate, weight_by_term: Mapping[str, float]) -> float:
    # Spaces around each term, so that counting in the text finds whole terms: a tenth of what splitting takes.
    task, outcome = f" {candidate.task_terms} ", f" {candidate.outcome_terms} "
    terms = task.count(" ") + outcome.count(" ") - 2
    saturation = _K1 * (1 - _B + _B * terms / _USUAL_TERMS)
    score = 0.0
    for term, weight in weight_by_term.items():
        whole = f" {term} "
        frequency = TASK_WEIGHT * task.count(whole) + OUTCOME_WEIGHT * outcome.count(whole)
        if frequency:
            score += weight * frequency * (_K1 + 1) / (frequency + saturation)
    return score


def _recency(candidate: Candidate, now_ms: int) -> float:
    age_days = max(now_ms - candidate.recorded_ms, 0) / _DAY_MS
    return float(2 ** (-age_days / _HALF_LIFE_DAYS))
