"""One governor over all processes of a user: the visits of `Visits`, each one transaction of SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.resilience.rate_bucket import WINDOW_SECONDS
from claude_force.resilience.shared_database import SILENT_SECONDS
from claude_force.resilience.sharing import (
    KINDS,
    Ask,
    ClassReport,
    ClassStanding,
    Others,
    Pool,
    Report,
    Share,
    Standing,
    UserLimits,
    affordable,
    drawn,
    fair_places,
    refilled,
    reported,
    seconds_until_affordable,
    stricter,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from claude_force.resilience.shared_database import SharedDatabase

# A limit of which no response has spoken for so long is forgotten: the platform may have stopped sending headers.
_LIMIT_LIFETIME_SECONDS: Final = 600.0
# With fewer places than processes, who has one changes every so many seconds.
_TURN_SECONDS: Final = 2.0
_NO_LIMITS: Final = UserLimits()


class SharedLimits:
    """Limits that live in a database. Every method may wait for a disk, so none is called on an event loop.

    Args:
        database: open to all processes of the user.
        window_seconds: in which a bucket of the API refills.
    """

    def __init__(self, database: SharedDatabase, *, window_seconds: float = WINDOW_SECONDS) -> None:
        self._database = database
        self._window_seconds = window_seconds

    def exchange(self, report: Report, *, user_limits: UserLimits = _NO_LIMITS) -> Standing:
        """See `LimitsExchange.exchange`.

        Args:
            report: what this process has and wants.
            user_limits: hold beside what the database says.

        Raises:
            StorageError: the database cannot be used.
        """
        with self._database.transaction() as connection:
            now = self._database.wall_clock()
            lease_id = self._database.hold_lease()
            self._reap(connection, now)
            known = _knows(connection, lease_id)
            _write_errors(connection, report, now)
            classes = {
                key: self._visit_class(connection, key, told, now, lease_id, known=known)
                for key, told in report.classes.items()
            }
            limits = stricter(read_user_limits(connection), user_limits)
            if not report.in_flight and not report.waiting and _is_farewell(report):
                _end_lease(connection, lease_id)
                return Standing(
                    limits=limits, places=0 if limits.max_concurrent else None, classes=classes
                )
            places, rate_share = self._places(connection, report, limits, lease_id, now)
            return Standing(limits=limits, places=places, rate_share=rate_share, classes=classes)

    def start_over(self, limits: Mapping[str, Mapping[str, float]]) -> None:
        """Hold nothing, with pools that are empty and fill up to ``limits``, by class and kind.

        For processes that have divided the limits elsewhere until now: nobody knows what is left of them.

        Raises:
            StorageError: the database cannot be used.
        """
        with self._database.transaction() as connection:
            now = self._database.wall_clock()
            _end_lease(connection, self._database.hold_lease())
            connection.executemany(
                """INSERT INTO pools VALUES (?, ?, ?, 0, 0, ?, ?) ON CONFLICT DO UPDATE SET
                    limit_per_minute = excluded.limit_per_minute, level = 0,
                    updated_at = excluded.updated_at, reported_at = excluded.reported_at""",
                [
                    (key, kind, limit, now, now)
                    for key, by_kind in limits.items()
                    for kind, limit in by_kind.items()
                ],
            )

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _reap(self, connection: sqlite3.Connection, now: float) -> None:
        """Put back what processes held that are dead or have been silent for long."""
        rows = connection.execute("SELECT lease_id, seen_at FROM leases").fetchall()
        for lease_id, seen_at in rows:
            if lease_id == self._database.lease_id:
                continue
            dead = self._database.is_dead(lease_id)
            if not dead and now - seen_at < SILENT_SECONDS:
                continue
            connection.execute(
                """UPDATE pools SET level = level + (
                    SELECT max(held, 0) FROM holdings AS h
                    WHERE h.lease_id = ? AND h.class_key = pools.class_key AND h.kind = pools.kind
                ) WHERE (class_key, kind) IN (SELECT class_key, kind FROM holdings WHERE lease_id = ?)""",
                (lease_id, lease_id),
            )
            _end_lease(connection, lease_id)
            if dead:
                self._database.bury(lease_id)

    def _visit_class(
        self,
        connection: sqlite3.Connection,
        key: str,
        told: ClassReport,
        now: float,
        lease_id: str,
        *,
        known: bool,
    ) -> ClassStanding:
        asks = told.asks if known else {kind: _void(ask) for kind, ask in told.asks.items()}
        others = _others(connection, key, lease_id)
        pools = {
            kind: self._pool(
                connection, (key, kind), now, ask=asks[kind], claimed_by_others=others[kind].claim
            )
            for kind in KINDS
        }
        can_go = affordable(pools, asks)
        wait = 0.0 if can_go else seconds_until_affordable(pools, asks, self._window_seconds)
        shares = {}
        for kind in KINDS:
            ask = asks[kind]
            pool, held = drawn(
                pools[kind],
                ask,
                others[kind],
                demand=told.demand,
                can_go=can_go and told.demand > 0,
            )
            shares[kind] = Share(
                limit=pool.limit,
                held=held,
                elsewhere=pool.level + others[kind].claim,
                corrected=pool.corrected,
            )
            connection.execute(
                """INSERT INTO pools VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                    limit_per_minute = excluded.limit_per_minute, level = excluded.level,
                    corrected = excluded.corrected, updated_at = excluded.updated_at,
                    reported_at = max(reported_at, excluded.reported_at)""",
                (key, kind, pool.limit, pool.level, pool.corrected, now, now if ask.limit else 0.0),
            )
            connection.execute(
                "INSERT OR REPLACE INTO holdings VALUES (?, ?, ?, ?, ?, ?)",
                (lease_id, key, kind, held, held + ask.claim - ask.held, told.demand),
            )
        return ClassStanding(
            shares=shares,
            blocked_seconds=_block(connection, key, told.blocked_seconds, now),
            wait_seconds=wait,
        )

    def _pool(
        self,
        connection: sqlite3.Connection,
        key_and_kind: tuple[str, str],
        now: float,
        *,
        ask: Ask,
        claimed_by_others: float,
    ) -> Pool:
        row = connection.execute(
            """SELECT limit_per_minute, level, corrected, updated_at, reported_at
            FROM pools WHERE class_key = ? AND kind = ?""",
            key_and_kind,
        ).fetchone()
        if row is None:
            return reported(Pool(), ask)
        limit, level, corrected, updated_at, reported_at = row
        if limit is not None and now - reported_at > _LIMIT_LIFETIME_SECONDS:
            return reported(Pool(corrected=corrected), ask)
        pool = refilled(
            Pool(limit=limit, level=level, corrected=corrected),
            elapsed_seconds=now - updated_at,
            claimed=claimed_by_others + ask.claim,
            window_seconds=self._window_seconds,
        )
        return reported(pool, ask)

    def _places(
        self,
        connection: sqlite3.Connection,
        report: Report,
        limits: UserLimits,
        lease_id: str,
        now: float,
    ) -> tuple[int | None, float]:
        """How many requests this process may have under way, and its part of the requests per minute."""
        rows = connection.execute(
            "SELECT lease_id, in_flight + waiting, places FROM leases WHERE lease_id <> ?",
            (lease_id,),
        ).fetchall()
        # A process at rest keeps a place to begin with.
        demands = {name: max(demand, 1) for name, demand, _ in rows}
        demands[lease_id] = max(report.in_flight + report.waiting, 1)
        places = None
        if limits.max_concurrent is not None:
            fair = fair_places(limits.max_concurrent, demands, turn=int(now / _TURN_SECONDS))
            # What others have is theirs until they visit themselves.
            free = limits.max_concurrent - sum(taken or 0 for _, _, taken in rows)
            places = max(0, min(fair[lease_id], free))
        connection.execute(
            """INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                seen_at = excluded.seen_at, in_flight = excluded.in_flight,
                waiting = excluded.waiting, places = excluded.places""",
            (
                lease_id,
                int(lease_id.partition("-")[0]),
                now,
                now,
                report.in_flight,
                report.waiting,
                # Places of requests under way are taken, whatever the limit has become.
                None if places is None else max(places, report.in_flight),
            ),
        )
        return places, demands[lease_id] / sum(demands.values())


def read_user_limits(connection: sqlite3.Connection) -> UserLimits:
    """What the user has set for all processes."""
    row = connection.execute(
        "SELECT max_concurrent, requests_per_minute, paused FROM settings"
    ).fetchone()
    return UserLimits(max_concurrent=row[0], requests_per_minute=row[1], paused=bool(row[2]))


def _void(ask: Ask) -> Ask:
    """What a process without a lease has: nothing. It is the first visit, or its share was taken back meanwhile."""
    held = min(ask.held, 0.0)
    return Ask(
        held=held,
        claim=held + ask.claim - ask.held,
        wanted=ask.wanted,
        needed=ask.needed,
        limit=ask.limit,
    )


def _is_farewell(report: Report) -> bool:
    return all(told.demand == 0 for told in report.classes.values())


def _knows(connection: sqlite3.Connection, lease_id: str) -> bool:
    row = connection.execute("SELECT 1 FROM leases WHERE lease_id = ?", (lease_id,)).fetchone()
    return row is not None


def _end_lease(connection: sqlite3.Connection, lease_id: str) -> None:
    connection.execute("DELETE FROM holdings WHERE lease_id = ?", (lease_id,))
    connection.execute("DELETE FROM leases WHERE lease_id = ?", (lease_id,))


def _others(connection: sqlite3.Connection, key: str, lease_id: str) -> dict[str, Others]:
    rows = connection.execute(
        """SELECT kind, sum(held), sum(claim), sum(demand) FROM holdings
        WHERE class_key = ? AND lease_id <> ? GROUP BY kind""",
        (key, lease_id),
    ).fetchall()
    found = {
        kind: Others(held=held, claim=claim, demand=demand) for kind, held, claim, demand in rows
    }
    return {kind: found.get(kind, Others()) for kind in KINDS}


def _block(connection: sqlite3.Connection, key: str, seconds: float, now: float) -> float:
    """Keep the latest end of a pause that any process was asked for; how long it lasts from now."""
    row = connection.execute(
        """INSERT INTO classes VALUES (?, ?)
        ON CONFLICT DO UPDATE SET blocked_until = max(blocked_until, excluded.blocked_until) RETURNING blocked_until""",
        (key, now + seconds if seconds > 0.0 else 0.0),
    ).fetchone()
    return max(0.0, float(row[0]) - now)


def _write_errors(connection: sqlite3.Connection, report: Report, now: float) -> None:
    connection.executemany(
        """INSERT INTO errors VALUES (?, ?, ?, 1, ?) ON CONFLICT DO UPDATE SET
            message = excluded.message, count = count + 1, last_at = excluded.last_at""",
        [(key, kind, message, now) for key, kind, message in report.errors],
    )
