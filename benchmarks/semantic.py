"""What the semantic cache gets right and wrong on labelled pairs, with its guard and without it, and what a look-up costs.

Run as ``.venv/bin/python benchmarks/semantic.py [--json] [--pairs FILE] [--rounds N]``. The pairs are in
`semantic_pairs.txt`, in a form in which you can write your own. A hit is a pair that asks the same and is answered; a
false hit is one that asks something else and is answered all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_force.assembly.semantic import DEFAULT_THRESHOLD
from claude_force.cache.entries import CacheEntry, EntrySigner
from claude_force.cache.fingerprint import CacheKey
from claude_force.cache.memory_tier import MemoryTier
from claude_force.cache.policy import Lifetimes
from claude_force.cache.semantic.embedder import WordLlamaEmbedder
from claude_force.cache.semantic.guard import disagreement
from claude_force.cache.semantic.similar_tasks import MOST_TASKS, Question, SimilarTasks
from claude_force.cache.semantic.task_tier import open_task_tier
from claude_force.cache.store import CacheStore
from reporting import Goal, Row, progress
from semantic_pairs import PAIRS_FILE, Pair, pairs_of, read_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

THRESHOLDS = (0.7, 0.8, 0.85, 0.9, 0.92, 0.95, 0.97, 0.98, 0.99, 0.995)
LIFETIMES = Lifetimes(ttl_seconds=3600)
SECRET = "secret of the benchmark"


# ---- right and wrong


@dataclass(frozen=True, slots=True)
class Rates:
    """What one threshold does to a set of pairs."""

    threshold: float
    guard: bool
    hits: int
    same: int
    false_hits: int
    other: int

    @property
    def hit_rate(self) -> float:
        return self.hits / self.same

    @property
    def false_hit_rate(self) -> float:
        return self.false_hits / self.other


class Judged:
    """Pairs with their similarity, and whether the guard lets them pass."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        texts = sorted({task for pair in pairs for task in (pair.asked, pair.answered)})
        # Stored vectors are rounded to 16 bits, those of questions are not.
        vectors = dict(zip(texts, WordLlamaEmbedder().embed(texts), strict=True))
        self.pairs = pairs
        self.similarities = [
            float(vectors[pair.asked] @ vectors[pair.answered].astype("<f2").astype("<f4"))
            for pair in pairs
        ]
        self.passes = [disagreement(pair.asked, pair.answered) is None for pair in pairs]

    def answered(self, threshold: float, *, guard: bool) -> list[Pair]:
        return [
            pair
            for pair, similarity, passes in zip(
                self.pairs, self.similarities, self.passes, strict=True
            )
            if similarity >= threshold and (passes or not guard)
        ]

    def rates(self, threshold: float, *, guard: bool) -> Rates:
        hits = Counter(pair.same for pair in self.answered(threshold, guard=guard))
        of_all = Counter(pair.same for pair in self.pairs)
        return Rates(threshold, guard, hits[True], of_all[True], hits[False], of_all[False])


def print_rates(title: str, judged: Judged) -> None:
    of_all = Counter(pair.same for pair in judged.pairs)
    print(f"\n{title}: {of_all[True]:,} pairs ask the same, {of_all[False]:,} something else\n")
    print("             without the guard          with the guard")
    print("  threshold  hits       false hits      hits       false hits")
    for threshold in THRESHOLDS:
        cells = []
        for guard in (False, True):
            rates = judged.rates(threshold, guard=guard)
            cells.append(
                f"{rates.hit_rate:6.1%}  {rates.false_hits:5,} ({rates.false_hit_rate:6.2%})"
            )
        mark = " *" if threshold == DEFAULT_THRESHOLD else ""
        print(f"  {threshold:<9g}  {cells[0]}      {cells[1]}{mark}")


def print_kinds(judged: Judged) -> None:
    wrong = Counter(
        pair.kind for pair in judged.answered(DEFAULT_THRESHOLD, guard=False) if not pair.same
    )
    kinds = Counter(pair.kind for pair in judged.pairs if not pair.same)
    print(f"\nFalse hits at {DEFAULT_THRESHOLD:g} without the guard, by what is different:\n")
    for kind, count in wrong.most_common():
        print(f"  {kind:<18} {count:>5,} of {kinds[kind]:,}")


# ---- quick and slow


def timed(work: Callable[[], object], rounds: int) -> tuple[float, ...]:
    """Milliseconds of each round."""
    samples = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        samples.append((time.perf_counter() - began) * 1000)
    return tuple(samples)


def tasks_of_an_agent(count: int) -> list[str]:
    stems = [group.same[0] for group in read_groups()]
    return [f"{stems[index % len(stems)]} Case {index}." for index in range(count)]


def entry_of(key: CacheKey) -> CacheEntry:
    return CacheEntry(key=key, agent_name="faq", model="m", created_at=time.time(), body=b"answer")


def question(index: int, task: str) -> Question:
    return Question(
        scope=CacheKey("0" * 32),
        answer_key=CacheKey(f"{index:032x}"),
        agent_name="faq",
        model="m",
        task=task,
    )


