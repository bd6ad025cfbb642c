"""The database of metrics: a row for each call, and roll-ups of them by hour and by day."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from claude_force.storage.database import Schema

HOUR_SECONDS: Final = 3600
DAY_SECONDS: Final = 86_400

# Dollars are whole picodollars: prices go down to fractions of a nanodollar a token (3.75 cents for a million), and a
# 64-bit sum of a cell still holds nine million dollars.
_PICODOLLARS: Final = 12
_ONE_PICODOLLAR: Final = Decimal(1).scaleb(-_PICODOLLARS)
_PICODOLLARS_IN_A_DOLLAR: Final = Decimal(10**_PICODOLLARS)

# What a cell of a roll-up sums up, in the order of its columns; `latency` comes behind them.
SUMS: Final = (
    "calls",
    "failures",
    "cached",
    "retries",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost",
    "unpriced",
    "saved",
    "plain",
    "prompt_cache_saved",
    "batch_saved",
    "fallback_saved",
    "uncompared",
)
_FIRST_SUMS: Final = SUMS[:11]
# An id has room for the milliseconds until the year 2248, and for a million calls in each.
SEQUENCE_BITS: Final = 20
SEQUENCE_MASK: Final = (1 << SEQUENCE_BITS) - 1
_CELL: Final = f"""(
    start INTEGER NOT NULL, agent INTEGER NOT NULL, model INTEGER NOT NULL, workflow INTEGER NOT NULL,
    {", ".join(f"{name} INTEGER NOT NULL" for name in _FIRST_SUMS)}, latency BLOB NOT NULL,
    PRIMARY KEY (start, agent, model, workflow)
) WITHOUT ROWID"""

SCHEMA: Final = Schema(
    application_id=0x43464D54,
    shrinkable=True,
    migrations=(
        (
            # Names are stored once: agents, models, workflows, kinds of errors, tiers. 0 stands for none.
            "CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
            "INSERT INTO names VALUES (0, '')",
            """CREATE TABLE calls (
                id INTEGER PRIMARY KEY, ended_ms INTEGER NOT NULL, call_id TEXT NOT NULL,
                agent INTEGER NOT NULL, model INTEGER NOT NULL, requested_model INTEGER NOT NULL,
                workflow INTEGER NOT NULL, run_id TEXT, step_id TEXT, error_kind INTEGER NOT NULL,
                seconds REAL NOT NULL, first_text_seconds REAL, attempts INTEGER NOT NULL,
                input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
                cache_read_tokens INTEGER NOT NULL, cache_write_tokens INTEGER NOT NULL,
                cost INTEGER, cached_tier INTEGER NOT NULL, saved INTEGER
            )""",
            "CREATE INDEX calls_by_time ON calls (ended_ms)",
            "CREATE INDEX failed_calls ON calls (ended_ms) WHERE error_kind <> 0",
            # `start` is the epoch second in which the hour or the day of UTC begins.
            f"CREATE TABLE hours {_CELL}",
            f"CREATE TABLE days {_CELL}",
            # The same for all models and workflows of an agent together (0 for both): what trends, anomalies and
            # the charts of a month ask for, in a quarter of the cells or less.
            f"CREATE TABLE agent_hours {_CELL}",
            # The day of the last sweep, and the second from which on rows and hours are whole.
            """CREATE TABLE sweeps (
                id INTEGER PRIMARY KEY CHECK (id = 1), swept_day INTEGER NOT NULL, kept_from INTEGER NOT NULL
            )""",
            "INSERT INTO sweeps VALUES (1, 0, 0)",
            """CREATE TABLE firing (
                rule TEXT NOT NULL, subject TEXT NOT NULL, since REAL NOT NULL, PRIMARY KEY (rule, subject)
            ) WITHOUT ROWID""",
        ),
        (
            # What discounts there were: see `CallRow`. Of older calls only what the response cache saved is known.
            # The id begins with the time, so that no index of times has to be kept: a fifth of what writing takes.
            """CREATE TABLE timed_calls (
                id INTEGER PRIMARY KEY, ended_ms INTEGER NOT NULL, call_id TEXT NOT NULL,
                agent INTEGER NOT NULL, model INTEGER NOT NULL, requested_model INTEGER NOT NULL,
                workflow INTEGER NOT NULL, run_id TEXT, step_id TEXT,
                seconds REAL NOT NULL, first_text_seconds REAL, attempts INTEGER NOT NULL,
                input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
                cache_read_tokens INTEGER NOT NULL, cache_write_tokens INTEGER NOT NULL, cost INTEGER,
                error_kind INTEGER NOT NULL DEFAULT 0, cached_tier INTEGER NOT NULL DEFAULT 0, saved INTEGER,
                plain INTEGER NOT NULL DEFAULT 0, prompt_cache_saved INTEGER DEFAULT 0,
                batch_saved INTEGER NOT NULL DEFAULT 0, fallback_saved INTEGER NOT NULL DEFAULT 0
            )""",
            f"""INSERT INTO timed_calls
                SELECT (ended_ms << {SEQUENCE_BITS}) | (id & {SEQUENCE_MASK}), ended_ms, call_id,
                    agent, model, requested_model, workflow, run_id, step_id, seconds, first_text_seconds, attempts,
                    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost, error_kind, cached_tier,
                    saved, CASE cached_tier WHEN 0 THEN 0 ELSE coalesce(saved, 0) END,
                    CASE WHEN cached_tier <> 0 AND saved IS NOT NULL THEN 0 END, 0, 0
                FROM calls ORDER BY ended_ms, id""",  # noqa: S608 - numbers of this module
            "DROP TABLE calls",
            "ALTER TABLE timed_calls RENAME TO calls",
            "CREATE INDEX failed_calls ON calls (ended_ms) WHERE error_kind <> 0",
            # The end of the id of the next call: what tells those of one millisecond apart.
            "CREATE TABLE sequence (next INTEGER NOT NULL)",
            "INSERT INTO sequence SELECT count(*) FROM calls",
            *(
                statement
                for table in ("hours", "days", "agent_hours")
                for statement in (
                    *(
                        f"ALTER TABLE {table} ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0"
                        for name in SUMS[len(_FIRST_SUMS) :]
                    ),
                    f"UPDATE {table} SET plain = saved, uncompared = calls - cached",  # noqa: S608 - names above
                )
            ),
        ),
        (
            # How often each kind of error ended a call, by day, for as long as the days themselves are kept: a counter
            # that is scraped must never go back.
            """CREATE TABLE failure_days (
                start INTEGER NOT NULL, agent INTEGER NOT NULL, error_kind INTEGER NOT NULL, calls INTEGER NOT NULL,
                PRIMARY KEY (start, agent, error_kind)
            ) WITHOUT ROWID""",
            f"""INSERT INTO failure_days
                SELECT ended_ms / {DAY_SECONDS * 1000} * {DAY_SECONDS}, agent, error_kind, count(*)
                FROM calls WHERE error_kind <> 0 GROUP BY 1, 2, 3""",  # noqa: S608 - numbers of this module
            # With what failures are counted by: without looking at a row.
            "DROP INDEX failed_calls",
            "CREATE INDEX failed_calls ON calls (ended_ms, error_kind, agent) WHERE error_kind <> 0",
        ),
    ),
)


def first_id(milliseconds: int) -> int:
    """The lowest id of a call that ended at this time since the epoch."""
    return milliseconds << SEQUENCE_BITS


def picodollars(amount_usd: Decimal | None) -> int | None:
    """An amount as it is stored; a smaller part than a picodollar is rounded."""
    if not amount_usd:
        return None if amount_usd is None else 0
    # Three times as fast as scaling and rounding, and this runs several times a call.
    scaled = amount_usd * _PICODOLLARS_IN_A_DOLLAR
    whole = int(scaled)
    return whole if whole == scaled else int(scaled.to_integral_value())


def dollars(amount: int) -> Decimal:
    """A stored amount in dollars, exactly."""
    return (amount * _ONE_PICODOLLAR).normalize() if amount else Decimal(0)
