"""Every call becomes a row, and no store can cost a call."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.domain.events import (
    AttemptFailed,
    CallFailed,
    CallFinished,
    CallStarted,
    RunStarted,
    TextDelta,
)
from claude_force.domain.messages import CacheHit
from claude_force.domain.results import AgentResult
from claude_force.domain.usage import Usage
from claude_force.metrics.reader import MetricsReader
from claude_force.metrics.recorder import Recorder, RecorderStats
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Until

    from claude_force.metrics.rows import CallRow

NOW = 1_795_435_200.0


def result(**fields: Any) -> AgentResult:
    ordinary: dict[str, Any] = {
        "agent_name": "writer",
        "text": "the answer",
        "stop_reason": "end_turn",
        "model": "claude-haiku-5-5",
        "requested_model": "claude-sonnet-5-5",
        "usage": Usage(
            input_tokens=7, output_tokens=5, cache_read_tokens=3, cache_write_1h_tokens=2
        ),
        "cost_usd": Decimal("0.00123"),
        "seconds": 1.5,
    }
    return AgentResult(**{**ordinary, **fields})


def rows_of(path: Path) -> list[CallRow]:
    with closing(MetricsReader(path)) as reader:
        return list(reader.rows())


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_finished_call_is_a_row(store_path: Path) -> None:
    clock = Clock()
    recorder = Recorder(store_path, wall_clock=lambda: NOW, monotonic=clock)
    recorder(RunStarted("run1", "code-quality", ("review",)))
    recorder(CallStarted("c1", "writer", "claude-sonnet-5-5", "run1", "review"))
    clock.now += 0.25
    recorder(TextDelta("c1", "the "))
    clock.now += 1
    recorder(TextDelta("c1", "answer"))
    lost = (Usage(input_tokens=7, output_tokens=1),)
    recorder(CallFinished("c1", result(attempts=2, lost_usages=lost), "run1", "review"))
    recorder.close()
    (row,) = rows_of(store_path)
    assert row._asdict() == {
        "ended_at": NOW,
        "call_id": "c1",
        "agent_name": "writer",
        "model": "claude-haiku-5-5",
        "requested_model": "claude-sonnet-5-5",
        "seconds": 1.5,
        "attempts": 2,
        "workflow_name": "code-quality",
        "run_id": "run1",
        "step_id": "review",
        "error_kind": None,
        "first_text_seconds": 0.25,
        "input_tokens": 14,
        "output_tokens": 6,
        "cache_read_tokens": 3,
        "cache_write_tokens": 2,
        "cost_usd": Decimal("0.00123"),
        "cached_tier": None,
        "saved_usd": None,
        "plain_usd": Decimal(0),
        # The result does not say.
        "prompt_cache_saved_usd": None,
        "batch_saved_usd": Decimal(0),
        "fallback_saved_usd": Decimal(0),
    }


def test_first_text_of_a_failed_attempt_does_not_count(store_path: Path) -> None:
    clock = Clock()
    recorder = Recorder(store_path, monotonic=clock)
    recorder(CallStarted("c1", "writer", "m"))
    clock.now += 1
    recorder(TextDelta("c1", "void"))
    recorder(AttemptFailed("c1", 1, "transport", "cut", 0.5, text_was_sent=True))
    clock.now += 3
    recorder(TextDelta("c1", "the answer"))
    recorder(CallFinished("c1", result()))
    recorder.close()
    assert [row.first_text_seconds for row in rows_of(store_path)] == [4.0]


def test_hit_of_the_cache_saves_and_costs_nothing(store_path: Path) -> None:
    recorder = Recorder(store_path)
    hit = CacheHit("disk", 60.0, saved_usd=Decimal("0.5"))
    recorder(CallFinished("c1", result(cached=hit, cost_usd=Decimal(0))))
    recorder.close()
    (row,) = rows_of(store_path)
    assert (row.cached_tier, row.saved_usd, row.cost_usd) == ("disk", Decimal("0.5"), Decimal(0))
    assert (row.attempts, row.input_tokens, row.output_tokens) == (0, 0, 0)


def test_failed_call_is_a_row_with_what_it_took(store_path: Path) -> None:
    recorder = Recorder(store_path)
    recorder(
        CallFailed(
            *("c1", "writer", "timeout", "a message with the task in it", 9.0, "m", None, None),
            attempts=3,
            usage=Usage(input_tokens=20),
            cost_usd=None,
        )
    )
    recorder.close()
    (row,) = rows_of(store_path)
    assert (row.error_kind, row.attempts, row.input_tokens, row.cost_usd) == (
        "timeout",
        3,
        20,
        None,
    )


def test_nothing_of_what_was_asked_or_answered_is_stored(store_path: Path) -> None:
    recorder = Recorder(store_path)
    recorder(CallStarted("c1", "writer", "m"))
    recorder(TextDelta("c1", "secret-of-the-answer"))
    recorder(CallFinished("c1", result(text="secret-of-the-answer")))
    recorder(CallFailed("c2", "writer", "timeout", "secret-of-the-answer", 1.0))
    recorder.close()
    assert b"secret-of-the-answer" not in store_path.read_bytes()


def test_rows_are_on_disk_soon_without_anybody_closing(store_path: Path, until: Until) -> None:
    recorder = Recorder(store_path)
    recorder(CallFinished("c1", result()))
    until(lambda: store_path.exists() and len(rows_of(store_path)) == 1)
    recorder(CallFinished("c2", result()))
    until(lambda: len(rows_of(store_path)) == 2)
    recorder.close()


def test_only_the_owner_can_read_the_store(store_path: Path) -> None:
    recorder = Recorder(store_path)
    recorder(CallFinished("c1", result()))
    recorder.close()
    assert stat.S_IMODE(store_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store_path.parent.stat().st_mode) == 0o700


def test_closing_ends_the_thread(store_path: Path) -> None:
    before = set(threading.enumerate())
    recorder = Recorder(store_path)
    recorder(CallFinished("c1", result()))
    assert len(set(threading.enumerate()) - before) == 1
    recorder.close()
    assert set(threading.enumerate()) <= before


def test_closing_off_the_loop_writes_what_is_waiting(store_path: Path) -> None:
    async def main() -> None:
        recorder = Recorder(store_path)
        for number in range(500):
            recorder(CallFinished(str(number), result()))
        await recorder.aclose()
        await recorder.aclose()
        assert recorder.stats() == RecorderStats(written=500, lost=0)

    asyncio.run(main())
    assert len(rows_of(store_path)) == 500


def test_no_file_is_made_without_a_call(store_path: Path) -> None:
    Recorder(store_path).close()
    assert not store_path.parent.exists()


def test_threads_may_tell_at_the_same_time(store_path: Path) -> None:
    recorder = Recorder(store_path)

    def tell(name: str) -> None:
        for number in range(500):
            recorder(CallStarted(f"{name}{number}", name, "m"))
            recorder(CallFinished(f"{name}{number}", result(agent_name=name)))

    threads = [threading.Thread(target=tell, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    assert len({row.call_id for row in rows_of(store_path)}) == 2000


def test_store_that_cannot_be_used_is_warned_of_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where the folder should be", encoding="utf-8")
    recorder = Recorder(tmp_path / "state" / "metrics.db")
    with caplog.at_level(logging.WARNING, logger="claude_force.metrics"):
        for number in range(3):
            recorder(CallFinished(str(number), result()))
            recorder.flush()
    recorder.close()
    assert recorder.stats() == RecorderStats(written=0, lost=3)
    (record,) = caplog.records
    assert record.getMessage() == "metrics cannot be recorded; calls go on without them"
    assert vars(record)["path"] == str(tmp_path / "state" / "metrics.db")


def test_file_of_another_program_is_left_as_it_is(store_path: Path) -> None:
    store_path.parent.mkdir()
    store_path.write_bytes(b"not a database, but somebody's notes" * 10)
    recorder = Recorder(store_path)
    recorder(CallFinished("c1", result()))
    recorder.close()
    assert recorder.stats().lost == 1
    assert store_path.read_bytes() == b"not a database, but somebody's notes" * 10
    with pytest.raises(StorageError, match="not written by claude-force"):
        rows_of(store_path)


def test_rolled_back_batch_leaves_no_half_and_the_next_one_is_written(store_path: Path) -> None:
    recorder = Recorder(store_path)
    recorder(CallFinished("c1", result()))
    recorder.flush()
    with closing(sqlite3.connect(store_path, isolation_level=None)) as other:
        other.execute(
            "CREATE TRIGGER no BEFORE INSERT ON days BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        recorder(CallFinished("c2", result(agent_name="another")))
        recorder.flush()
        other.execute("DROP TRIGGER no")
    recorder.close()
    assert recorder.stats() == RecorderStats(written=1, lost=1)
    after = Recorder(store_path)
    after(CallFinished("c3", result(agent_name="another")))
    after.close()
    assert [row.call_id for row in rows_of(store_path)] == ["c1", "c3"]
    with closing(MetricsReader(store_path)) as reader:
        assert reader.summary().value.totals.calls == 2


_WRITER = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[3]]
from test_recorder import result
from claude_force.domain.events import CallFinished
from claude_force.metrics.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]))
for number in range(400):
    recorder(CallFinished(f"{sys.argv[2]}-{number}", result()))
    if number % 40 == 0:
        recorder.flush()
# Nobody closes it: the end of the process writes the rest.
"""


