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

from claude_force.memory.preparing import Prepared, prepare
from claude_force.memory.recall import LEAST_SCORE
from claude_force.memory.records import Experience
from claude_force.memory.schema import SCHEMA
from claude_force.memory.store import MemoryStore
from claude_force.memory.terms import terms_of
from claude_force.memory.writing import RecordWriter
from claude_force.storage.database import open_database
from recall_cases import Memory, Query, cases, filler
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


def fill(path: Path, count: int, labelled: Sequence[Memory]) -> None:
    """As the recorder writes, without the redaction and digest that it makes first; ``labelled`` evenly among them."""
    place_of = count // len(labelled)
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
            if number % place_of == 0 and number // place_of < len(labelled):
                one = experience(labelled[number // place_of])
                batch.append((one, prepare(one)))
            if len(batch) >= 5000:
                writer.write_prepared(batch)
                batch = []
        writer.write_prepared(batch)


def quality(
    small: Path,
    large: Path,
    memories: Sequence[Memory],
    queries: Sequence[Query],
    *,
    misses: bool,
) -> Iterator[Row]:
    newest = [m.name for m in sorted(memories, key=lambda memory: memory.age_seconds)[:3]]

    def exact(text: str) -> list[str]:
        wanted = text.lower()
        return [m.name for m in memories if wanted in f"{m.task}\n{m.answer}".lower()][:3]

    finders: list[tuple[str, str, Callable[[str], list[str]]]] = [
        (OURS, "", _finder(small, memories)),
        (NEWEST, "", lambda _: newest),
        (EXACT, "", exact),
        (OURS, " among all", _finder(large, memories)),
    ]
    for name, where, find in finders:
        for by in ("hand", "rule"):
            asked = [query for query in queries if query.by == by]
            hits = [float(query.expected in find(query.text)) for query in asked]
            if misses and name == OURS:
                _print_misses(asked, hits, find)
            yield Row(
                contender=name,
                measure=f"hit@3{where}, {len(asked)} by {by}",
                unit="%",
                samples=(sum(hits) / len(hits) * 100,),
            )


def _finder(path: Path, memories: Sequence[Memory]) -> Callable[[str], list[str]]:
    """Names of what a call would recall first; whatever is not labelled has none."""
    name_by_task = {memory.task: memory.name for memory in memories}

    def find(text: str) -> list[str]:
        with closing(MemoryStore(path, project=PROJECT, wall_clock=lambda: NOW)) as store:
            found = store.search(AGENT, text, limit=3).value
        return [name_by_task.get(one.record.task, "") for one in found if one.score >= LEAST_SCORE]

    return find


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


def writing(folder: Path, memories: Sequence[Memory]) -> Iterator[Row]:
    """Redaction, digest, index and commit, one record a transaction."""
    with closing(open_database(folder / "written.db", SCHEMA)) as connection:
        writer = RecordWriter(connection)
        samples = [_milliseconds(partial(writer.write, [experience(one)])) for one in memories]
    yield Row(contender=OURS, measure="recording, off the loop", unit="ms", samples=tuple(samples))


def goals(rows: Sequence[Row]) -> Iterator[Goal]:
    samples = {(row.contender, row.measure): row.samples for row in rows}
    rivals = [values[0] for (name, _), values in samples.items() if name in {NEWEST, EXACT}]
    for (name, measure), values in samples.items():
        if name == OURS and measure.startswith("hit@3"):
            yield Goal(claim=f"{measure}, %", measured=values[0], at_least=85)
            yield Goal(
                claim=f"{measure}: points beyond the better rival",
                measured=values[0] - max(rivals),
                at_least=30,
            )
        elif name == OURS and measure.startswith("search, "):
            yield Goal(claim=f"{measure}: p95, ms", measured=quantile(values, 0.95), at_most=10)


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
        fill(large, arguments.records, memories)
        rows = [*quality(labelled, large, memories, queries, misses=arguments.misses)]
        rows += writing(folder, memories[:100])
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
        goals=tuple(goals(rows)),
        reference=OURS,
    ).print(as_json=arguments.json)


if __name__ == "__main__":
    main()
