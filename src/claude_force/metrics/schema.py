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
)
_CELL: Final = f"""(
    start INTEGER NOT NULL, agent INTEGER NOT NULL, model INTEGER NOT NULL, workflow INTEGER NOT NULL,
    {", ".join(f"{name} INTEGER NOT NULL" for name in SUMS)}, latency BLOB NOT NULL,
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
    ),
)


def picodollars(amount_usd: Decimal | None) -> int | None:
    """An amount as it is stored; a smaller part than a picodollar is rounded."""
    if not amount_usd:
        return None if amount_usd is None else 0
    return int(amount_usd.scaleb(_PICODOLLARS).to_integral_value())


def dollars(amount: int) -> Decimal:
    """A stored amount in dollars, exactly."""
    return (amount * _ONE_PICODOLLAR).normalize() if amount else Decimal(0)