def test_several_processes_lose_nothing(store_path: Path, request: pytest.FixtureRequest) -> None:
    folder = str(request.path.parent)
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(store_path), str(number), folder])
        for number in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len({row.call_id for row in rows_of(store_path)}) == 1200
    with closing(MetricsReader(store_path)) as reader:
        totals = reader.summary().value.totals
        assert (totals.calls, totals.cost_usd) == (1200, 1200 * Decimal("0.00123"))


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from test_recorder import result
from claude_force.domain.events import CallFinished
from claude_force.metrics.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]))
for number in range(500):
    recorder(CallFinished(f"early-{number}", result()))
recorder.flush()
for number in range(500):
    recorder(CallFinished(f"late-{number}", result()))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_at_most_what_was_not_flushed(
    store_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = str(request.path.parent)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(store_path), folder], timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    kept = [row.call_id for row in rows_of(store_path)]
    assert {f"early-{number}" for number in range(500)} <= set(kept)
    # Rows and their roll-ups are of one transaction.
    with closing(MetricsReader(store_path)) as reader:
        assert reader.summary().value.totals.calls == len(kept)
    after = Recorder(store_path)
    after(CallFinished("next", result()))
    after.close()
    assert [row.call_id for row in rows_of(store_path)] == [*kept, "next"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_writes_its_own_calls_and_not_those_of_its_parent(store_path: Path) -> None:
    recorder = Recorder(store_path)
    recorder(CallFinished("parent-1", result()))
    recorder.flush()
    child = os.fork()
    if child == 0:
        recorder(CallFinished("child", result()))
        recorder.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    recorder(CallFinished("parent-2", result()))
    recorder.close()
    assert {row.call_id for row in rows_of(store_path)} == {"parent-1", "child", "parent-2"}


class TestOrchestrator:
    def test_calls_are_recorded_by_default(self, project: Any, make_force: Any) -> None:
        async def main() -> None:
            async with make_force() as force:
                await force.run_agent("alpha", "Look at this")
                await force.run_agent("alpha", "Look at this")

        asyncio.run(main())
        path = project.home / "state" / "claude-force" / "metrics.db"
        first, second = rows_of(path)
        assert (first.agent_name, first.cached_tier, first.ok) == ("alpha", None, True)
        assert first.first_text_seconds is not None
        assert second.cached_tier == "memory"
        assert second.saved_usd == first.cost_usd

    def test_calls_of_a_workflow_name_it(self, project: Any, make_force: Any) -> None:
        definition = {"name": "two-steps", "steps": [{"id": "one", "agent": "alpha"}]}

        async def main() -> None:
            async with make_force() as force:
                await force.execute_workflow(definition, "Look at this")

        asyncio.run(main())
        (row,) = rows_of(project.home / "state" / "claude-force" / "metrics.db")
        assert (row.workflow_name, row.step_id) == ("two-steps", "one")

    def test_failures_are_recorded_with_their_kind(self, project: Any, make_force: Any) -> None:
        async def main() -> None:
            async with make_force(timeout_seconds=0.001) as force:
                with pytest.raises(TimeoutError):
                    await force.run_agent("alpha", "Look at this")

        asyncio.run(main())
        (row,) = rows_of(project.home / "state" / "claude-force" / "metrics.db")
        assert row.error_kind == "timeout"

    def test_settings_can_switch_it_off(self, project: Any, make_force: Any) -> None:
        project.config(metrics={"enabled": False})

        async def main() -> None:
            async with make_force() as force:
                await force.run_agent("alpha", "Look at this")

        asyncio.run(main())
        assert not (project.home / "state" / "claude-force" / "metrics.db").exists()

    def test_double_without_an_origin_leaves_nothing_behind(
        self, project: Any, scripted: Callable[[], Any]
    ) -> None:
        from claude_force import AsyncAgentOrchestrator

        async def main() -> None:
            async with AsyncAgentOrchestrator(client=scripted()) as force:
                await force.run_agent("alpha", "Look at this")

        asyncio.run(main())
        assert not (project.home / "state").exists()

    def test_store_that_cannot_be_used_costs_no_call(self, project: Any, make_force: Any) -> None:
        state = project.home / "elsewhere"
        (state / "metrics.db").mkdir(parents=True)

        async def main() -> str:
            async with make_force(state_dir=state) as force:
                return (await force.run_agent("alpha", "Look at this")).text

        assert asyncio.run(main())


@pytest.fixture
def scripted() -> Callable[[], Any]:
    from claude_force.testing import ScriptedClient

    return ScriptedClient
