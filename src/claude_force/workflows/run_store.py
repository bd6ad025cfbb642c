"""The runs that are on record, for those who look."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from claude_force.agents.attachments import Attachment
from claude_force.domain.errors import InputError, JournalError
from claude_force.domain.runs import CallRecord, CallTotals, PromptPart, RunRecord
from claude_force.domain.usage import NO_USAGE, Usage
from claude_force.resilience.lease_files import is_abandoned
from claude_force.storage.database import open_database
from claude_force.storage.errors import StorageError
from claude_force.workflows.journal import LEASES
from claude_force.workflows.journal_layout import (
    JOURNAL_FILE,
    SCHEMA,
    decode_call,
    decode_step,
    unpacked,
)
from claude_force.workflows.journal_tables import RunHeader
from claude_force.workflows.reading import parse_workflow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from claude_force.domain.runs import RunState, StepRecord

# Stands for the run that was started last.
LAST: Final = "last"
_COLUMNS: Final = (
    "run_id, workflow_name, description, task, state, started_at, ended_at, seconds, resumed"
)


class RunStore:
    """The journal of all runs, read. Every method waits for the disk; nothing is made by looking.

    Raises:
        JournalError: the journal cannot be read.
        InputError: a run is not known; the message names those that are near.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recent(self, *, limit: int | None = None) -> list[RunRecord]:
        """Runs without their steps, the one started last first."""
        with self._open() as database:
            if database is None:
                return []
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM runs ORDER BY started_at DESC, run_id LIMIT ?",  # noqa: S608 - names of ours
                (-1 if limit is None else limit,),
            ).fetchall()
            return [_totalled(self._run(row), _totals(database, row[0])) for row in rows]

    def find(self, name: str) -> str:
        """The id of a run that is named by its id, the beginning of it, or ``last``."""
        with self._open() as database:
            rows = (
                []
                if database is None
                else database.execute(
                    "SELECT run_id FROM runs ORDER BY started_at DESC, run_id"
                ).fetchall()
            )
        ids = [row[0] for row in rows]
        if not ids:
            raise InputError("No run is on record yet; `claude-force run workflow NAME` makes one.")
        if name == LAST:
            return str(ids[0])
        found = [run_id for run_id in ids if run_id.startswith(name)]
        if len(found) == 1 or name in found:
            return name if name in found else str(found[0])
        what = "Several runs begin" if found else "No run begins"
        raise InputError(
            f"{what} with {name!r}. The last ones are: {', '.join((found or ids)[:5])}. See `claude-force runs list`."
        )

    def load(self, run_id: str) -> RunRecord:
        """A run with its steps and their calls."""
        with self._open() as database:
            run = self._found(database, run_id)
            assert database is not None  # noqa: S101 - something was found in it
            calls = self._calls(database, run_id)
            return replace(
                _totalled(run, _totals(database, run_id)), steps=_steps(database, run_id, calls)
            )

    def outline(self, run_id: str) -> RunRecord:
        """A run with its steps and what their calls came to, without the calls: for a view that looks every second."""
        with self._open() as database:
            run = self._found(database, run_id)
            assert database is not None  # noqa: S101 - as above
            totals = _totals(database, run_id)
            steps = _steps(database, run_id, {})
            return replace(
                _totalled(run, totals),
                steps=tuple(replace(step, totals=totals.get(step.step_id)) for step in steps),
            )

    def answer_keys(self, run_id: str) -> list[str]:
        """Content keys of what a run was answered: those under which the response cache holds the same answers."""
        with self._open() as database:
            if database is None:
                return []
            rows = database.execute(
                "SELECT DISTINCT key FROM calls WHERE run_id = ? AND result IS NOT NULL", (run_id,)
            ).fetchall()
        return [key for (key,) in rows]

    def header(self, run_id: str) -> RunHeader:
        """What a run is resumed from, as it was kept.

        Raises:
            WorkflowDefinitionError: the definition was written by another version, and cannot be read by this one.
        """
        with self._open() as database:
            row = (
                None
                if database is None
                else database.execute(
                    "SELECT workflow_name, definition, by_name, task, patterns FROM runs WHERE run_id = ?",
                    (run_id,),
                ).fetchone()
            )
            if database is None or row is None:
                raise InputError(f"No run is called {run_id!r}. See `claude-force runs list`.")
            files = database.execute(
                "SELECT name, body FROM files JOIN texts USING (digest) WHERE run_id = ? ORDER BY position",
                (run_id,),
            ).fetchall()
        name, definition, by_name, task, patterns = row
        found = None if patterns is None else json.loads(patterns)
        return RunHeader(
            run_id=run_id,
            workflow=parse_workflow(name, json.loads(definition)),
            by_name=bool(by_name),
            task=task,
            files=tuple(Attachment(name, unpacked(body)) for name, body in files),
            patterns=None if found is None else (tuple(found[0]), found[1]),
        )

    def cancel(self, run_id: str) -> bool:
        """Ask the process that works on a run to stop it; False where none does."""
        with self._open() as database:
            if database is None or self._state(run_id, "running") != "running":
                return False
            database.execute("UPDATE runs SET cancel = 1 WHERE run_id = ?", (run_id,))
        return True

    def prune(self, *, started_before: float | None = None, keep: int | None = None) -> int:
        """Remove runs that began before a moment, or all but the last ``keep``; how many. Running ones stay."""
        with self._open() as database:
            if database is None:
                return 0
            rows = database.execute(
                "SELECT run_id, started_at, state FROM runs ORDER BY started_at DESC, run_id"
            ).fetchall()
            doomed = [
                run_id
                for place, (run_id, started_at, state) in enumerate(rows)
                if self._state(run_id, state) != "running"
                and (
                    (keep is not None and place >= keep)
                    or (started_before is not None and started_at < started_before)
                )
            ]
            database.execute("BEGIN IMMEDIATE")
            database.executemany("DELETE FROM runs WHERE run_id = ?", ((one,) for one in doomed))
            self._drop_unused_texts(database)
            database.execute("COMMIT")
        return len(doomed)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection | None]:
        path = self._folder / JOURNAL_FILE
        if not path.exists():
            yield None
            return
        try:
            with closing(open_database(path, SCHEMA, busy_timeout_seconds=10.0)) as database:
                database.execute("PRAGMA foreign_keys = ON")
                yield database
        except (StorageError, sqlite3.Error) as error:
            raise JournalError(f"The journal of runs cannot be used: {error}.") from error

    def _found(self, database: sqlite3.Connection | None, run_id: str) -> RunRecord:
        row = (
            None
            if database is None
            else database.execute(
                f"SELECT {_COLUMNS} FROM runs WHERE run_id = ?",  # noqa: S608 - names of ours
                (run_id,),
            ).fetchone()
        )
        if database is None or row is None:
            raise InputError(f"No run is called {run_id!r}. See `claude-force runs list`.")
        return self._run(row)

    def _state(self, run_id: str, written: str) -> RunState:
        """The state of a run; one that nobody works on was interrupted."""
        if written == "running" and is_abandoned(self._folder / LEASES, run_id):
            return "interrupted"
        return written  # type: ignore[return-value] # the journal writes no other

    def _run(self, row: Sequence[Any]) -> RunRecord:
        run_id, name, description, task, state, started_at, ended_at, seconds, resumed = row
        return RunRecord(
            run_id=run_id,
            workflow_name=name,
            description=description,
            task=task,
            state=self._state(run_id, state),
            started_at=datetime.fromtimestamp(started_at, UTC),
            ended_at=None if ended_at is None else datetime.fromtimestamp(ended_at, UTC),
            seconds=seconds,
            resumed=resumed,
        )

    def _calls(self, database: sqlite3.Connection, run_id: str) -> dict[str, list[CallRecord]]:
        texts: dict[str, str] = {}
        calls: dict[str, list[CallRecord]] = {}
        rows = database.execute(
            "SELECT step_id, prompt, record FROM calls WHERE run_id = ? ORDER BY number", (run_id,)
        ).fetchall()
        for step_id, prompt, record in rows:
            parts = []
            for role, digest in json.loads(prompt):
                if digest not in texts:
                    texts[digest] = self._text(database, digest)
                parts.append(PromptPart(role, texts[digest]))
            calls.setdefault(step_id, []).append(decode_call(record, tuple(parts)))
        return calls

    def _text(self, database: sqlite3.Connection, digest: str) -> str:
        row = database.execute(
            "SELECT body FROM texts WHERE digest = ?", (bytes.fromhex(digest),)
        ).fetchone()
        return "" if row is None else unpacked(row[0])

    def _drop_unused_texts(self, database: sqlite3.Connection) -> None:
        used = {row[0] for row in database.execute("SELECT digest FROM files")}
        for (prompt,) in database.execute("SELECT prompt FROM calls"):
            used |= {bytes.fromhex(digest) for _, digest in json.loads(prompt)}
        held = [row[0] for row in database.execute("SELECT digest FROM texts")]
        database.executemany(
            "DELETE FROM texts WHERE digest = ?", ((one,) for one in held if one not in used)
        )


