"""No run dies of a rate limit: many calls of several processes against a server that enforces its limits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from claude_force.simulator import Latency, RateLimits, Scenario, SimulatorThread

WORKER = Path(__file__).with_name("governed_worker.py")
CALLS = 1_000
PROCESSES = 4
# A minute of the limits lasts so much less.
TIME_SCALE = 8.0
REQUESTS_PER_MINUTE = 600
INPUT_TOKENS_PER_MINUTE = 140_000


def test_a_thousand_calls_of_four_processes_all_end_in_an_answer_at_the_speed_of_the_limit(
    tmp_path: Path,
) -> None:
    scenario = Scenario(
        latency=Latency(
            distribution="fixed",
            first_event_median_seconds=0.05,
            output_tokens_per_second=100_000,
        ),
        min_output_tokens=5,
        max_output_tokens=10,
        rate_limits=RateLimits(
            requests_per_minute=REQUESTS_PER_MINUTE,
            input_tokens_per_minute=INPUT_TOKENS_PER_MINUTE,
            time_scale=TIME_SCALE,
        ),
    )
    with SimulatorThread(scenario=scenario) as simulator:
        workers = [
            subprocess.Popen(
                [
                    sys.executable,
                    str(WORKER),
                    json.dumps(
                        {
                            "url": simulator.base_url,
                            "database": str(tmp_path / "limits.db"),
                            "first": index * CALLS // PROCESSES,
                            "calls": CALLS // PROCESSES,
                            "window_seconds": 60 / TIME_SCALE,
                            "max_concurrent": 20,
                        }
                    ),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            for index in range(PROCESSES)
        ]
        reports = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
        stats = simulator.stats

    # Interpreters take their time to start; the clock is the same for all processes.
    seconds = max(report["ended"] for report in reports) - min(
        report["started"] for report in reports
    )
    for report in reports:
        assert report["sharing_failure"] is None
        assert report["outcomes"] == {"answered": CALLS // PROCESSES}
        assert report["in_flight"] == 0
    assert stats.answers == CALLS
    assert stats.rate_limited <= 0.02 * stats.requests, stats.rate_limited
    dictated = max(
        dictated_seconds(CALLS, REQUESTS_PER_MINUTE),
        dictated_seconds(stats.usage.input_tokens, INPUT_TOKENS_PER_MINUTE),
    )
    assert seconds <= 1.15 * dictated, (seconds, dictated)


def dictated_seconds(amount: int, per_minute: int) -> float:
    """The shortest time in which a full bucket gives ``amount``."""
    return (amount - per_minute) / per_minute * 60 / TIME_SCALE
