"""The script in the Redis server divides limits exactly as the database of one machine does."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.resilience.redis_limits import RedisLimits
from claude_force.resilience.redis_place import RedisPlace
from claude_force.resilience.redis_view import change_redis_limits
from claude_force.resilience.shared_database import SharedDatabase
from claude_force.resilience.shared_limits import SharedLimits
from claude_force.resilience.shared_view import change_limits
from claude_force.resilience.sharing import KINDS, Ask, ClassReport, Report, Share, Standing
from claude_force.storage.redis_link import Patience, RedisLink

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RedisServer

CLASSES = ("sonnet at https://api", "haiku at https://api")
STEPS = 250


@dataclass
class Holder:
    """A process that visits both; ``shares`` are what it got there, in the order redis, sqlite."""

    redis: RedisLimits
    sqlite: SharedLimits
    shares: list[dict[tuple[str, str], Share]] = field(default_factory=lambda: [{}, {}])


@dataclass(frozen=True)
class Plan:
    """What a process tells of one kind at one visit, beside what it got before."""

    spent: float
    reserved: float
    wanted: float
    needed: float
    limit: float | None
    error: float | None

    def ask(self, share: Share | None) -> Ask:
        held = (0.0 if share is None else share.held) - self.spent
        return Ask(
            held=held,
            claim=held + self.reserved,
            wanted=self.wanted,
            needed=self.needed,
            limit=self.limit,
            error=None if share is None else self.error,
            corrected_then=0.0 if share is None else share.corrected,
            source="" if share is None else share.source,
        )


def plan(dice: random.Random) -> Plan:
    reported = dice.random() < 0.5
    return Plan(
        spent=dice.choice([0.0, 0.0, 0.0, 1.0, dice.uniform(0, 20)]),
        reserved=dice.choice([0.0, dice.uniform(0, 10)]),
        wanted=dice.uniform(0, 60),
        needed=dice.choice([0.0, 1.0, dice.uniform(0, 80)]),
        limit=dice.choice([60.0, 120.0]) if reported else None,
        error=dice.uniform(-20, 20) if reported else None,
    )


@pytest.mark.parametrize("seed", range(4))
def test_redis_and_sqlite_give_the_same_standings(
    seed: int, redis_server: RedisServer, tmp_path: Path
) -> None:
    dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
    now = [1000.0]
    holders = []
    for _ in range(3):
        database = SharedDatabase(tmp_path / "limits.db", wall_clock=lambda: now[0])
        link = RedisLink(redis_server.url, patience=Patience(timeout_seconds=20, slow_seconds=99))
        place = RedisPlace(link, machine="m", host="h", server_clock=lambda: now[0])
        # Who has a place where there are fewer than processes goes by the names of leases.
        place.lease_id = database.lease_id
        holders.append(Holder(RedisLimits(place), SharedLimits(database)))
    for step in range(STEPS):
        now[0] += dice.choice([0.02, 0.2, 1.0, 4.5, 700.0 if step % 50 == 49 else 6.0])
        if dice.random() < 0.1:
            limits: dict[str, Any] = {
                "max_concurrent": dice.choice([None, 0, 1, 2, 7]),
                "requests_per_minute": dice.choice([None, 0, 90]),
                "paused": dice.choice([None, True, False]),
            }
            assert change_redis_limits(redis_server.url, **limits) == change_limits(
                tmp_path / "limits.db", **limits
            )
        holder = dice.choice(holders)
        leaving = dice.random() < 0.1
        plans = {key: {kind: plan(dice) for kind in KINDS} for key in CLASSES}
        demand = 0 if leaving else dice.randint(1, 20)
        blocked = dice.choice([0.0, 0.0, dice.uniform(0, 5)])
        in_flight, waiting = (0, 0) if leaving else (dice.randint(0, 5), dice.randint(0, 9))
        standings = [
            exchange(
                Report(
                    in_flight=in_flight,
                    waiting=waiting,
                    classes={
                        key: ClassReport(
                            asks={k: plans[key][k].ask(shares.get((key, k))) for k in KINDS},
                            demand=demand,
                            blocked_seconds=blocked,
                        )
                        for key in CLASSES
                    },
                )
            )
            for exchange, shares in (
                (holder.redis.exchange, holder.shares[0]),
                (holder.sqlite.exchange, holder.shares[1]),
            )
        ]
        in_redis, in_sqlite = standings
        assert in_redis is not None
        assert in_sqlite is not None
        assert figures(in_redis) == pytest.approx(figures(in_sqlite), abs=1e-6), step
        for shares, standing in zip(holder.shares, (in_redis, in_sqlite), strict=True):
            for key in CLASSES:
                for kind in KINDS:
                    shares[key, kind] = standing.classes[key].shares[kind]
    for holder in holders:
        holder.redis.close()
        holder.sqlite.close()


def figures(standing: Standing) -> dict[str, float | None]:
    limits = standing.limits
    found: dict[str, float | None] = {
        "max_concurrent": limits.max_concurrent,
        "requests_per_minute": limits.requests_per_minute,
        "paused": limits.paused,
        "places": standing.places,
        "rate_share": standing.rate_share,
    }
    for key, given in standing.classes.items():
        found[f"{key} blocked"] = given.blocked_seconds
        found[f"{key} wait"] = given.wait_seconds
        for kind, share in given.shares.items():
            found |= {
                f"{key} {kind} limit": share.limit,
                f"{key} {kind} held": share.held,
                f"{key} {kind} elsewhere": share.elsewhere,
                f"{key} {kind} corrected": share.corrected,
            }
    return found