def _steps(
    database: sqlite3.Connection, run_id: str, calls: Mapping[str, Sequence[CallRecord]]
) -> tuple[StepRecord, ...]:
    rows = database.execute(
        "SELECT record FROM steps WHERE run_id = ? ORDER BY position", (run_id,)
    )
    return tuple(decode_step(record, lambda name: tuple(calls.get(name, ()))) for (record,) in rows)


def _totals(database: sqlite3.Connection, run_id: str) -> dict[str, CallTotals]:
    """What the calls of each step came to, by its id; steps without a call are not in it."""
    totals: dict[str, CallTotals] = {}
    rows = database.execute("SELECT step_id, record FROM calls WHERE run_id = ?", (run_id,))
    for step_id, record in rows:
        fields = json.loads(record)
        paid, cost = fields["cached_tier"] is None, fields["cost_usd"]
        one = CallTotals(
            calls=1,
            usage=Usage(**fields["usage"]) if paid else NO_USAGE,
            cost_usd=None if cost is None else Decimal(cost),
        )
        known = totals.get(step_id)
        totals[step_id] = one if known is None else _sum((known, one))
    return totals


def _totalled(run: RunRecord, totals: Mapping[str, CallTotals]) -> RunRecord:
    """The run with what all its calls came to."""
    whole = _sum(totals.values())
    return replace(run, usage=whole.usage, cost_usd=whole.cost_usd)


def _sum(parts: Iterable[CallTotals]) -> CallTotals:
    calls, usage, cost = 0, NO_USAGE, Decimal(0)
    known = True
    for part in parts:
        calls += part.calls
        usage += part.usage
        known = known and part.cost_usd is not None
        cost += part.cost_usd or 0
    return CallTotals(calls=calls, usage=usage, cost_usd=cost if known else None)
