"""What was submitted in batches by someone who comes back for it: the questions, where they are, and what came of them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from claude_force.domain.errors import InputError
from claude_force.domain.messages import (
    NO_CACHE,
    USE_CACHE,
    CallContext,
    Message,
    MessageRequest,
    TextBlock,
)
from claude_force.storage.database import Schema, open_database
from claude_force.workflows.journal_layout import (
    decode_result,
    digest_of,
    encode_result,
    packed,
    unpacked,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from claude_force.domain.results import AgentResult

_SCHEMA: Final = Schema(
    application_id=0x43465355,  # "CFSU"
    migrations=(
        (
            """CREATE TABLE submissions (
                submission_id TEXT PRIMARY KEY,
                origin TEXT NOT NULL,
                created_at REAL NOT NULL,
                -- Of whoever submitted, for when they come back.
                note TEXT NOT NULL
            ) WITHOUT ROWID""",
            # Prompts share most of their blocks, so each is kept once. Compressed.
            "CREATE TABLE texts (digest BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
            """CREATE TABLE questions (
                submission_id TEXT NOT NULL REFERENCES submissions ON DELETE CASCADE,
                position INTEGER NOT NULL,
                item_id TEXT NOT NULL,
                agent_name TEXT NOT NULL,
                key TEXT NOT NULL,
                request TEXT NOT NULL,
                -- NULL until it is known.
                batch_id TEXT,
                -- waiting, succeeded, failed
                state TEXT NOT NULL,
                -- The whole result, or a JSON list of kind and message of the error.
                outcome BLOB,
                PRIMARY KEY (submission_id, position)
            ) WITHOUT ROWID""",
        ),
        ("CREATE INDEX questions_by_key ON questions (key)",),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One call of a submission, as far as it is known."""

    position: int
    item_id: str
    agent_name: str
    # Content key, by which the batch names it.
    key: str
    request: MessageRequest
    batch_id: str | None = None
    # At most one is set; neither while it waits. The error as its kind and message.
    result: AgentResult | None = None
    error: tuple[str, str] | None = None

    @property
    def waits(self) -> bool:
        """Nothing has come of it yet."""
        return self.result is None and self.error is None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSubmission:
    """What was submitted together."""

    submission_id: str
    # The provider that it was sent to.
    origin: str
    # Epoch seconds.
    created_at: float
    # Of whoever submitted it.
    note: str
    # Calls that wait for a result or have not been collected, that have one, and that failed.
    waiting: int
    succeeded: int
    failed: int
    # Ids of the batches that hold it, as the API knows them.
    batch_ids: tuple[str, ...] = ()


