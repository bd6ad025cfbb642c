"""What recording a call costs, how fast rows are written, and how fast a million of them answer questions.

Run as ``.venv/bin/python benchmarks/metrics.py [--json] [--rows N]``. Contenders of the first measure take turns.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import tempfile
import time
from collections import deque
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from claude_force.domain.discounts import NO_DISCOUNTS
from claude_force.domain.events import CallFinished, CallStarted, TextDelta
from claude_force.domain.results import AgentResult
from claude_force.domain.usage import Usage
from claude_force.metrics.monitoring import check_alerts
from claude_force.metrics.reader import MetricsReader
from claude_force.metrics.recorder import Recorder
from claude_force.metrics.rows import CallRow
from claude_force.metrics.schema import SCHEMA
from claude_force.metrics.writing import RowWriter
from claude_force.storage.database import open_database
from reporting import RIVALS_PYTHON, Goal, Report, Row, quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from claude_force.domain.events import Event

CALLS = 2000
PIECES = 3
DAY = 86_400
NOW = 1_795_435_200.0
OURS = "claude-force"


def events(number: int) -> list[Event]:
    call_id = f"{number:016x}"
    result = AgentResult(
        agent_name="writer",
        text="an answer",
        stop_reason="end_turn",
        model="claude-sonnet-5-5",
        requested_model="claude-sonnet-5-5",
        usage=Usage(input_tokens=1000, output_tokens=200),
        cost_usd=Decimal("0.006"),
        discounts=NO_DISCOUNTS,
        seconds=2.0,
    )
    return [
        CallStarted(call_id, "writer", "claude-sonnet-5-5"),
        *(TextDelta(call_id, "piece") for _ in range(PIECES)),
        CallFinished(call_id, result),
    ]


def loop_cost(tell: Callable[[Event], object], told: list[Event]) -> float:
    """CPU microseconds a call on the thread of the event loop, by that thread's own clock."""
    began = time.thread_time_ns()
    for event in told:
        tell(event)
    return (time.thread_time_ns() - began) / CALLS / 1000


def recording(folder: Path, rounds: int) -> Iterator[Row]:
    told = [event for number in range(CALLS) for event in events(number)]
    samples: dict[str, list[float]] = {"deque append": [], OURS: [], "SQLite, a row each": []}
    connection = sqlite3.connect(folder / "rival.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(
        "CREATE TABLE calls (at REAL, agent TEXT, model TEXT, seconds REAL, cost TEXT)"
    )

    def insert(event: Event) -> None:
        if type(event) is CallFinished:
            one = event.result
            connection.execute(
                "INSERT INTO calls VALUES (?, ?, ?, ?, ?)",
                (time.time(), one.agent_name, one.model, one.seconds, str(one.cost_usd)),
            )

    for number in range(rounds):
        held: deque[Event] = deque()
        recorder = Recorder(folder / f"record-{number}.db")
        for name, tell in zip(samples, (held.append, recorder, insert), strict=True):
            samples[name].append(loop_cost(tell, told))
            # So that the writer of one contender is not counted for the next.
            recorder.flush()
        recorder.close()
    connection.close()
    for name, found in samples.items():
        yield Row(contender=name, measure="on the loop, a call", unit="µs", samples=tuple(found))


def writing(folder: Path, rounds: int) -> Iterator[Row]:
    # As many as a recorder lets wait.
    count = 100_000
    rates = []
    for number in range(rounds):
        told = [events(call)[-1] for call in range(count)]
        recorder = Recorder(folder / f"sustained-{number}.db")
        began = time.perf_counter()
        for event in told:
            recorder(event)
        recorder.close()
        rates.append(count / (time.perf_counter() - began))
        assert recorder.stats().written == count, recorder.stats()
    yield Row(contender=OURS, measure="until on disk", unit="rows/s", samples=tuple(rates))


def load(count: int) -> Iterator[CallRow]:
    """Calls of eight agents, two models and two workflows over 30 days, in the order of time."""
    draw = random.Random(1)
    agents = [f"agent-{number}" for number in range(8)]
    for number in range(count):
        failed = draw.random() < 0.02
        yield CallRow(
            NOW - 30 * DAY * (1 - number / count),
            f"{number:016x}",
            draw.choice(agents),
            draw.choice(("claude-sonnet-5-5", "claude-haiku-5-5")),
            "claude-sonnet-5-5",
            draw.lognormvariate(1, 0.6),
            1,
            draw.choice((None, "code-quality")),
            f"{number // 5:016x}",
            "review",
            "timeout" if failed else None,
            0.5,
            draw.randrange(5000),
            draw.randrange(800),
            draw.randrange(3000),
            0,
            Decimal(draw.randrange(10**8)).scaleb(-10),
            "disk" if not failed and draw.random() < 0.3 else None,
            None,
        )


def fill(path: Path, count: int) -> None:
    with closing(open_database(path, SCHEMA)) as connection:
        writer = RowWriter(connection)
        batch: list[CallRow] = []
        for row in load(count):
            batch.append(row)
            if len(batch) == 20_000:
                writer.write(batch)
                batch = []
        writer.write(batch) if batch else None


