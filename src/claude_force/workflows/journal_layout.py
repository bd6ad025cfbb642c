"""How the journal of runs lies on disk: tables, and the forms of what is in them."""

from __future__ import annotations

import json
import zlib
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from claude_force.domain.messages import CacheHit, SemanticMatch
from claude_force.domain.results import AgentResult
from claude_force.domain.runs import CallPlace, CallRecord, PromptPart, StepRecord
from claude_force.domain.usage import Usage
from claude_force.storage.database import Schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.domain.messages import MessageRequest

JOURNAL_FILE: Final = "runs.db"

SCHEMA: Final = Schema(
    application_id=0x4346524A,  # "CFRJ"
    migrations=(
        (
            """CREATE TABLE runs (
                run_id TEXT PRIMARY KEY,
                workflow_name TEXT NOT NULL,
                description TEXT NOT NULL,
                -- The definition as JSON, and whether it has a name by which it can be found again.
                definition TEXT NOT NULL,
                by_name INTEGER NOT NULL,
                task TEXT NOT NULL,
                -- How files are found again: a JSON list of patterns and the folder; NULL where only their texts are kept.
                patterns TEXT,
                started_at REAL NOT NULL,
                ended_at REAL,
                seconds REAL,
                -- running, succeeded, failed, stopped
                state TEXT NOT NULL,
                resumed INTEGER NOT NULL DEFAULT 0,
                -- Set by another process that wants the run to stop.
                cancel INTEGER NOT NULL DEFAULT 0
            ) WITHOUT ROWID""",
            # Prompts share most of their blocks, so each is kept once. Compressed.
            "CREATE TABLE texts (digest BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
            """CREATE TABLE files (
                run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
                position INTEGER NOT NULL,
                name TEXT NOT NULL,
                digest BLOB NOT NULL,
                PRIMARY KEY (run_id, position)
            ) WITHOUT ROWID""",
            """CREATE TABLE steps (
                run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
                step_id TEXT NOT NULL,
                position INTEGER NOT NULL,
                record TEXT NOT NULL,
                PRIMARY KEY (run_id, step_id)
            ) WITHOUT ROWID""",
            """CREATE TABLE calls (
                number INTEGER PRIMARY KEY,
                run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
                step_id TEXT NOT NULL,
                key TEXT NOT NULL,
                -- JSON list of [role, digest].
                prompt TEXT NOT NULL,
                record TEXT NOT NULL,
                -- The whole result, for a resumed run; NULL for a call that failed.
                result BLOB
            )""",
            "CREATE INDEX calls_of_a_run ON calls (run_id, step_id)",
        ),
    ),
)


def digest_of(text: str) -> bytes:
    """What a text is kept under."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def packed(text: str) -> bytes:
    """A text as it is kept."""
    return zlib.compress(text.encode("utf-8", "surrogatepass"), 1)


def unpacked(body: bytes) -> str:
    """A text that was kept."""
    return zlib.decompress(body).decode("utf-8", "surrogatepass")


def prompt_parts(request: MessageRequest) -> tuple[PromptPart, ...]:
    """The blocks of a request, in order."""
    system = [PromptPart("system", block.text) for block in request.system]
    said = [
        PromptPart(message.role, block.text)
        for message in request.messages
        for block in message.content
    ]
    return (*system, *said)


def _as_json(fields: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON has as an escape, and UTF-8 not at all.
        return json.dumps(fields).encode()


def _from_json(record: bytes | str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.json.decode(record)
    except msgspec.DecodeError:
        found = json.loads(record)
    return found


def encode_result(result: AgentResult) -> bytes:
    """A result as it is kept."""
    return zlib.compress(_as_json(_result_fields(result)), 1)


def decode_result(body: bytes) -> AgentResult:
    """A result that was kept. It costs nothing this time, and says what was saved."""
    fields = _from_json(zlib.decompress(body))
    cost = fields.pop("cost_usd")
    match = fields.pop("match", None)
    return AgentResult(
        **{name: fields[name] for name in _RESULT_FIELDS},
        usage=Usage(**fields["usage"]),
        cost_usd=Decimal(0),
        cached=CacheHit(
            tier="journal",
            age_seconds=0.0,
            saved_usd=None if cost is None else Decimal(cost),
            match=None if match is None else SemanticMatch(**match),
        ),
    )


_RESULT_FIELDS: Final = (
    *("agent_name", "text", "stop_reason", "model", "requested_model", "fallback_from"),
    *("attempts", "seconds", "request_id"),
)


def _result_fields(result: AgentResult) -> dict[str, Any]:
    fields = {name: getattr(result, name) for name in _RESULT_FIELDS}
    cost = result.cost_usd
    if result.cached is not None:
        cost = result.cached.saved_usd
        if result.cached.match is not None:
            # The answer of a similar task stays one, however often the run is resumed.
            match = result.cached.match
            fields["match"] = {"task": match.task, "similarity": match.similarity}
    return fields | {
        "usage": usage_fields(result.usage),
        "cost_usd": None if cost is None else str(cost),
    }


def usage_fields(usage: Usage) -> dict[str, int]:
    """Tokens by name."""
    return {name: getattr(usage, name) for name in Usage.__dataclass_fields__}


def encode_call(call: CallRecord) -> str:
    """A call without its prompt."""
    place = call.place
    fields: dict[str, Any] = {name: getattr(call, name) for name in _CALL_FIELDS}
    fields["place"] = [place.step_id, place.item_index, place.round, place.repair]
    fields["usage"] = usage_fields(call.usage)
    fields["cost_usd"] = None if call.cost_usd is None else str(call.cost_usd)
    return _as_json(fields).decode()


_CALL_FIELDS: Final = (
    *("key", "agent_name", "model", "text", "attempts", "cached_tier", "started_seconds"),
    *("ended_seconds", "request_id", "error_kind", "error_message"),
)


def decode_call(record: str, prompt: tuple[PromptPart, ...]) -> CallRecord:
    """A call that was kept."""
    fields = _from_json(record)
    step_id, item_index, number, repair = fields["place"]
    cost = fields["cost_usd"]
    return CallRecord(
        **{name: fields[name] for name in _CALL_FIELDS},
        place=CallPlace(step_id=step_id, item_index=item_index, round=number, repair=repair),
        prompt=prompt,
        usage=Usage(**fields["usage"]),
        cost_usd=None if cost is None else Decimal(cost),
    )


_STEP_FIELDS: Final = (
    *("step_id", "agent_name", "state", "started_seconds", "ended_seconds"),
    *("error_kind", "error_message", "reason", "text"),
)


def encode_step(step: StepRecord) -> str:
    """A step without its calls."""
    fields: dict[str, Any] = {name: getattr(step, name) for name in _STEP_FIELDS}
    return _as_json(fields | {"dependencies": list(step.dependencies)}).decode()


def decode_step(record: str, calls_of: Callable[[str], tuple[CallRecord, ...]]) -> StepRecord:
    """A step that was kept, with its calls."""
    fields = _from_json(record)
    return StepRecord(
        **{name: fields[name] for name in _STEP_FIELDS},
        dependencies=tuple(fields["dependencies"]),
        calls=calls_of(fields["step_id"]),
    )
