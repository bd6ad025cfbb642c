"""How well a record fits a question: BM25 over its terms, blended with how recent it is. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# BM25 with the usual constants; lengths are not normalised, because what is kept of every text is bounded alike.
_K1: Final = 1.2
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
    """How much a term says that so many of the records have; more than 0 for every term."""
    return math.log(1 + (records - containing + 0.5) / (containing + 0.5))


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
            relevance is the share of what all of them together would come to.
        now_ms: milliseconds since the epoch.
    """
    most = sum(weight_by_term.values()) * (_K1 + 1)
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
    score = 0.0
    for term, weight in weight_by_term.items():
        whole = f" {term} "
        frequency = TASK_WEIGHT * task.count(whole) + OUTCOME_WEIGHT * outcome.count(whole)
        if frequency:
            score += weight * frequency * (_K1 + 1) / (frequency + _K1)
    return score


def _recency(candidate: Candidate, now_ms: int) -> float:
    age_days = max(now_ms - candidate.recorded_ms, 0) / _DAY_MS
    return float(2 ** (-age_days / _HALF_LIFE_DAYS))
