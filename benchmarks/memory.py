"""Peak memory of one answer: `claude-force run agent` against a minimal script on the SDK."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import contenders
import programs
from contest import clean_environment, served
from programs import Program
from reporting import Goal, Report, Row, arguments, progress, quantile
from server import DELTAS

# ru_maxrss counts kilobytes on Linux and bytes on macOS.
_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
MEASURE = "peak resident memory"
OURS = "claude-force run agent"
WORKLOAD = (
    f"One answer in {DELTAS} text deltas, from a fresh process to its end. Peak resident memory as the system "
    "reports it when the process ends (ru_maxrss); ours with an empty response cache and with the prices loaded."
)


def main() -> None:
    options = arguments(__doc__ or "", rounds=5)
    with TemporaryDirectory() as name, served() as (origin, _):
        folder = Path(name)
        _, script = programs.write_programs(folder)
        contenders.write_agent(folder)
        entries = [
            Program(OURS, programs.run_agent(folder, f"{origin}/deltas")),
            Program("SDK script", programs.sdk(script, f"{origin}/deltas")),
        ]
        samples: dict[str, list[float]] = {entry.name: [] for entry in entries}
        for number in range(1, options.rounds + 1):
            progress(f"round {number}/{options.rounds}")
            for entry in entries:
                samples[entry.name].append(_peak_mb(entry, folder))
    Report(
        name="memory",
        workload=WORKLOAD,
        rows=tuple(
            Row(contender=name, measure=MEASURE, unit="MB", samples=tuple(values))
            for name, values in samples.items()
        ),
        goals=(
            Goal(
                claim="peak memory of run agent in MB",
                measured=quantile(samples[OURS], 0.5),
                at_most=60,
            ),
        ),
        reference="SDK script",
    ).print(as_json=options.json)


def _peak_mb(program: Program, folder: Path) -> float:
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    process = subprocess.Popen(
        program.command,
        env=clean_environment(folder),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{program.name} failed with exit code {process.returncode}")
    return usage.ru_maxrss * _UNIT_BYTES / 1e6


if __name__ == "__main__":
    main()
