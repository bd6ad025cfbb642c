"""The rivals of ``metrics.py``, run in their own environment: DuckDB, SQLite with window functions, JSON Lines with orjson.

Run by ``metrics.py`` as ``metrics_rivals.py FOLDER ROUNDS``; the folder holds ``calls.csv``, the same calls that
claude-force is asked about. Prints a JSON list of rows. What each is asked: count, dollars, p50 and p95 of everything,
and of each agent and hour. All are exact, and none keeps sums ahead of the question.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

import duckdb
import orjson

SUMMARY = "summary of everything"
BY_HOUR = "by agent and hour, 30 days"
ONE_BY_ONE = 2000
COLUMNS = "ended_ms BIGINT, agent VARCHAR, model VARCHAR, seconds DOUBLE, cost BIGINT"
DUCK_SUMS = "count(*), sum(cost), quantile_cont(seconds, 0.5), quantile_cont(seconds, 0.95)"
# SQLite has no percentiles: the place of each row among its peers finds them.
SQLITE_SUMS = """
    SELECT count(*), sum(cost), max(CASE WHEN place = (total + 1) / 2 THEN seconds END),
        max(CASE WHEN place = (total * 95 + 99) / 100 THEN seconds END)
    FROM (SELECT agent, cost, seconds, ended_ms / 3600000 AS hour,
            row_number() OVER ({window} ORDER BY seconds) AS place, count(*) OVER ({window}) AS total FROM calls)
"""

Sample = tuple[str, str, str, list[float]]


def milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def rate(work: Callable[[], object], rows: int) -> float:
    return rows / milliseconds(work) * 1000


def duck(folder: Path, rounds: int, row: tuple[Any, ...]) -> Iterator[Sample]:
    path = str(folder / "duck.db")
    with duckdb.connect(path) as connection:
        connection.execute(f"CREATE TABLE calls ({COLUMNS})")
        connection.execute(f"COPY calls FROM '{folder / 'calls.csv'}' (HEADER false)")
    for measure, statement in (
        (SUMMARY, f"SELECT {DUCK_SUMS} FROM calls"),
        (BY_HOUR, f"SELECT agent, ended_ms // 3600000, {DUCK_SUMS} FROM calls GROUP BY 1, 2"),
    ):
        samples = []
        for _ in range(rounds):
            with duckdb.connect(path, read_only=True) as connection:
                samples.append(
                    milliseconds(lambda: connection.execute(statement).fetchall())  # noqa: B023 - called at once
                )
        yield "DuckDB", measure, "ms", samples
    with duckdb.connect(str(folder / "duck-rows.db")) as connection:
        connection.execute(f"CREATE TABLE calls ({COLUMNS})")

        def insert() -> None:
            for _ in range(ONE_BY_ONE // 10):
                connection.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?)", row)

        yield "DuckDB, a row each", "until on disk", "rows/s", [rate(insert, ONE_BY_ONE // 10)]


def sqlite(folder: Path, row: tuple[Any, ...]) -> Iterator[Sample]:
    connection = sqlite3.connect(folder / "windows.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"CREATE TABLE calls ({COLUMNS})")

    def insert() -> None:
        for _ in range(ONE_BY_ONE):
            connection.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?)", row)

    yield "SQLite, a row each", "until on disk", "rows/s", [rate(insert, ONE_BY_ONE)]
    connection.execute("DELETE FROM calls")
    with (folder / "calls.csv").open(encoding="utf-8") as lines:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO calls VALUES (?, ?, ?, ?, ?)", (line.split(",") for line in lines)
        )
        connection.execute("COMMIT")
    for measure, window, groups in (
        (SUMMARY, "", ""),
        (BY_HOUR, "PARTITION BY agent, ended_ms / 3600000", "GROUP BY agent, hour"),
    ):
        statement = SQLITE_SUMS.format(window=window) + groups
        took = milliseconds(lambda: connection.execute(statement).fetchall())  # noqa: B023 - as above
        yield "SQLite, window functions", measure, "ms", [took]
    connection.close()


def json_lines(folder: Path, row: tuple[Any, ...]) -> Iterator[Sample]:
    path = folder / "calls.jsonl"
    names = ("ended_ms", "agent", "model", "seconds", "cost")
    with (folder / "calls.csv").open(encoding="utf-8") as lines, path.open("wb") as file:
        for line in lines:
            ended, agent, model, seconds, cost = line.split(",")
            values = (int(ended), agent, model, float(seconds), int(cost))
            file.write(orjson.dumps(dict(zip(names, values, strict=True))) + b"\n")
    with (folder / "rows.jsonl").open("ab") as file:

        def append() -> None:
            for _ in range(50 * ONE_BY_ONE):
                file.write(orjson.dumps(dict(zip(names, row, strict=True))) + b"\n")
            file.flush()

        yield "JSON Lines, orjson", "until on disk", "rows/s", [rate(append, 50 * ONE_BY_ONE)]

    def ask(*, by_hour: bool) -> None:
        seconds: dict[object, list[float]] = {}
        cost: dict[object, int] = {}
        with path.open("rb") as lines:
            for line in lines:
                call = orjson.loads(line)
                key = (call["agent"], call["ended_ms"] // 3_600_000) if by_hour else None
                seconds.setdefault(key, []).append(call["seconds"])
                cost[key] = cost.get(key, 0) + call["cost"]
        for values in seconds.values():
            values.sort()
            assert values[len(values) // 2] <= values[len(values) * 95 // 100]

    for measure, by_hour in ((SUMMARY, False), (BY_HOUR, True)):
        took = milliseconds(lambda: ask(by_hour=by_hour))  # noqa: B023 - as above
        yield "JSON Lines, orjson", measure, "ms", [took]


def main() -> None:
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    row = (1_795_435_200_000, "writer", "claude-sonnet-5-5", 2.0, 6_000_000_000)
    found = [*duck(folder, rounds, row), *sqlite(folder, row), *json_lines(folder, row)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
