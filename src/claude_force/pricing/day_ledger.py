"""The budget of a day, shared by all processes of a user in a database."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Protocol

from claude_force.pricing.budgets import Account, Budget, Reservation, check_fits
from claude_force.storage.database import Schema, open_database
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

_SCHEMA: Final = Schema(
    application_id=0x43464255,
    migrations=(
        (
            # Dollars are text: SQLite has no decimal numbers, and money is never a float.
            "CREATE TABLE days (day TEXT PRIMARY KEY, spent TEXT NOT NULL, reserved TEXT NOT NULL) WITHOUT ROWID",
        ),
    ),
)
# A month and a day: enough to look back, little enough never to matter.
KEPT_DAYS: Final = 32


class DayAccounts(Protocol):
    """What was spent and is reserved today, over all who share it. A day is one of UTC, as on the bill of the API.

    Methods may wait for a disk or a network: they are called in a thread. Any number of threads may.
    """

    def reserve(self, worst_case_usd: Decimal, limit_usd: Decimal, *, at: datetime) -> Reservation:
        """Reserve for a request that is about to be sent at ``at`` (with a time zone); atomic.

        Raises:
            BudgetExceededError: it does not fit into what is left of the day.
            StorageError: nobody can tell what is left.
        """

    def settle(self, reservation: Reservation, actual_usd: Decimal | None) -> None:
        """See `BudgetLedger.settle`; a second time does nothing.

        Raises:
            StorageError: it cannot be kept.
        """

    def account(self, at: datetime) -> Account:
        """How far the day of ``at`` is used.

        Raises:
            StorageError: nobody can tell.
        """

    def close(self) -> None:
        """Let go of what is open; a second call does nothing."""


class DayLedger:
    """What was spent and is reserved today, over all processes.

    Every method is one transaction and may wait for a disk: call it in a thread. Any number of threads and processes
    may. A day is one of UTC, as on the bill of the API, so that it means the same on every machine. A request counts
    for the day on which it was reserved. What a process had reserved when it died stays reserved until the day ends:
    nobody knows whether the requests were billed.

    Losing a budget could cost money, so an unusable database is an error, not a warning.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Protects the connection: a transaction belongs to one thread at a time.
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def reserve(self, worst_case_usd: Decimal, limit_usd: Decimal, *, at: datetime) -> Reservation:
        """Reserve for a request that is about to be sent at ``at`` (with a time zone).

        Raises:
            BudgetExceededError: it does not fit into what is left of the day.
            StorageError: the database cannot be used.
        """
        budget = Budget("day", day_of(at), limit_usd)

        def change(account: Account) -> Account:
            check_fits(budget, account, worst_case_usd)
            return Account(
                spent_usd=account.spent_usd, reserved_usd=account.reserved_usd + worst_case_usd
            )

        self._change(budget.name, change)
        return Reservation(worst_case_usd, (budget,))

    def settle(self, reservation: Reservation, actual_usd: Decimal | None) -> None:
        """See `BudgetLedger.settle`.

        Raises:
            StorageError: the database cannot be used.
        """
        if reservation.settled:
            return
        reservation.settled = True
        spent = reservation.amount_usd if actual_usd is None else actual_usd

        def change(account: Account) -> Account:
            return Account(
                spent_usd=account.spent_usd + spent,
                reserved_usd=account.reserved_usd - reservation.amount_usd,
            )

        for budget in reservation.budgets:
            self._change(budget.name, change)

    def account(self, at: datetime) -> Account:
        """How far the day of ``at`` is used.

        Raises:
            StorageError: the database cannot be used.
        """
        return self._change(day_of(at), lambda account: account)

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _change(self, day: str, change: Callable[[Account], Account]) -> Account:
        with self._lock:
            try:
                if self._connection is None:
                    # FULL: a budget must not forget what was spent when the power fails.
                    self._connection = open_database(self._path, _SCHEMA, synchronous="FULL")
                return _changed(self._connection, day, change)
            except sqlite3.Error as error:
                raise StorageError(
                    f"cannot keep the budget of the day in {str(self._path)!r}: {error}; nothing is sent without it. "
                    "Free the file, or run without a budget of the day."
                ) from error


def day_of(at: datetime) -> str:
    """The day of UTC, as ``2026-11-22``."""
    return at.astimezone(UTC).date().isoformat()


def _changed(
    connection: sqlite3.Connection, day: str, change: Callable[[Account], Account]
) -> Account:
    connection.execute("BEGIN IMMEDIATE")
    try:
        row = connection.execute(
            "SELECT spent, reserved FROM days WHERE day = ?", (day,)
        ).fetchone()
        before = (
            Account(spent_usd=Decimal(row[0]), reserved_usd=Decimal(row[1])) if row else Account()
        )
        after = change(before)
        if after != before:
            connection.execute(
                "INSERT OR REPLACE INTO days VALUES (?, ?, ?)",
                (day, str(after.spent_usd), str(after.reserved_usd)),
            )
            if row is None:
                connection.execute(
                    "DELETE FROM days WHERE day < date(?, ?)", (day, f"-{KEPT_DAYS} days")
                )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return after
