"""A hit at the command line loads nothing that only a request needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Project

    from claude_force.simulator import SimulatorThread

# HTTP, prices, the portal of the blocking API, progress bars, templates, the SDK.
FOR_REQUESTS = {"httptools", "genai_prices", "anyio", "rich", "jinja2", "anthropic", "httpx"}
# Slow to import, and of no use to a hit.
SLOW = {"importlib.metadata", "unittest", "tempfile", "urllib.request", "http.client"}

_RUN = """
import json, sys
from claude_force.cli.main import run
code = run(["run", "agent", "alpha", "--task", "Look at this", "--no-stream"])
sys.stdout.flush()
print()
print(json.dumps({"code": code, "modules": sorted(sys.modules)}))
"""


def test_a_hit_of_the_command_line_imports_no_heavy_module(
    project: Project, simulator: SimulatorThread, paid: Callable[[], int]
) -> None:
    environment = {
        **os.environ,
        "ANTHROPIC_API_KEY": "k",
        "ANTHROPIC_BASE_URL": simulator.base_url,
    }

    def run() -> tuple[set[str], str]:
        ended = subprocess.run(
            [sys.executable, "-c", _RUN],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        told = json.loads(ended.stdout.splitlines()[-1])
        assert told["code"] == 0
        return set(told["modules"]), ended.stderr

    bought, _ = run()
    # Otherwise the test could not fail.
    assert {"httptools", "genai_prices"} <= bought
    hit, told = run()
    assert "from the cache (disk" in told
    assert paid() == 1
    assert {name.partition(".")[0] for name in hit} & FOR_REQUESTS == set()
    assert hit & SLOW == set()
    assert not any(name.startswith("claude_force.simulator") for name in hit)