def write_csv(path: Path, count: int) -> None:
    """The same calls for those that know no table of ours."""
    with path.open("w", encoding="utf-8") as file:
        for row in load(count):
            cost = int((row.cost_usd or 0) * 10**12)
            file.write(
                f"{int(row.ended_at * 1000)},{row.agent_name},{row.model},{row.seconds},{cost}\n"
            )


def rivals(folder: Path, count: int, rounds: int) -> Iterator[Row]:
    write_csv(folder / "calls.csv", count)
    script = Path(__file__).with_name("metrics_rivals.py")
    told = subprocess.run(
        [str(RIVALS_PYTHON), str(script), str(folder), str(rounds)],
        check=True,
        capture_output=True,
        text=True,
    )
    for contender, measure, unit, samples in json.loads(told.stdout):
        yield Row(contender=contender, measure=measure, unit=unit, samples=tuple(samples))


def asking(path: Path, rounds: int) -> Iterator[Row]:
    questions: dict[str, Callable[[MetricsReader], object]] = {
        "summary of everything": lambda reader: reader.summary(),
        "savings of everything": lambda reader: reader.savings(),
        "summary of 7 days": lambda reader: reader.summary(7 * DAY),
        "by agent and hour, 30 days": lambda reader: reader.grouped(("agent", "hour"), 30 * DAY),
        "by agent, 30 days": lambda reader: reader.grouped(("agent",), 30 * DAY),
        "slowest ten of 30 days": lambda reader: reader.slowest(30 * DAY),
        "failures of 30 days": lambda reader: reader.failure_counts(30 * DAY),
    }
    for name, ask in questions.items():
        samples = []
        for _ in range(rounds):
            # A reader of its own each time, so that its query cache is empty; opening the file is not in it.
            with closing(MetricsReader(path, wall_clock=lambda: NOW)) as reader:
                reader.version()
                samples.append(_milliseconds(lambda: ask(reader)))  # noqa: B023 - called at once
        yield Row(contender=OURS, measure=name, unit="ms", samples=tuple(samples))
    with closing(MetricsReader(path, wall_clock=lambda: NOW)) as reader:
        reader.summary()
        hits = tuple(_milliseconds(reader.summary) * 1000 for _ in range(1000))
    yield Row(contender=OURS, measure="summary, from the query cache", unit="µs", samples=hits)
    from claude_force.config.settings import AlertSettings

    checks = tuple(
        _milliseconds(lambda: check_alerts(path, AlertSettings(), wall_clock=lambda: NOW))
        for _ in range(rounds)
    )
    yield Row(contender=OURS, measure="all alerts", unit="ms", samples=checks)


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def goals(rows: tuple[Row, ...]) -> tuple[Goal, ...]:
    median = {(row.contender, row.measure): quantile(row.samples, 0.5) for row in rows}
    return (
        Goal(
            claim="recording a call on the loop, µs",
            measured=median[OURS, "on the loop, a call"],
            at_most=5,
        ),
        Goal(
            claim="rows a second until on disk",
            measured=median[OURS, "until on disk"],
            at_least=50_000,
        ),
        Goal(claim="summary of 7 days, ms", measured=median[OURS, "summary of 7 days"], at_most=50),
        Goal(
            claim="summary of everything, ms",
            measured=median[OURS, "summary of everything"],
            at_most=50,
        ),
        Goal(
            claim="summary from the query cache, µs",
            measured=median[OURS, "summary, from the query cache"],
            at_most=100,
        ),
        Goal(
            claim="by agent and hour over 30 days, ms",
            measured=median[OURS, "by agent and hour, 30 days"],
            at_most=400,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="rows in the store that is asked"
    )
    parser.add_argument(
        "--without-rivals", action="store_true", help="where .venv-rivals is not installed"
    )
    arguments = parser.parse_args()
    if not (arguments.without_rivals or RIVALS_PYTHON.exists()):
        parser.error(
            "the rivals are not installed; `benchmarks/run metrics` does that, or say --without-rivals"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [*recording(folder, arguments.rounds), *writing(folder, min(arguments.rounds, 3))]
        path = folder / "asked.db"
        fill(path, arguments.rows)
        rows += asking(path, arguments.rounds)
        if not arguments.without_rivals:
            rows += rivals(folder, arguments.rows, arguments.rounds)
        size = path.stat().st_size / arguments.rows
    workload = (
        f"{CALLS:,} calls of {PIECES} pieces a sample; {arguments.rows:,} rows over 30 days in {size:.0f} bytes a row, "
        "of 8 agents, 2 models, 2 workflows;\nSQLite and JSON Lines are asked once each"
    )
    Report(
        name="metrics",
        workload=workload,
        rows=tuple(rows),
        goals=goals(tuple(rows)),
        reference=OURS,
    ).print(as_json=arguments.json)


if __name__ == "__main__":
    main()
