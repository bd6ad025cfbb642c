"""The call path: CPU and throughput of short answers, whole path against bare HTTP libraries and the SDK."""

from __future__ import annotations

from contest import Entry, hold, rows
from reporting import Goal, Report, arguments, quantile
from server import PIECE

LEAN_CALLS = 600
HEAVY_CALLS = 150
WORKLOAD = (
    "One request with a system text of 2.9 KB and a one-line task, another one each time, answered at once by 69 characters in eight events "
    "(SDK JSON: in one JSON body).\nWhole path: run_agent with the response cache off. Bare: the HTTP library, msgspec "
    "and the decoding of the same events.\nCPU: user and system time of the contender's process, all threads, by call; "
    "one sample a batch, after a warm-up.\nEach contender in a process of its own, in turns; the server in another."
)
ENTRIES = (
    Entry("run_agent", 50, LEAN_CALLS),
    Entry("our transport", 50, LEAN_CALLS),
    Entry("aiohttp", 50, LEAN_CALLS),
    Entry("pyreqwest", 50, LEAN_CALLS),
    Entry("httpx2", 50, HEAVY_CALLS),
    Entry("SDK stream", 50, HEAVY_CALLS),
    Entry("SDK JSON", 50, HEAVY_CALLS),
    Entry("run_agent", 1, LEAN_CALLS),
    Entry("our transport", 1, LEAN_CALLS),
    Entry("run_agent", 200, 2 * LEAN_CALLS),
    Entry("our transport", 200, 2 * LEAN_CALLS),
    Entry("aiohttp", 200, 2 * LEAN_CALLS),
    Entry("pyreqwest", 200, 2 * LEAN_CALLS),
    Entry("SDK stream", 200, 2 * HEAVY_CALLS),
)


def main() -> None:
    options = arguments(__doc__ or "", rounds=5)
    figures = hold("short", ENTRIES, rounds=options.rounds, characters=3 * len(PIECE))

    def median(contender: str, concurrency: int, kind: str) -> float:
        found = next(
            found
            for entry, found in figures.items()
            if (entry.contender, entry.concurrency) == (contender, concurrency)
        )
        return quantile(getattr(found, kind), 0.5)

    whole = median("run_agent", 50, "cpu_ms")
    Report(
        name="calls",
        workload=WORKLOAD,
        rows=tuple(rows(figures, measure="")),
        reference="our transport",
        goals=(
            Goal(
                claim="CPU of the whole path ÷ our bare transport, 50 at once",
                measured=whole / median("our transport", 50, "cpu_ms"),
                at_most=2.5,
            ),
            Goal(
                claim="CPU of the whole path ÷ bare aiohttp, 50 at once",
                measured=whole / median("aiohttp", 50, "cpu_ms"),
                at_most=2.5,
            ),
            Goal(
                claim="CPU of the whole path ÷ bare pyreqwest, 50 at once",
                measured=whole / median("pyreqwest", 50, "cpu_ms"),
                at_most=2.5,
            ),
            Goal(
                claim="CPU of the whole path ÷ bare SDK (streamed), 50 at once",
                measured=whole / median("SDK stream", 50, "cpu_ms"),
                at_most=0.25,
            ),
            Goal(
                claim="CPU of the whole path ÷ bare SDK (JSON), 50 at once",
                measured=whole / median("SDK JSON", 50, "cpu_ms"),
                at_most=0.25,
            ),
            Goal(
                claim="throughput at 200 ÷ at 50",
                measured=median("run_agent", 200, "per_second")
                / median("run_agent", 50, "per_second"),
                at_least=0.8,
            ),
        ),
    ).print(as_json=options.json)


if __name__ == "__main__":
    main()
