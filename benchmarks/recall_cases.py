"""Memories and questions with known answers: some by hand (``recall_hand.jsonl``), some by rule, and many to search in.

By rule, a memory is a component with a problem, told in one way, and its question the same in other words. Every
component comes with every problem, so that neither alone is enough to find the right one.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HAND = Path(__file__).with_name("recall_hand.jsonl")
QUERIES_BY_RULE = 120
_COMPONENTS = (
    ("the ledger exporter", "exporting the ledger"),
    ("the voucher service", "vouchers"),
    ("the tenant directory", "directory of tenants"),
    ("the shipment tracker", "tracking shipments"),
    ("the audit trail", "auditing trail"),
    ("the quota scheduler", "scheduling quotas"),
    ("the survey builder", "building surveys"),
    ("the warehouse gateway", "gateway of the warehouse"),
    ("the refund workflow", "refunds"),
    ("the calendar sync", "syncing calendars"),
    ("the attachment scanner", "scanning attachments"),
    ("the notification fan-out", "notifications"),
    ("the permission matrix", "permissions"),
    ("the currency converter", "converting currencies"),
    ("the comment moderator", "moderating comments"),
    ("the subscription renewer", "renewing subscriptions"),
    ("the map renderer", "rendering maps"),
    ("the telemetry collector", "collecting telemetry"),
    ("the playlist importer", "importing playlists"),
    ("the draft autosave", "autosaving drafts"),
)
_PROBLEMS = (
    ("deadlocks under load", "deadlock", "Two transactions took the same rows in opposite order."),
    ("leaks file handles", "leaking handles", "A reader was opened for each chunk and never closed."),
    ("drops the last element", "last element is missing", "An off-by-one in the slice of a page."),
    ("ignores daylight saving", "daylight saving time", "Local times were compared without a zone."),
    ("accepts negative amounts", "negative amount accepted", "The schema had no minimum."),
    ("times out on large tenants", "timeout for large ones", "It fetched everything before the filter."),
    ("logs stack traces to the user", "stack trace shown to users", "The debug handler was on."),
    ("duplicates rows after a crash", "duplicated rows after crashing", "Nothing made the insert idempotent."),
    ("mixes up encodings", "wrong encoding", "Latin-1 was assumed where UTF-8 arrived."),
    ("keeps stale entries", "stale entry served", "The invalidation ran before the commit."),
    ("breaks on empty input", "empty input fails", "max() of an empty sequence."),
    ("sorts names wrongly", "sorting of names", "It compared code points and not collation keys."),
)  # fmt: skip
_TOLD = (
    "Find out why {component} {problem}",
    "{component} {problem}: look into it",
    "Review {component}, it {problem}",
)
_ASKED = (
    "{component}: {problem} again?",
    "we have seen {problem} before in {component}, what was it",
    "please check {component} for {problem}",
)
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    name: str
    age_seconds: float
    task: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    text: str
    # Name of the memory that answers it.
    expected: str
    by: str


def cases() -> tuple[list[Memory], list[Query]]:
    """Everything that is labelled, the same each time."""
    memories, queries = _by_hand()
    draw = random.Random(7)
    pairs = [(c, p) for c in _COMPONENTS for p in _PROBLEMS]
    draw.shuffle(pairs)
    for number, (component, problem) in enumerate(pairs):
        name = f"{component[0]} / {problem[0]}"
        task = draw.choice(_TOLD).format(component=component[0], problem=problem[0])
        memories.append(
            Memory(
                name=name,
                age_seconds=draw.uniform(0, 120) * _DAY_SECONDS,
                task=task[0].upper() + task[1:],
                answer=f"{problem[2]} It was put right, and a test shows it.",
            )
        )
        if number < QUERIES_BY_RULE:
            asked = draw.choice(_ASKED).format(component=component[1], problem=problem[1])
            queries.append(Query(text=asked, expected=name, by="rule"))
    return memories, queries


def _by_hand() -> tuple[list[Memory], list[Query]]:
    memories: list[Memory] = []
    queries: list[Query] = []
    for line in HAND.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "query" in entry:
            queries.append(Query(text=entry["query"], expected=entry["expected"], by="hand"))
        else:
            memories.append(
                Memory(
                    name=entry["memory"],
                    age_seconds=entry["age_days"] * _DAY_SECONDS,
                    task=entry["task"],
                    answer=entry["answer"],
                )
            )
    return memories, queries


def filler(count: int) -> Iterator[tuple[str, str]]:
    """Tasks and answers in the words of the labelled ones and 20,000 others, by Zipf's law, as words are in texts."""
    draw = random.Random(11)
    memories, _ = cases()
    words = list(dict.fromkeys(" ".join(f"{m.task} {m.answer}" for m in memories).lower().split()))
    words += [_word(draw) for _ in range(20_000)]
    draw.shuffle(words)
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    for _ in range(count):
        drawn = draw.choices(words, cum_weights=weights, k=draw.randint(50, 90))
        length = draw.randint(6, 14)
        yield " ".join(drawn[:length]), " ".join(drawn[length:])


def _word(draw: random.Random) -> str:
    return "".join(
        draw.choice("bcdfghklmnprstvw") + draw.choice("aeiou") for _ in range(draw.randint(2, 4))
    )