class SubmissionStore:
    """Submissions of all processes of a user. Every method waits for the disk; safe in any thread.

    Raises:
        StorageError: by every method, when the database cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "submissions.db"
        # One thread uses the connection at a time.
        self._using = Lock()
        self._opened: sqlite3.Connection | None = None

    def add(
        self,
        submission_id: str,
        questions: Iterable[Question],
        *,
        origin: str,
        note: str,
        now: float,
    ) -> None:
        """Keep what is about to be submitted."""
        with self._transaction() as database:
            database.execute(
                "INSERT INTO submissions VALUES (?, ?, ?, ?)", (submission_id, origin, now, note)
            )
            database.executemany(
                "INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        submission_id,
                        question.position,
                        question.item_id,
                        question.agent_name,
                        question.key,
                        _encoded(question.request, database),
                        question.batch_id,
                        *_state(question),
                    )
                    for question in questions
                ),
            )

    def place(self, batch_ids: Mapping[str, str | None], *, instead_of: str | None = None) -> None:
        """Note which batch holds each question, by content key, in place of ``instead_of``.

        Of every submission that waits for them: who comes last finds them forgotten elsewhere.
        """
        with self._transaction() as database:
            database.executemany(
                "UPDATE questions SET batch_id = ? WHERE key = ? AND batch_id IS ? AND state = 'waiting'",
                ((batch_id, key, instead_of) for key, batch_id in batch_ids.items()),
            )

    def end(self, submission_id: str, questions: Iterable[Question]) -> None:
        """Note what came of questions."""
        with self._transaction() as database:
            database.executemany(
                "UPDATE questions SET state = ?, outcome = ? WHERE submission_id = ? AND position = ?",
                ((*_state(question), submission_id, question.position) for question in questions),
            )

    def drop(self, submission_id: str) -> None:
        """Forget a submission, and the texts that no other one needs."""
        with self._transaction() as database:
            database.execute("DELETE FROM submissions WHERE submission_id = ?", (submission_id,))
            if database.execute("SELECT 1 FROM submissions LIMIT 1").fetchone() is None:
                database.execute("DELETE FROM texts")

    def find(self, name: str) -> BatchSubmission:
        """The submission of that id, of the beginning of one, or the ``last``.

        Raises:
            InputError: there is none, or several begin so.
        """
        known = self.recent()
        if name == "last" and known:
            return known[0]
        found = [one for one in known if one.submission_id.startswith(name)]
        if len(found) == 1 and name:
            return found[0]
        what = "several submissions begin with" if len(found) > 1 else "there is no submission"
        raise InputError(
            f"{what[0].upper()}{what[1:]} {name!r}. List them with: claude-force batch list"
        )

    def recent(self) -> list[BatchSubmission]:
        """Every submission, the last first."""
        with self._transaction() as database:
            rows = database.execute(
                """SELECT submission_id, origin, created_at, note,
                     SUM(state = 'waiting'), SUM(state = 'succeeded'), SUM(state = 'failed'),
                     JSON_GROUP_ARRAY(DISTINCT batch_id) FILTER (WHERE batch_id IS NOT NULL)
                   FROM submissions JOIN questions USING (submission_id)
                   GROUP BY submission_id ORDER BY created_at DESC"""
            ).fetchall()
        return [
            BatchSubmission(
                submission_id=submission_id,
                origin=origin,
                created_at=created_at,
                note=note,
                waiting=waiting,
                succeeded=succeeded,
                failed=failed,
                batch_ids=tuple(sorted(json.loads(batch_ids or "[]"))),
            )
            for submission_id, origin, created_at, note, waiting, succeeded, failed, batch_ids in rows
        ]

    def questions(self, submission_id: str) -> list[Question]:
        """Every question of a submission, in order."""
        with self._transaction() as database:
            rows = database.execute(
                """SELECT position, item_id, agent_name, key, request, batch_id, state, outcome
                   FROM questions WHERE submission_id = ? ORDER BY position""",
                (submission_id,),
            ).fetchall()
            texts = _Texts(database)
            return [_question(row, texts) for row in rows]

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._using:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._using:
            if self._opened is None:
                self._opened = open_database(self._path, _SCHEMA, synchronous="FULL")
                self._opened.execute("PRAGMA foreign_keys = ON")
            self._opened.execute("BEGIN IMMEDIATE")
            try:
                yield self._opened
            except BaseException:
                self._opened.execute("ROLLBACK")
                raise
            self._opened.execute("COMMIT")


class _Texts:
    """Texts by their digest; each is read once."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._known: dict[str, TextBlock] = {}

    def blocks(self, digests: Sequence[str]) -> tuple[TextBlock, ...]:
        return tuple(map(self._block, digests))

    def _block(self, digest: str) -> TextBlock:
        known = self._known.get(digest)
        if known is None:
            (body,) = self._database.execute(
                "SELECT body FROM texts WHERE digest = ?", (bytes.fromhex(digest),)
            ).fetchone()
            known = self._known[digest] = TextBlock(unpacked(body))
        return known


_PLAIN: Final = ("model", "max_tokens", "effort", "output_schema")


def _encoded(request: MessageRequest, database: sqlite3.Connection) -> str:
    def keep(blocks: tuple[TextBlock, ...]) -> list[str]:
        digests = [digest_of(block.text) for block in blocks]
        database.executemany(
            "INSERT OR IGNORE INTO texts VALUES (?, ?)",
            ((d, packed(block.text)) for d, block in zip(digests, blocks, strict=True)),
        )
        return [digest.hex() for digest in digests]

    fields: dict[str, Any] = {name: getattr(request, name) for name in _PLAIN}
    fields["fills_cache"] = request.context.cache.write
    fields["system"] = keep(request.system)
    fields["messages"] = [[message.role, keep(message.content)] for message in request.messages]
    return json.dumps(fields)


def _question(row: tuple[Any, ...], texts: _Texts) -> Question:
    position, item_id, agent_name, key, request, batch_id, state, outcome = row
    fields = json.loads(request)
    return Question(
        position=position,
        item_id=item_id,
        agent_name=agent_name,
        key=key,
        request=MessageRequest(
            **{name: fields[name] for name in _PLAIN},
            system=texts.blocks(fields["system"]),
            messages=tuple(Message(role, texts.blocks(said)) for role, said in fields["messages"]),
            context=CallContext(
                agent_name=agent_name, cache=USE_CACHE if fields["fills_cache"] else NO_CACHE
            ),
        ),
        batch_id=batch_id,
        result=decode_result(outcome) if state == "succeeded" else None,
        error=tuple(json.loads(outcome)) if state == "failed" else None,
    )


def _state(question: Question) -> tuple[str, bytes | None]:
    if question.result is not None:
        return "succeeded", encode_result(question.result)
    if question.error is not None:
        return "failed", json.dumps(question.error).encode()
    return "waiting", None
