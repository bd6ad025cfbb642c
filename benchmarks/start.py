"""Process start: from the start of the process to its end, or to the first byte of its request on the wire."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import contenders
import programs
from contest import clean_environment, served
from programs import CLAUDE_FORCE, Program
from reporting import OUR_PYTHON, Goal, Report, Row, arguments, progress, quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

WHOLE = "start to end"
FIRST_BYTE = "start to first byte"
CLICK = "bare click --help"
WORKLOAD = (
    "Each program is started from nothing, in turns, after two warm-up rounds, with bytecode written and files cached."
    "\nBare click: a program with eight commands, in the same environment as claude-force. SDK: a minimal script that "
    "streams one answer.\nFirst byte: a server notes when the first byte of the request arrives, by the same monotonic "
    "clock; each run starts with an empty response cache.\nagents list: {count} agents, {kind}."
)


def main() -> None:
    options = arguments(__doc__ or "", rounds=20)
    with TemporaryDirectory() as name:
        folder = Path(name)
        launcher, script = programs.write_programs(folder)
        collection, kind = programs.agents_folder(folder)
        own = folder / "agents"
        own.mkdir()
        contenders.write_agent(own)
        ends = [
            Program("python -c pass", programs.bare_python()),
            Program(CLICK, (str(OUR_PYTHON), str(launcher), "--help")),
            Program("claude-force --help", (str(CLAUDE_FORCE), "--help")),
            Program("claude-force --version", (str(CLAUDE_FORCE), "--version")),
            Program(
                "claude-force agents list",
                (str(CLAUDE_FORCE), "agents", "list", "--agents", str(collection)),
            ),
        ]
        with served("--first-bytes") as (origin, server):
            firsts = [
                Program("claude-force run agent", programs.run_agent(own, f"{origin}/short")),
                Program("SDK script", programs.sdk(script, f"{origin}/short")),
            ]
            samples = _measure(ends, firsts, server, folder, options.rounds)
    Report(
        name="start",
        workload=WORKLOAD.format(count=programs.AGENT_COUNT, kind=kind),
        rows=tuple(
            Row(contender=contender, measure=measure, unit="ms", samples=tuple(values))
            for (contender, measure), values in samples.items()
        ),
        goals=_goals(samples),
        reference=CLICK,
    ).print(as_json=options.json)


def _measure(
    ends: Sequence[Program],
    firsts: Sequence[Program],
    server: subprocess.Popen[str],
    folder: Path,
    rounds: int,
) -> dict[tuple[str, str], list[float]]:
    samples: dict[tuple[str, str], list[float]] = {}
    warm_up = 2
    for number in range(-warm_up, rounds):
        progress(f"round {number + 1}/{rounds}" if number >= 0 else "warming up")
        for program in ends:
            took = _run(program, folder)
            if number >= 0:
                samples.setdefault((program.name, WHOLE), []).append(took)
        for program in firsts:
            first_byte, took = _run_to_first_byte(program, server, folder)
            if number >= 0:
                samples.setdefault((program.name, FIRST_BYTE), []).append(first_byte)
                samples.setdefault((program.name, WHOLE), []).append(took)
    return samples


def _run(program: Program, folder: Path) -> float:
    began = time.monotonic_ns()
    done = subprocess.run(
        program.command, env=clean_environment(folder), cwd=folder, capture_output=True, check=False
    )
    took = (time.monotonic_ns() - began) / 1e6
    if done.returncode:
        raise SystemExit(f"{program.name} failed:\n{done.stderr.decode()[-2000:]}")
    return took


def _run_to_first_byte(
    program: Program, server: subprocess.Popen[str], folder: Path
) -> tuple[float, float]:
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    began = time.monotonic_ns()
    took = _run(program, folder)
    assert server.stdout is not None
    return (int(server.stdout.readline()) - began) / 1e6, took


def _goals(samples: dict[tuple[str, str], list[float]]) -> tuple[Goal, ...]:
    def median(contender: str, measure: str = WHOLE) -> float:
        return quantile(samples[contender, measure], 0.5)

    click = median(CLICK)
    first_byte = median("claude-force run agent", FIRST_BYTE)
    return (
        Goal(
            claim="--help ÷ bare click", measured=median("claude-force --help") / click, at_most=1.2
        ),
        Goal(
            claim="agents list ÷ bare click",
            measured=median("claude-force agents list") / click,
            at_most=2.5,
        ),
        Goal(claim="run agent to first byte ÷ bare click", measured=first_byte / click, at_most=3),
        Goal(
            claim="run agent to first byte ÷ SDK script's",
            measured=first_byte / median("SDK script", FIRST_BYTE),
            at_most=1 / 8,
        ),
    )


if __name__ == "__main__":
    main()
