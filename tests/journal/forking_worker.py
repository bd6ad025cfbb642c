"""Runs workflows in child processes that a test may kill: imports are paid once, a process is a fork.

Each line on stdin is JSON: {"folder": state folder, "resume": bool, "max_concurrent": n}. For each, the pid of the
child is printed, and when it has ended its exit code. A child that ends well leaves ``result.json`` in its folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

# What a run would import, so that every child has it.
import genai_prices  # noqa: F401 - see above
import jinja2.sandbox  # noqa: F401 - see above
import jsonschema  # noqa: F401 - see above

import claude_force.agents.registered
import claude_force.assembly.workflow_runs
import claude_force.metrics.recorder
import claude_force.pricing.catalogue
import claude_force.provider.messages_api
import claude_force.provider.resilient
import claude_force.workflows.run_store  # noqa: F401 - see above
from claude_force.orchestrator import AsyncAgentOrchestrator

WORKFLOW, BASE_URL = sys.argv[1], sys.argv[2]


async def work(job: dict[str, object]) -> None:
    folder = Path(str(job["folder"]))
    async with AsyncAgentOrchestrator(
        api_key="key-of-the-tests",
        base_url=BASE_URL,
        state_dir=folder,
        enable_cache=False,
        max_concurrent=int(str(job["max_concurrent"])),
    ) as force:
        if job["resume"]:
            result = await force.resume_workflow("last")
        else:
            result = await force.execute_workflow(WORKFLOW, "Look at the release.")
    states = {step_id: step.state for step_id, step in result.steps.items()}
    order = list(result.execution_order)
    (folder / "result.json").write_text(
        json.dumps({"results": result.results, "states": states, "order": order})
    )


for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        asyncio.run(work(json.loads(line)))
        os._exit(0)
    sys.stdout.write(f"{pid}\n")
    sys.stdout.flush()
    _, status = os.waitpid(pid, 0)
    sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
    sys.stdout.flush()
