"""Stores with known calls in them."""

from __future__ import annotations

import random
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from claude_force.metrics.reader import MetricsReader
from claude_force.metrics.rows import CallRow
from claude_force.metrics.schema import SCHEMA
from claude_force.metrics.writing import RowWriter
from claude_force.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

# Noon of a Monday, in UTC.
NOW = 1_795_435_200.0


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "metrics.db"


@pytest.fixture
def fill(store_path: Path) -> Callable[[Iterable[CallRow]], None]:
    """Writes rows as a recorder does."""

    def write(rows: Iterable[CallRow]) -> None:
        with closing(open_database(store_path, SCHEMA)) as connection:
            RowWriter(connection).write(list(rows))

    return write


class OpenReader(Protocol):
    def __call__(self, now: float = NOW) -> MetricsReader: ...


@pytest.fixture
def open_reader(store_path: Path) -> Iterator[OpenReader]:
    opened: list[MetricsReader] = []

    def make(now: float = NOW) -> MetricsReader:
        reader = MetricsReader(store_path, wall_clock=lambda: now)
        opened.append(reader)
        return reader

    yield make
    for reader in opened:
        reader.close()


class MakeRow(Protocol):
    def __call__(self, ended_at: float = NOW, **fields: Any) -> CallRow: ...


@pytest.fixture
def make_row() -> MakeRow:
    """A call that went well, unless told otherwise."""

    def make(ended_at: float = NOW, **fields: Any) -> CallRow:
        ordinary: dict[str, Any] = {
            "call_id": "c1",
            "agent_name": "writer",
            "model": "claude-sonnet-5-5",
            "requested_model": "claude-sonnet-5-5",
            "seconds": 2.0,
            "input_tokens": 1000,
            "output_tokens": 200,
            "cost_usd": Decimal("0.006"),
        }
        return CallRow(ended_at, **{**ordinary, **fields})

    return make


class MakeLoad(Protocol):
    def __call__(
        self, count: int, *, days: float, seed: int = 1, now: float = NOW
    ) -> list[CallRow]: ...


@pytest.fixture
def make_load() -> MakeLoad:
    """Calls of several agents, models and workflows, spread at random over the last days."""

    def make(count: int, *, days: float, seed: int = 1, now: float = NOW) -> list[CallRow]:
        draw = random.Random(seed)  # noqa: S311 - figures of a test
        return [
            CallRow(
                now - draw.random() * days * 86_400,
                f"{number:016x}",
                draw.choice(("writer", "reviewer", "planner")),
                draw.choice(("claude-sonnet-5-5", "claude-haiku-5-5")),
                "claude-sonnet-5-5",
                draw.lognormvariate(1, 0.6),
                draw.choice((1, 1, 1, 2)),
                draw.choice((None, "code-quality")),
                f"run{number:013x}",
                "review",
                draw.choice((None,) * 19 + ("timeout",)),
                0.5,
                draw.randrange(5000),
                draw.randrange(800),
                draw.randrange(3000),
                draw.randrange(100),
                draw.choice((None, Decimal(draw.randrange(10**9)).scaleb(-10))),
                draw.choice((None, None, "disk")),
                draw.choice((None, Decimal(draw.randrange(10**9)).scaleb(-10))),
            )
            for number in range(count)
        ]

    return make
