"""Whether memory finds what it should, and how fast among a hundred thousand records.

Run as ``.venv/bin/python benchmarks/recall.py [--json] [--records N] [--misses]``. Quality: hit@3 on questions with
known answers (``recall_cases.py``), beside the newest three records, and records that have the question word for word.
Speed: the same questions to a store of N records, all but a fortieth of them of one agent, which is the worst case; and
to the agent that has that fortieth.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from recall_cases import Memory, Query, cases, filler

from claude_force.memory.preparing import Prepared
from claude_force.memory.recall import LEAST_SCORE
from claude_force.memory.records import Experience
from claude_force.memory.schema import SCHEMA
from claude_force.memory.store import MemoryStore
from claude_force.memory.terms import terms_of
from claude_force.memory.writing import RecordWriter
from claude_force.storage.database import open_database
from reporting import Goal, Report, Row, quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

NOW = 1_795_435_200.0
PROJECT = "/project"
AGENT = "reviewer"
QUIET_AGENT = "planner"
# Every so manieth record of the large store is the quiet agent's.
QUIET_SHARE = 40
OURS = "claude-force"
NEWEST = "newest three"
EXACT = "word for word"


def experience(memory: Memory, agent_name: str = AGENT) -> Experience:
    return Experience(
        project=PROJECT,
        agent_name=agent_name,
        task=memory.task,
        answer=memory.answer,
        model="claude-sonnet-5-5",
        key=sha256(f"{agent_name} {memory.name}".encode()).hexdigest()[:32],
        recorded_at=NOW - memory.age_seconds,
    )


def remember(path: Path, memories: Iterable[Memory]) -> None:
    with closing(open_database(path, SCHEMA)) as connection:
        writer = RecordWriter(connection)
        writer.write(map(experience, memories))


def fill(path: Path, count: int) -> None:
    """As the recorder writes, without the redaction and digest that it makes first."""
    with closing(open_database(path, SCHEMA)) as connection:
        writer = RecordWriter(connection)
        batch: list[tuple[Experience, Prepared]] = []
        for number, (task, answer) in enumerate(filler(count)):
            memory = Memory(
                name=str(number),
                age_seconds=(count - number) * 300.0,
                task=task,
                answer=answer,
            )
            prepared = Prepared(
                task=task,
                outcome=answer,
                digest=answer[:300],
                task_terms=tuple(terms_of(task)),
                outcome_terms=tuple(terms_of(answer)),
            )
            agent_name = AGENT if number % QUIET_SHARE else QUIET_AGENT
            batch.append((experience(memory, agent_name), prepared))
            if len(batch) == 5000:
                writer.write_prepared(batch)
                batch = []
        writer.write_prepared(batch)


def quality(
    path: Path, memories: Sequence[Memory], queries: Sequence[Query], *, misses: bool
) -> Iterator[Row]:
    name_by_task = {memory.task: memory.name for memory in memories}
    newest = [m.name for m in sorted(memories, key=lambda memory: memory.age_seconds)[:3]]
    with closing(MemoryStore(path, project=PROJECT, wall_clock=lambda: NOW)) as store:

        def ours(text: str) -> list[str]:
            found = store.search(AGENT, text, limit=3).value
            return [name_by_task[one.record.task] for one in found if one.score >= LEAST_SCORE]

        def exact(text: str) -> list[str]:
            wanted = text.lower()
            return [
                m.name for m in memories if wanted in m.task.lower() or wanted in m.answer.lower()
            ][:3]

        finders = {OURS: ours, NEWEST: lambda _: newest, EXACT: exact}
        for name, find in finders.items():
            for by in ("hand", "rule"):
                asked = [query for query in queries if query.by == by]
                hits = [float(query.expected in find(query.text)) for query in asked]
                if misses and name == OURS:
                    _print_misses(asked, hits, find)
                share = sum(hits) / len(hits) * 100
                yield Row(
                    contender=name,
                    measure=f"hit@3, {len(asked)} by {by}",
                    unit="%",
                    samples=(share,),
                )


def _print_misses(
    queries: Sequence[Query], hits: Sequence[float], find: Callable[[str], list[str]]
) -> None:
    for query, hit in zip(queries, hits, strict=True):
        if not hit:
            print(f"missed: {query.text!r}: wanted {query.expected!r}, found {find(query.text)}")


def speed(
    path: Path, label: str, agent_name: str, queries: Sequence[Query], rounds: int
) -> Iterator[Row]:
    cold: list[float] = []
    hits: list[float] = []
    for _ in range(rounds):
        # A store of its own each time, so that its query cache is empty.
        with closing(MemoryStore(path, project=PROJECT, wall_clock=lambda: NOW)) as store:
            store.version()
            texts = [query.text for query in queries]
            cold += [_milliseconds(partial(store.search, agent_name, text)) for text in texts]
            hits += [
                _milliseconds(partial(store.search, agent_name, text)) * 1000
                for text in texts[-100:]
            ]
    yield Row(contender=OURS, measure=f"search, {label}", unit="ms", samples=tuple(cold))
    yield Row(
        contender=OURS, measure=f"from the query cache, {label}", unit="µs", samples=tuple(hits)
    )


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def writing(folder: Path, memories: Sequence[Memory], rounds: int) -> Iterator[Row]:
    """Redaction, digest, index and commit, one record a transaction."""
    samples = []
    for number in range(rounds):
        with closing(open_database(folder / f"written-{number}.db", SCHEMA)) as connection:
            writer = RecordWriter(connection)
            for memory in memories:
                one = experience(memory)
                samples.append(_milliseconds(lambda: writer.write([one])))  # noqa: B023 - as above
    yield Row(contender=OURS, measure="recording, off the loop", unit="ms", samples=tuple(samples))


def goals(rows: Sequence[Row]) -> tuple[Goal, ...]:
    samples = {(row.contender, row.measure): row.samples for row in rows}
    hand = next(measure for _, measure in samples if measure.endswith("by hand"))
    rule = next(measure for _, measure in samples if measure.endswith("by rule"))
    best_rival = max(samples[rival, m][0] for rival in (NEWEST, EXACT) for m in (hand, rule))
    return (
        Goal(claim=f"{hand}, %", measured=samples[OURS, hand][0], at_least=85),
        Goal(claim=f"{rule}, %", measured=samples[OURS, rule][0], at_least=85),
        Goal(
            claim="hit@3 beyond the better rival, points",
            measured=min(samples[OURS, hand][0], samples[OURS, rule][0]) - best_rival,
            at_least=30,
        ),
        *(
            Goal(
                claim=f"{measure}: p95, ms",
                measured=quantile(samples[OURS, measure], 0.95),
                at_most=10,
            )
            for contender, measure in samples
            if contender == OURS and measure.startswith("search, ")
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=100_000, help="records in the large stores")
    parser.add_argument("--misses", action="store_true", help="print the questions that missed")
    arguments = parser.parse_args()
    memories, queries = cases()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labelled, large = folder / "labelled.db", folder / "large.db"
        remember(labelled, memories)
        rows = [*quality(labelled, memories, queries, misses=arguments.misses)]
        rows += writing(folder, memories[:100], 1)
        fill(large, arguments.records)
        rows += speed(large, "the busy agent", AGENT, queries, arguments.rounds)
        rows += speed(large, "the quiet agent", QUIET_AGENT, queries, arguments.rounds)
        size = large.stat().st_size / arguments.records
    workload = (
        f"{len(queries)} questions to {len(memories)} labelled memories; {arguments.records:,} records of 50 to 90 "
        f"words, {size:,.0f} bytes each on disk"
    )
    Report(
        name="recall",
        workload=workload,
        rows=tuple(rows),
        goals=goals(rows),
        reference=OURS,
    ).print(as_json=arguments.json)


if __name__ == "__main__":
    main()
