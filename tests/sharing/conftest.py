"""Machines that share a Redis server: each is a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from claude_force.resilience.redis_breakers import RedisBreakers
from claude_force.resilience.redis_fallback import MachineBreakers, MachineLimits
from claude_force.resilience.redis_limits import RedisLimits
from claude_force.resilience.redis_place import RedisPlace, open_place
from claude_force.resilience.shared_breakers import SharedBreakers
from claude_force.resilience.shared_database import SharedDatabase
from claude_force.resilience.shared_limits import SharedLimits

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RedisServer


@dataclass(frozen=True)
class Machine:
    """One process of one machine."""

    place: RedisPlace
    redis: RedisLimits
    own: SharedLimits
    limits: MachineLimits
    breakers: MachineBreakers

    def close(self) -> None:
        self.limits.close()


MakeMachine = Callable[..., Machine]


@pytest.fixture
def make_machine(redis_server: RedisServer, tmp_path: Path) -> Iterator[MakeMachine]:
    """Machines by name; they are closed at the end."""
    made: list[Machine] = []

    def make(name: str, *, window_seconds: float = 60.0) -> Machine:
        place = open_place(redis_server.url, machine=name, host=f"host-{name}")
        database = SharedDatabase(tmp_path / name / "limits.db")
        redis = RedisLimits(place, window_seconds=window_seconds)
        own = SharedLimits(database, window_seconds=window_seconds)
        breakers = MachineBreakers(RedisBreakers(place), SharedBreakers(database))
        made.append(Machine(place, redis, own, MachineLimits(redis, own), breakers))
        return made[-1]

    yield make
    for machine in made:
        machine.close()
