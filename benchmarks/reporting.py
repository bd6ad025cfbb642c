"""What every benchmark prints: machine, versions, commit, workload, quantiles, rivals beside them, goals."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
OUR_PYTHON = ROOT / ".venv/bin/python"
RIVALS_PYTHON = ROOT / ".venv-rivals/bin/python"
_OUR_PACKAGES = ("claude-force", "httptools", "msgspec", "click", "genai-prices")
_RIVAL_PACKAGES = ("anthropic", "aiohttp", "pyreqwest", "httpx2", "langgraph", "msgspec", "click")


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` of all samples do not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Samples of one contender in one unit."""

    contender: str
    measure: str
    unit: str
    samples: tuple[float, ...] = field(repr=False)

    @property
    def median(self) -> float:
        return quantile(self.samples, 0.5)

    def quantiles(self) -> dict[str, float]:
        return {name: quantile(self.samples, share) for name, share in _SHARES.items()}


_SHARES = {"median": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound, and what was measured against it."""

    claim: str
    measured: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool:
        return (self.at_most is None or self.measured <= self.at_most) and (
            self.at_least is None or self.measured >= self.at_least
        )

    def line(self) -> str:
        bound = f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"
        return f"  {'met   ' if self.met else 'MISSED'}  {self.claim}: {self.measured:.3g} (goal {bound})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One benchmark, done."""

    name: str
    workload: str
    rows: tuple[Row, ...]
    goals: tuple[Goal, ...] = ()
    # Each row is shown as a multiple of this contender's row of the same measure.
    reference: str

    def print(self, *, as_json: bool) -> None:
        facts = machine_facts()
        if as_json:
            print(json.dumps(self._json(facts), ensure_ascii=False))
            return
        print(f"\n# {self.name}\n{self.workload}\n")
        for label, value in facts.items():
            print(f"  {label}: {value}")
        print(f"\n{_table(self.rows, self.reference)}\n")
        for goal in self.goals:
            print(goal.line())

    def _json(self, facts: dict[str, str]) -> dict[str, object]:
        rows = [
            {"contender": row.contender, "measure": row.measure, "unit": row.unit}
            | row.quantiles()
            | {"samples": len(row.samples)}
            for row in self.rows
        ]
        goals = [asdict(goal) | {"met": goal.met} for goal in self.goals]
        return {
            "benchmark": self.name,
            "workload": self.workload,
            **facts,
            "rows": rows,
            "goals": goals,
        }


def arguments(description: str, *, rounds: int) -> argparse.Namespace:
    """The options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of every contender")
    return parser.parse_args()


def machine_facts() -> dict[str, str]:
    """What the figures depend on. No name of a host, no name of a user."""
    return {
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, {platform.system()} {platform.release()}",
        "load at the end": f"{os.getloadavg()[0]:.2f} (1 minute)",
        "python": platform.python_version(),
        "commit": _commit(),
        "ours": _versions_here(_OUR_PACKAGES),
        "rivals": _versions_of(RIVALS_PYTHON, _RIVAL_PACKAGES),
    }


def progress(text: str) -> None:
    """A line for the person who waits; stdout belongs to the report."""
    print(text, file=sys.stderr, flush=True)


def _table(rows: Sequence[Row], reference: str) -> str:
    medians = {row.measure: row.median for row in rows if row.contender == reference}
    lines = [("contender", "measure", "unit", *_SHARES, f"÷ {reference}", "samples")]
    for row in rows:
        base = medians.get(row.measure)
        lines.append(
            (
                row.contender,
                row.measure,
                row.unit,
                *(f"{value:,.3f}" for value in row.quantiles().values()),
                f"{row.median / base:.2f}" if base else "",
                str(len(row.samples)),
            )
        )
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    numeric = 3
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(width) if index < numeric else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _commit() -> str:
    try:
        commit = _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
        changed = _output("git", "-C", str(ROOT), "status", "--porcelain", "--", "src")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with changes in src/" if changed else commit


def _versions_here(packages: Sequence[str]) -> str:
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} missing")
    return ", ".join(found)


def _versions_of(python: Path, packages: Sequence[str]) -> str:
    if not python.exists():
        # Several benchmarks compare us with ourselves and run without them.
        return "not installed (benchmarks/run installs them)"
    code = f"from importlib.metadata import version as v; print(', '.join(p + ' ' + v(p) for p in {packages!r}))"
    return _output(str(python), "-c", code)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
