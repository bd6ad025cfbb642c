"""Runs contenders in turns, each in a process of its own, against one server in a third process."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import contenders
from reporting import OUR_PYTHON, RIVALS_PYTHON, Row, progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Entry:
    """What one contender does in each round."""

    contender: str
    # Calls at the same time, calls of a batch, batches.
    concurrency: int
    calls: int
    batches: int = 3


@dataclass(frozen=True, slots=True)
class Figures:
    """What one entry came to, over all rounds."""

    # Of each batch: CPU of the process (all threads, system time included) by call, and calls a second.
    cpu_ms: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    # Of each call.
    latency_ms: list[float] = field(default_factory=list)


def clean_environment(home: Path) -> dict[str, str]:
    """No key, proxy or setting of the caller reaches a contender; its files go to ``home``."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "ANTHROPIC_API_KEY": contenders.KEY,
    }


@contextmanager
def served(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The canned server: its origin and its process."""
    server = subprocess.Popen(
        [str(OUR_PYTHON), str(HERE / "server.py"), *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}", server
    finally:
        server.terminate()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


def hold(
    mode: str, entries: Sequence[Entry], *, rounds: int, characters: int
) -> dict[Entry, Figures]:
    """Every entry once a round, in turns, so that a slow minute of the machine falls on all of them."""
    figures = {entry: Figures() for entry in entries}
    with TemporaryDirectory() as folder, served() as (origin, _):
        contenders.write_agent(Path(folder))
        for number in range(1, rounds + 1):
            for entry in entries:
                progress(f"round {number}/{rounds}: {entry.contender}, {entry.concurrency} at once")
                found = _run(entry, f"{origin}/{mode}", Path(folder), characters)
                for name, values in found.items():
                    getattr(figures[entry], name).extend(values)
    return figures


def rows(figures: dict[Entry, Figures], *, measure: str) -> list[Row]:
    """CPU, latency and throughput of every entry."""
    table = []
    for kind, unit, name in (
        ("cpu_ms", "ms", "CPU per call"),
        ("latency_ms", "ms", "latency"),
        ("per_second", "1/s", "calls per second"),
    ):
        for entry, found in figures.items():
            title = f"{name}{measure}, {entry.concurrency} at once"
            samples = tuple(getattr(found, kind))
            table.append(Row(contender=entry.contender, measure=title, unit=unit, samples=samples))
    return table


def _run(entry: Entry, base_url: str, folder: Path, characters: int) -> dict[str, list[float]]:
    python = OUR_PYTHON if entry.contender in contenders.OURS else RIVALS_PYTHON
    numbers = (entry.concurrency, entry.calls, entry.batches, characters)
    done = subprocess.run(
        [
            str(python),
            str(HERE / "worker.py"),
            entry.contender,
            base_url,
            str(folder),
            *map(str, numbers),
        ],
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{entry.contender} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, list[float]] = json.loads(done.stdout)
    return figures
