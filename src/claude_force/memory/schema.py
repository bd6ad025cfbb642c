"""The database of memories: records, an index of their terms, and how many records have each term."""

from __future__ import annotations

from typing import Final

from claude_force.storage.database import Schema

# In the index every term stands with the number of its scope before it, as in `12xflaky`: a question then reads the
# postings of one agent in one project only, however much the others remember. `ascii` leaves a token as it is.
SCHEMA: Final = Schema(
    application_id=0x43464D45,
    shrinkable=True,
    migrations=(
        (
            """CREATE TABLE scopes (
                id INTEGER PRIMARY KEY, project TEXT NOT NULL, agent TEXT NOT NULL,
                records INTEGER NOT NULL DEFAULT 0, UNIQUE (project, agent)
            )""",
            # AUTOINCREMENT: the number of a record that was forgotten is never that of another one.
            """CREATE TABLE records (
                id INTEGER PRIMARY KEY AUTOINCREMENT, scope INTEGER NOT NULL, key BLOB NOT NULL,
                recorded_ms INTEGER NOT NULL, model TEXT NOT NULL,
                task TEXT NOT NULL, outcome TEXT NOT NULL, digest TEXT NOT NULL,
                task_terms TEXT NOT NULL, outcome_terms TEXT NOT NULL, UNIQUE (scope, key)
            )""",
            "CREATE INDEX records_by_time ON records (recorded_ms)",
            "CREATE INDEX records_by_scope ON records (scope, recorded_ms)",
            """CREATE VIRTUAL TABLE search USING fts5 (
                task_terms, outcome_terms, content = 'records', content_rowid = 'id', tokenize = 'ascii'
            )""",
            "CREATE TABLE terms (term TEXT PRIMARY KEY, records INTEGER NOT NULL) WITHOUT ROWID",
            # The day of the last sweep.
            "CREATE TABLE sweeps (id INTEGER PRIMARY KEY CHECK (id = 1), swept_day INTEGER NOT NULL)",
            "INSERT INTO sweeps VALUES (1, 0)",
        ),
    ),
)


def scoped(scope: int, term: str) -> str:
    """A term as the index has it."""
    return f"{scope}x{term}"
