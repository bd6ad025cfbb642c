"""A dashboard as a process of its own, over stores of the test, and a browser to look at it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import COMMAND
from tests.reporting.browser import browser

from claude_force.domain.events import StepStarted
from claude_force.domain.runs import CallPlace, CallRecord, PromptPart
from claude_force.domain.usage import Usage
from claude_force.metrics.rows import CallRow
from claude_force.metrics.schema import SCHEMA
from claude_force.metrics.writing import RowWriter
from claude_force.storage.database import open_database
from claude_force.workflows.journal import RunJournal
from claude_force.workflows.journal_tables import RunHeader
from claude_force.workflows.reading import parse_workflow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.reporting.browser import Page


@dataclass(frozen=True)
class Served:
    """A dashboard that runs."""

    folder: Path
    address: str
    token: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1].strip("/"))

    @property
    def url(self) -> str:
        return f"{self.address}?token={self.token}"

    def write(self, rows: Iterable[CallRow]) -> None:
        """As a recorder of another process does."""
        with closing(open_database(self.folder / "metrics.db", SCHEMA)) as connection:
            RowWriter(connection).write(list(rows))


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    process = subprocess.Popen(
        [COMMAND, "dashboard", "--no-browser", "--port", "0", "--json", "--dir", str(folder)],
        env={**os.environ, "HOME": str(folder), "PYTHONWARNINGS": "error"},
        cwd=folder,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        told = json.loads(line)
        yield Served(folder, told["address"], told["token"], process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all tests of a module: each adds agents and runs of its own."""
    with served(tmp_path_factory.mktemp("state")) as one:
        yield one


@pytest.fixture(scope="module")
def _browser_page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


@pytest.fixture
def page(_browser_page: Page) -> Page:
    """A page that has logged and loaded nothing yet, and holds no token."""
    _browser_page.send("Network.clearBrowserCookies")
    _browser_page.show(1280, 900, dark=False)
    _browser_page.errors.clear()
    _browser_page.loaded.clear()
    return _browser_page


def row(ended_at: float | None = None, **fields: Any) -> CallRow:
    """A call that went well just now, unless told otherwise."""
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
    return CallRow(time.time() if ended_at is None else ended_at, **{**ordinary, **fields})


SECRET = "the secret that was asked"


@contextmanager
def run_under_way(folder: Path, run_id: str) -> Iterator[RunJournal]:
    """A run of two steps whose first is under way, as its process journals it."""
    workflow = parse_workflow(
        f"flow-{run_id}",
        {
            "steps": [
                {"id": "gather", "agent": "alpha", "task": SECRET},
                {"id": "judge", "agent": "beta", "task": "{{ steps.gather.text }}", "needs": ["gather"]},
            ]
        },
    )  # fmt: skip
    header = RunHeader(run_id=run_id, workflow=workflow, by_name=False, task=SECRET)
    journal = RunJournal.start(folder, header, now=time.time())
    try:
        journal.take(StepStarted(run_id, "gather", "alpha"))
        yield journal
    finally:
        journal.close()


def keep_call(journal: RunJournal, step_id: str, *, cost_usd: Decimal | None) -> None:
    """A call of a step that went well, as the process of the run journals it."""
    call = CallRecord(
        place=CallPlace(step_id=step_id), key="0" * 32, agent_name="alpha", model="m",
        prompt=(PromptPart("user", SECRET),), text=SECRET,
        usage=Usage(input_tokens=1000, output_tokens=200), cost_usd=cost_usd,
    )  # fmt: skip
    asyncio.run(journal.record(call.key, lambda: call, None))
