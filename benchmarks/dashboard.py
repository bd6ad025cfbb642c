"""How long pages of the dashboard and a scrape of Prometheus take with a million calls in the store.

Run as ``.venv/bin/python benchmarks/dashboard.py [--json] [--rows N]``. Before each request another call is written,
and the moment for which an answer is kept is waited out, so that no page comes from what was read before; a request
begins on a new connection and ends with the last byte.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import metrics
from claude_force import Dashboard, serve_prometheus
from claude_force.metrics.schema import SCHEMA
from claude_force.metrics.writing import RowWriter
from claude_force.storage.database import open_database
from reporting import Goal, Report, Row, progress, quantile

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = "claude-force"
AT_MOST_MS = 300.0
# Longer than an answer is kept.
_PAUSE_SECONDS = 0.85


def pages(now: float) -> dict[str, str]:
    """Addresses by what they show."""
    day, minute = int(now) - 86_400, int(now) - 1800
    return {
        "overview, 24 hours": "?days=1",
        "overview, 7 days": "?days=7",
        "overview, 30 days": "?days=30",
        "newest calls": "calls",
        "calls of an agent, 30 days": "calls?agent=agent-3&days=30",
        "calls of an agent that has none": "calls?agent=nobody",
        "failures of an agent": "calls?agent=agent-3&state=failed",
        "calls of a minute": f"calls?since={minute}&until={minute + 60}",
        "slowest of a day": f"calls?since={day}&until={int(now)}&order=slowest",
        "runs": "runs",
    }


class Writer:
    """Another process, as far as the store can tell: one call at a time."""

    def __init__(self, path: Path) -> None:
        self._connection = open_database(path, SCHEMA)
        self._writer = RowWriter(self._connection)
        self._row = next(metrics.load(1))

    def write(self) -> None:
        self._writer.write([self._row._replace(ended_at=time.time())])

    def close(self) -> None:
        self._connection.close()


def milliseconds(url: str) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=60) as response:
        body = response.read()
    taken = (time.perf_counter() - began) * 1000
    assert response.status == 200, response.status
    assert b"Not shown" not in body
    return taken


def measure(folder: Path, rounds: int) -> Iterator[Row]:
    with (
        closing(Writer(folder / "metrics.db")) as writer,
        Dashboard(state_dir=folder, port=0) as dashboard,
        serve_prometheus(folder, port=0) as prometheus,
    ):
        first = milliseconds(dashboard.address)
        yield Row(contender=OURS, measure="the very first page", unit="ms", samples=(first,))
        urls = {name: dashboard.address + rest for name, rest in pages(time.time()).items()}
        urls["scrape of Prometheus"] = prometheus.url
        milliseconds(prometheus.url)
        samples: dict[str, list[float]] = {name: [] for name in urls}
        for _ in range(rounds):
            time.sleep(_PAUSE_SECONDS)
            for name, url in urls.items():
                writer.write()
                samples[name].append(milliseconds(url))
    for name, found in samples.items():
        yield Row(contender=OURS, measure=name, unit="ms", samples=tuple(found))


def goals(rows: tuple[Row, ...]) -> tuple[Goal, ...]:
    return tuple(
        Goal(
            claim=f"{row.measure}, ms, 90 of 100 requests",
            measured=quantile(row.samples, 0.9),
            at_most=AT_MOST_MS,
        )
        for row in rows
        if len(row.samples) > 1
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1_000_000, help="calls in the store")
    parser.add_argument(
        "--store", type=Path, help="a state folder with calls, in place of a new one"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.store or Path(name)
        # Whatever the user has configured is not measured.
        os.chdir(name)
        if arguments.store is None:
            progress(f"writing {arguments.rows:,} calls ...")
            metrics.NOW = time.time()
            metrics.fill(folder / "metrics.db", arguments.rows)
        rows = tuple(measure(folder, arguments.rounds))
    Report(
        name="dashboard",
        workload=f"{arguments.rows:,} calls over 30 days, of 8 agents, 2 models, 2 workflows; one more before each request",
        rows=rows,
        goals=goals(rows),
        reference=OURS,
    ).print(as_json=arguments.json)


if __name__ == "__main__":
    main()
