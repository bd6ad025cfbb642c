"""A long answer in 300 pieces of text: CPU of the whole path against bare HTTP libraries and the SDK."""

from __future__ import annotations

from contest import Entry, Figures, hold, rows
from reporting import Goal, Report, arguments, quantile
from server import DELTAS, PIECE

WORKLOAD = (
    f"One request, answered by {DELTAS * len(PIECE):,} characters in {DELTAS} text deltas; 10 at once.\n"
    "Burst: each delta is a write of its own, one right after the other, so that a client may find several in one read."
    "\nPaced: a millisecond between two, so that every delta is a read of its own.\n"
    "CPU: user and system time of the contender's process, all threads, by call; one sample a batch, after a warm-up."
)
CONCURRENCY = 10
LEAN = ("run_agent", "our transport", "aiohttp", "pyreqwest")
HEAVY = ("httpx2", "SDK stream")


def main() -> None:
    options = arguments(__doc__ or "", rounds=4)
    burst = _hold("deltas", options.rounds, lean_calls=100, heavy_calls=30)
    paced = _hold("paced", max(options.rounds // 2, 1), lean_calls=40, heavy_calls=30)
    Report(
        name="streams",
        workload=WORKLOAD,
        rows=(*rows(burst, measure=" (burst)"), *rows(paced, measure=" (paced)")),
        reference="SDK stream",
        goals=(
            Goal(
                claim="CPU of the whole path ÷ bare SDK, burst",
                measured=_cpu(burst, "run_agent") / _cpu(burst, "SDK stream"),
                at_most=1 / 15,
            ),
        ),
    ).print(as_json=options.json)


def _hold(mode: str, rounds: int, *, lean_calls: int, heavy_calls: int) -> dict[Entry, Figures]:
    entries = [Entry(name, CONCURRENCY, lean_calls) for name in LEAN]
    entries += [Entry(name, CONCURRENCY, heavy_calls) for name in HEAVY]
    return hold(mode, entries, rounds=rounds, characters=DELTAS * len(PIECE))


def _cpu(figures: dict[Entry, Figures], contender: str) -> float:
    found = next(found for entry, found in figures.items() if entry.contender == contender)
    return quantile(found.cpu_ms, 0.5)


if __name__ == "__main__":
    main()