def open_tasks(folder: Path, store: CacheStore) -> SimilarTasks:
    tier = open_task_tier(
        folder, lifetimes=LIFETIMES, max_answer_bytes=100 * 1_048_576, secret=SECRET
    )
    return SimilarTasks(tier, store, WordLlamaEmbedder())


def speed(rounds: int, count: int = MOST_TASKS) -> list[Row]:
    tasks = tasks_of_an_agent(count)
    embedder = WordLlamaEmbedder()
    first = timed(lambda: embedder.embed(["How do I begin?"]), 1)
    rows = [
        ("the model: load", first),
        ("the model: a task", timed(lambda: embedder.embed(["How do I begin?"]), rounds * 20)),
        (
            "the guard: two tasks",
            timed(lambda: disagreement(f"{tasks[0]} {time.perf_counter()}", tasks[1]), rounds * 20),
        ),
    ]
    store = CacheStore(
        memory=MemoryTier(1_048_576), lower=(), signer=EntrySigner(b"secret"), lifetimes=LIFETIMES
    )
    store.put(entry_of(CacheKey(f"{7:032x}")))
    with tempfile.TemporaryDirectory() as name:
        filled = open_tasks(Path(name), store)
        progress(f"remembering {count:,} tasks ...")
        for index, task in enumerate(tasks):
            filled.remember(question(index, task), time.time())
        filled.close()
        size = (Path(name) / "semantic.db").stat().st_size / 1_048_576
        rows.append(("on disk, MB", (size,)))
        asking = open_tasks(Path(name), store)

        with asyncio.Runner() as runner:

            def find(task: str) -> None:
                runner.run(asking.find(question(-1, task), DEFAULT_THRESHOLD))

            rows += [
                (f"the first look-up, reads {count:,} tasks", timed(lambda: find(tasks[7]), 1)),
                (f"a hit among {count:,}", timed(lambda: find(tasks[7]), rounds * 5)),
                (
                    f"a miss among {count:,}",
                    timed(lambda: find(f"Is it {time.perf_counter()}?"), rounds * 5),
                ),
            ]
        asking.close()
    return [
        Row(
            contender="claude-force",
            measure=measure,
            unit="MB" if "MB" in measure else "ms",
            samples=samples,
        )
        for measure, samples in rows
    ]


def facts() -> dict[str, str]:
    packages = ("claude-force", "wordllama", "numpy", "tokenizers")
    return {
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, {platform.system()}",
        "load at the end": f"{os.getloadavg()[0]:.2f} (1 minute)",
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pairs", type=Path, default=PAIRS_FILE, help="labelled tasks of your own")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    pairs = list(pairs_of(read_groups(options.pairs)))
    everything = Judged(pairs)
    held_out = Judged([pair for pair in pairs if pair.held_out])
    rows = speed(options.rounds)
    at_default = everything.rates(DEFAULT_THRESHOLD, guard=True)
    median = {row.measure: row.median for row in rows}
    goals = (
        Goal(
            claim=f"false hits with the guard at {DEFAULT_THRESHOLD:g}",
            measured=at_default.false_hits,
            at_most=0,
        ),
        Goal(
            claim="hit rate with the guard on what was held out",
            measured=held_out.rates(DEFAULT_THRESHOLD, guard=True).hit_rate,
            at_least=0.2,
        ),
        Goal(
            claim=f"a miss among {MOST_TASKS:,}, ms",
            measured=median[f"a miss among {MOST_TASKS:,}"],
            at_most=10,
        ),
    )
    if options.json:
        print(json.dumps(_as_json(everything, held_out, rows, goals), ensure_ascii=False))
        return
    print("\n# semantic")
    for label, value in facts().items():
        print(f"  {label}: {value}")
    print_rates("all pairs", everything)
    print_rates("held out while the guard was written", held_out)
    print_kinds(everything)
    print("\n  what                                    unit    median       p99  samples")
    for row in rows:
        shares = row.quantiles()
        print(
            f"  {row.measure:<38}  {row.unit:<4}  {shares['median']:8.3f}  {shares['p99']:8.3f}  {len(row.samples):7}"
        )
    print()
    for goal in goals:
        print(goal.line())


def _as_json(
    everything: Judged, held_out: Judged, rows: Sequence[Row], goals: Sequence[Goal]
) -> dict[str, Any]:
    rates = {
        name: [
            asdict(judged.rates(threshold, guard=guard))
            for threshold in THRESHOLDS
            for guard in (False, True)
        ]
        for name, judged in (("all", everything), ("held_out", held_out))
    }
    return {
        "benchmark": "semantic",
        **facts(),
        "rates": rates,
        "rows": [
            {"measure": row.measure, "unit": row.unit, "samples": len(row.samples)}
            | row.quantiles()
            for row in rows
        ],
        "goals": [asdict(goal) | {"met": goal.met} for goal in goals],
    }


if __name__ == "__main__":
    main()
