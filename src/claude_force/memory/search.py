"""Finds the records of one agent in one project that fit a question, in a time that the size of the store hardly moves.

The index ranks by BM25, which has to look at every record that has any of the words: with a hundred thousand records
that takes a tenth of a second. So it is asked for the rarer words of the question, as many as stand in a bounded number
of records together; those decide who may be first. Where the question has common words only, the newest records that
have several of them are taken. Whoever is found that way is then ranked by all the words of the question.
"""

# ruff: noqa: S608 - statements are written in this module: question marks and numbers of its own; values are bound

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

from claude_force.memory.ranking import (
    OUTCOME_WEIGHT,
    TASK_WEIGHT,
    Candidate,
    Ranked,
    inverse_frequency,
    rank,
)
from claude_force.memory.schema import scoped
from claude_force.memory.terms import terms_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

# A question is what stands at its beginning and its end; the rest is material.
_QUESTION_CHARACTERS: Final = 4000
_MOST_TERMS: Final = 24
# Records that BM25 looks at, and of those it ranks the best for a closer look; see the benchmark of recall.
_POSTINGS: Final = 500
_BEST: Final = 30
# With so many found by rare words, common ones only decide among them.
_ENOUGH: Final = 10
# Of the common words, so many, and so many records for each combination of them.
_COMMON_TERMS: Final = 3
_NEWEST: Final = 15
# Common words are in so many records that only the newest of all are looked through for combinations of them.
_NEWEST_OF: Final = 20_000
_LAST_ID: Final = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is looked for."""

    project: str
    agent_name: str
    text: str
    limit: int
    # Milliseconds since the epoch, for recency.
    now_ms: int
    # Leaves out records with a higher number.
    up_to_id: int | None = None
    # Leaves out the record of the request with this content key.
    except_key: str | None = None


@dataclass(frozen=True, slots=True)
class Hits:
    """What was found, and how much was looked at for it."""

    ranked: tuple[Ranked, ...]
    candidates: int
    # How many records the agent has in the project.
    records: int


@dataclass(frozen=True, slots=True)
class _Term:
    text: str
    # How many records of the scope have it.
    containing: int


def find(connection: sqlite3.Connection, question: Question) -> Hits:
    """The records that fit best, the best first."""
    scope = connection.execute(
        "SELECT id, records FROM scopes WHERE project = ? AND agent = ?",
        (question.project, question.agent_name),
    ).fetchone()
    if scope is None:
        return Hits((), 0, 0)
    number, records = scope
    terms = _known(connection, number, question.text)
    present = [term for term in terms if term.containing]
    last_id = _LAST_ID if question.up_to_id is None else question.up_to_id
    best = max(_BEST, question.limit)
    ids = _candidates(connection, number, present, last_id, best)
    candidates = _read(connection, ids, bytes.fromhex(question.except_key or ""))
    weights = {term.text: inverse_frequency(term.containing, records) for term in terms}
    ranked = rank(candidates, weights, now_ms=question.now_ms)
    return Hits(tuple(ranked[: question.limit]), len(candidates), records)


def _known(connection: sqlite3.Connection, scope: int, question: str) -> list[_Term]:
    """The terms of the question with their frequencies, the rarest first; those that nobody has come last."""
    if len(question) > _QUESTION_CHARACTERS:
        half = _QUESTION_CHARACTERS // 2
        question = f"{question[:half]}\n{question[-half:]}"
    names = {scoped(scope, term): term for term in terms_of(question)}
    marks = ", ".join("?" * len(names))
    counts = dict(
        connection.execute(
            f"SELECT term, records FROM terms WHERE term IN ({marks})",
            list(names),
        )
    )
    terms = [_Term(term, counts.get(name, 0)) for name, term in names.items()]
    terms.sort(key=lambda term: (not term.containing, term.containing))
    return terms[:_MOST_TERMS]


def _candidates(
    connection: sqlite3.Connection, scope: int, terms: Sequence[_Term], last_id: int, best: int
) -> set[int]:
    rare = _within_bound(terms)
    found: set[int] = set()
    if rare:
        rows = connection.execute(
            f"SELECT rowid FROM search WHERE search MATCH ? AND rowid <= ? "
            f"ORDER BY bm25(search, {TASK_WEIGHT}, {OUTCOME_WEIGHT}) LIMIT {best}",
            (_any_of(scope, rare), last_id),
        )
        found = {record_id for (record_id,) in rows}
    common = terms[len(rare) :][:_COMMON_TERMS]
    if common and len(found) < _ENOUGH:
        found |= _newest(connection, scope, common, last_id)
    return found


def _within_bound(terms: Sequence[_Term]) -> Sequence[_Term]:
    total = 0
    for number, term in enumerate(terms):
        total += term.containing
        if total > _POSTINGS:
            return terms[:number]
    return terms


def _newest(
    connection: sqlite3.Connection, scope: int, terms: Sequence[_Term], last_id: int
) -> set[int]:
    """The newest records that have several of the terms, or else the rarest one."""
    (newest_id,) = connection.execute("SELECT max(id) FROM records").fetchone()
    first_id = min(last_id, newest_id or 0) - _NEWEST_OF
    found: set[int] = set()
    for size in range(len(terms), 0, -1):
        # Of single words only the rarest.
        for group in combinations(terms if size > 1 else terms[:1], size):
            rows = connection.execute(
                "SELECT rowid FROM search WHERE search MATCH ? AND rowid BETWEEN ? AND ? "
                f"ORDER BY rowid DESC LIMIT {_NEWEST}",
                (_all_of(scope, group), first_id, last_id),
            )
            found |= {record_id for (record_id,) in rows}
        if len(found) >= _ENOUGH:
            break
    return found


def _read(connection: sqlite3.Connection, ids: Iterable[int], except_key: bytes) -> list[Candidate]:
    wanted = sorted(ids)
    marks = ", ".join("?" * len(wanted))
    rows = connection.execute(
        "SELECT id, recorded_ms, task_terms, outcome_terms FROM records "
        f"WHERE id IN ({marks}) AND key <> ?",
        (*wanted, except_key),
    )
    return [Candidate(*row) for row in rows]


def _any_of(scope: int, terms: Iterable[_Term]) -> str:
    return " OR ".join(f'"{scoped(scope, term.text)}"' for term in terms)


def _all_of(scope: int, terms: Iterable[_Term]) -> str:
    return " AND ".join(f'"{scoped(scope, term.text)}"' for term in terms)
