"""What the journal of one run writes; every method within a transaction of the caller."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from claude_force.domain.runs import StepRecord
from claude_force.workflows.journal_layout import (
    decode_result,
    digest_of,
    encode_call,
    encode_result,
    encode_step,
    packed,
)

if TYPE_CHECKING:
    import sqlite3

    from claude_force.agents.attachments import Attachment
    from claude_force.domain.results import AgentResult
    from claude_force.domain.runs import CallRecord
    from claude_force.workflows.definition import Workflow

# Answers of these failures came from the request itself: asking the journal or the cache again would give them again.
_ASK_ANEW: Final = "answer_schema"
_MAX_KEPT_TEXTS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHeader:
    """What a run is resumed from."""

    run_id: str
    workflow: Workflow
    # The workflow can be found again by its name.
    by_name: bool
    task: str = ""
    files: tuple[Attachment, ...] = ()
    # Patterns of the files and the folder they are meant from; None where only the texts are known.
    patterns: tuple[tuple[str, ...], str] | None = None


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """What a run has been told."""

    # By content key.
    answers: dict[str, AgentResult] = field(default_factory=dict)
    # Keys whose answers did not follow their step's schema.
    anew: set[str] = field(default_factory=set)


class RunTables:
    """The rows of one run."""

    def __init__(self, database: sqlite3.Connection, run_id: str) -> None:
        self._database = database
        self._run_id = run_id
        # Digests of texts that are kept: blocks that prompts share are the same objects, mostly.
        self._kept_texts: dict[str, bytes] = {}
        self._dependencies: dict[str, tuple[str, ...]] = {}

    def insert(self, header: RunHeader, now: float) -> None:
        """Note a run that begins."""
        self._database.execute(
            """INSERT INTO runs (run_id, workflow_name, description, definition, by_name, task, patterns,
                                 started_at, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'running')""",
            (
                header.run_id,
                header.workflow.name,
                header.workflow.description,
                json.dumps(header.workflow.to_dict()),
                header.by_name,
                header.task,
                None if header.patterns is None else json.dumps(header.patterns),
                now,
            ),
        )
        self._insert_inputs(header)

    def _insert_inputs(self, header: RunHeader) -> None:
        for position, file in enumerate(header.files):
            self._database.execute(
                "INSERT INTO files (run_id, position, name, digest) VALUES (?, ?, ?, ?)",
                (header.run_id, position, file.name, self._keep_text(file.text)),
            )
        self._dependencies = {step.step_id: step.dependencies for step in header.workflow.steps}
        for position, step in enumerate(header.workflow.steps):
            record = StepRecord(
                step_id=step.step_id, agent_name=step.agent_name, dependencies=step.dependencies
            )
            self._database.execute(
                "INSERT INTO steps (run_id, step_id, position, record) VALUES (?, ?, ?, ?)",
                (header.run_id, step.step_id, position, encode_step(record)),
            )

    def reopen(self, header: RunHeader) -> KeptAnswers:
        """Read every answer, and let the steps begin again; calls stay."""
        kept = KeptAnswers()
        failed = {
            step_id
            for step_id, record in self._database.execute(
                "SELECT step_id, record FROM steps WHERE run_id = ?", (header.run_id,)
            )
            if json.loads(record)["error_kind"] == _ASK_ANEW
        }
        rows = self._database.execute(
            "SELECT step_id, key, result FROM calls WHERE run_id = ? AND result IS NOT NULL ORDER BY number",
            (header.run_id,),
        )
        for step_id, key, result in rows:
            if step_id in failed:
                kept.anew.add(key)
            else:
                kept.answers[key] = decode_result(result)
        for table in ("files", "steps"):
            self._database.execute(f"DELETE FROM {table} WHERE run_id = ?", (header.run_id,))  # noqa: S608 - two names of ours
        self._database.execute(
            """UPDATE runs SET state = 'running', ended_at = NULL, cancel = 0, resumed = resumed + 1, definition = ?,
               description = ?, patterns = ? WHERE run_id = ?""",
            (
                json.dumps(header.workflow.to_dict()),
                header.workflow.description,
                None if header.patterns is None else json.dumps(header.patterns),
                header.run_id,
            ),
        )
        self._insert_inputs(header)
        return kept

    def insert_call(self, call: CallRecord, result: AgentResult | None) -> None:
        """Keep a call, with its result unless it failed."""
        prompt = [[part.role, self._keep_text(part.text).hex()] for part in call.prompt]
        self._database.execute(
            "INSERT INTO calls (run_id, step_id, key, prompt, record, result) VALUES (?, ?, ?, ?, ?, ?)",
            (
                self._run_id,
                call.place.step_id,
                call.key,
                json.dumps(prompt),
                encode_call(call),
                None if result is None else encode_result(result),
            ),
        )

    def _keep_text(self, text: str) -> bytes:
        known = self._kept_texts.get(text)
        if known is not None:
            return known
        digest = digest_of(text)
        held = self._database.execute("SELECT 1 FROM texts WHERE digest = ?", (digest,)).fetchone()
        if held is None:
            self._database.execute(
                "INSERT INTO texts (digest, body) VALUES (?, ?)", (digest, packed(text))
            )
        # A text that one call alone has would only take room.
        if held is not None:
            if len(self._kept_texts) >= _MAX_KEPT_TEXTS:
                self._kept_texts.clear()
            self._kept_texts[text] = digest
        return digest

    def update_step(self, step: StepRecord) -> None:
        """Note how far a step has got; what it depends on stays."""
        whole = replace(step, dependencies=self._dependencies.get(step.step_id, ()))
        self._database.execute(
            "UPDATE steps SET record = ? WHERE run_id = ? AND step_id = ?",
            (encode_step(whole), self._run_id, step.step_id),
        )
