"""A disk that refuses costs the hit and nothing else."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from claude_force import ResponseCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.caching.conftest import AnswerFile, Ask
    from tests.conftest import Cli, MakeBlocking, Project

    from claude_force.simulator import SimulatorThread

    Paid = Callable[[], int]


def file_in_place_of_the_folder(folder: Path) -> None:
    folder.write_text("a file")


def file_in_place_of_its_parent(folder: Path) -> None:
    folder.parent.mkdir()
    folder.parent.rmdir()
    folder.parent.write_text("a file")


def link_that_leads_nowhere(folder: Path) -> None:
    folder.parent.mkdir()
    folder.symlink_to(folder.parent / "nowhere" / "at" / "all")


def link_that_leads_to_itself(folder: Path) -> None:
    folder.parent.mkdir()
    folder.symlink_to(folder)


def name_that_no_file_can_have(folder: Path) -> None:
    folder.parent.mkdir()


@pytest.mark.parametrize(
    "hinder",
    [
        file_in_place_of_its_parent,
        link_that_leads_nowhere,
        link_that_leads_to_itself,
        name_that_no_file_can_have,
    ],
)
def test_a_folder_that_cannot_be_made_costs_nothing_but_the_hit(
    make_blocking: MakeBlocking,
    tmp_path: Path,
    paid: Paid,
    caplog: pytest.LogCaptureFixture,
    hinder: Callable[[Path], None],
) -> None:
    folder = tmp_path / "place" / "answers"
    hinder(folder)
    if hinder is name_that_no_file_can_have:
        folder = folder.with_name("x" * 300)
    for expected in (1, 2):
        with make_blocking(cache_dir=folder) as force:
            assert force.run_agent("alpha", "Look at this").cached is None
            # Memory still answers in this process.
            again = force.run_agent("alpha", "Look at this")
            assert again.cached is not None
            assert again.cached.tier == "memory"
        assert paid() == expected
    assert any("cache" in record.name for record in caplog.records)


def test_a_file_in_place_of_the_folder_stays_and_the_command_answers(
    cli: Cli, project: Project, paid: Paid
) -> None:
    place = project.home / "cache" / "claude-force" / "responses"
    place.parent.mkdir(parents=True)
    place.write_text("a file")
    for expected in (1, 2):
        run = cli("run", "agent", "alpha", "--task", "Look at this")
        assert run.code == 0
        assert "> Look at this" in run.out
        assert paid() == expected
    assert place.read_text() == "a file"


# The largest file that the process may write is smaller than the database.
_CROWDED = """
import asyncio, json, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from claude_force import AsyncAgentOrchestrator
folder, base_url, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])

async def main():
    tiers = []
    async with AsyncAgentOrchestrator(api_key="k", base_url=base_url, cache_dir=folder) as force:
        await force.run_agent("alpha", "The first one")
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        for number in range(15):
            result = await force.run_agent("alpha", f"Look at {number}", max_tokens=2000)
            assert result.ok
        hit = await force.run_agent("alpha", "Look at 14", max_tokens=2000)
        tiers.append(hit.cached.tier)
    print(json.dumps(tiers))

asyncio.run(main())
"""


@pytest.mark.parametrize("limit_bytes", [0, 60_000])
def test_a_full_disk_costs_nothing_but_the_hit(
    project: Project,
    simulator: SimulatorThread,
    cache_dir: Path,
    ask: Ask,
    limit_bytes: int,
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _CROWDED, str(cache_dir), simulator.base_url, str(limit_bytes)],
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == ["memory"]
    assert simulator.stats.requests == 16
    # What was written before is whole, and the disk has room again.
    assert ask(task="Look at 3", max_tokens=2000).ok
    assert ask(task="Look at 3", max_tokens=2000).cached is not None


def test_a_file_that_another_program_keeps_locked_costs_nothing_but_the_hit(
    ask: Ask, answers: AnswerFile, paid: Paid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_force.cache.disk_tier._BUSY_SECONDS", 0.05)
    ask()
    with closing(sqlite3.connect(answers.path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        # Reading goes on beside a writer; writing does not.
        assert ask().cached is not None
        assert ask(task="Something else").cached is None
        holder.execute("ROLLBACK")
    assert ask(task="Something else").cached is None
    assert ask(task="Something else").cached is not None
    assert paid() == 3


def test_a_folder_that_is_removed_under_the_program_costs_nothing_but_the_hit(
    make_blocking: MakeBlocking, cache_dir: Path, paid: Paid
) -> None:
    with make_blocking(cache_dir=cache_dir) as force:
        force.run_agent("alpha", "Look at this")
        shutil.rmtree(cache_dir)
        assert force.run_agent("alpha", "Look at that").ok
        assert force.run_agent("alpha", "Look at this").ok
    with make_blocking(cache_dir=cache_dir) as force:
        assert force.run_agent("alpha", "Look at this").ok
    assert paid() <= 4


def test_what_is_wrong_is_reported_once_and_shows_no_answer(
    make_blocking: MakeBlocking, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("a file")
    with caplog.at_level(logging.WARNING), make_blocking(cache_dir=tmp_path / "file") as force:
        for number in range(5):
            force.run_agent("alpha", f"A task of my own {number}")
    lines = [record.getMessage() for record in caplog.records if ".cache." in record.name]
    about_the_file = [line for line in lines if "answers are not kept there" in line]
    assert len(about_the_file) == 1
    assert str(tmp_path / "file") in about_the_file[0]
    assert "A task of my own" not in caplog.text
    assert "simulated answer" not in caplog.text


def test_the_cache_alone_degrades_to_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    with ResponseCache(tmp_path / "file") as cache:
        assert cache.get("writer", "task", "model") is None
        cache.set("writer", "task", "model", "Hello.", 1, 1, 0.0)
        found = cache.get("writer", "task", "model")
        assert found is not None
        assert found["response"] == "Hello."
        cache.flush()
        assert cache.get_stats()["entries"] == 0
        assert cache.clear() == 0
    assert (tmp_path / "file").read_text() == "a file"
