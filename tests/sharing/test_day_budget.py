"""The budget of a day over several machines: never overshot, whatever happens to the server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from claude_force.domain.errors import BudgetExceededError
from claude_force.pricing.budgets import Account
from claude_force.pricing.redis_day_ledger import RedisDayLedger
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RedisServer, Until

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CENT = Decimal("0.01")
Open = Callable[..., RedisDayLedger]


@pytest.fixture
def open_ledger(redis_server: RedisServer, tmp_path: Path) -> Iterator[Open]:
    """Ledgers of machines by name; they are closed at the end."""
    opened: list[RedisDayLedger] = []

    def make(machine: str, *, settling_seconds: float = 0.0, **options: float) -> RedisDayLedger:
        opened.append(
            RedisDayLedger(
                redis_server.url,
                tmp_path / machine / "memory.db",
                settling_seconds=settling_seconds,
                **options,  # type: ignore[arg-type] # seconds, all of them
            )
        )
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


def test_hundred_at_once_on_four_machines_against_a_budget_for_three_are_three(
    open_ledger: Open,
) -> None:
    ledgers = [open_ledger(f"machine-{n}") for n in range(4)]
    together = threading.Barrier(20)

    def reserve(number: int) -> bool:
        together.wait(20)
        try:
            ledgers[number % 4].reserve(CENT, Decimal("0.035"), at=NOON)
        except BudgetExceededError:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(reserve, range(100))) == 3
    assert ledgers[0].account(NOON) == Account(reserved_usd=3 * CENT)


def test_what_a_call_really_cost_takes_the_place_of_its_worst_case_once(open_ledger: Open) -> None:
    one, two = open_ledger("one"), open_ledger("two")
    first = one.reserve(5 * CENT, 6 * CENT, at=NOON)
    with pytest.raises(
        BudgetExceededError,
        match=r"of the day's budget \('2026-11-22'\), \$0.06, \$0.01 is left \(\$0.05 is used, \$0.05 of it held",
    ):
        two.reserve(2 * CENT, 6 * CENT, at=NOON)
    one.settle(first, Decimal("0.0012345678901"))
    one.settle(first, Decimal(1))
    # Rounded up to the next billionth.
    assert two.account(NOON) == Account(spent_usd=Decimal("0.001234568"))
    second = two.reserve(2 * CENT, 6 * CENT, at=NOON)
    # Nobody knows what it cost: the worst case counts.
    two.settle(second, None)
    assert one.account(NOON) == Account(spent_usd=Decimal("0.021234568"))


def test_days_have_accounts_of_their_own_and_old_ones_are_removed(
    open_ledger: Open, redis_server: RedisServer
) -> None:
    import redis

    ledger = open_ledger("one")
    for days in (0, 1, 40):
        ledger.reserve(CENT, CENT, at=NOON + timedelta(days=days))
    assert ledger.account(NOON + timedelta(days=40)) == Account(reserved_usd=CENT)
    with redis.Redis.from_url(redis_server.url) as client:
        fields = client.hkeys("claude-force:{shared}:1:spending")
    assert {field[:10].decode() for field in fields if field.startswith(b"20")} == {"2027-01-01"}


def test_a_process_that_dies_leaves_its_reservation_until_the_day_ends(
    open_ledger: Open, redis_server: RedisServer, tmp_path: Path
) -> None:
    script = (
        "import os, signal, sys; from datetime import datetime, UTC; from decimal import Decimal\n"
        "from pathlib import Path\n"
        "from claude_force.pricing.redis_day_ledger import RedisDayLedger\n"
        "ledger = RedisDayLedger(sys.argv[1], Path(sys.argv[2]), settling_seconds=0)\n"
        "ledger.reserve(Decimal('0.01'), Decimal('0.01'), at=datetime(2026, 11, 22, 12, tzinfo=UTC))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    arguments = [redis_server.url, str(tmp_path / "killed" / "memory.db")]
    killed = subprocess.run([sys.executable, "-c", script, *arguments], timeout=60, check=False)
    assert killed.returncode == -9
    with pytest.raises(BudgetExceededError):
        open_ledger("other").reserve(CENT, CENT, at=NOON)


def test_a_server_that_comes_back_empty_hears_what_was_used_before_anything_is_reserved(
    open_ledger: Open, redis_server: RedisServer
) -> None:
    spender, other = open_ledger("spender", settling_seconds=3.0), open_ledger("other")
    # The last word of the spender is the newest; the other one has heard only of the first cent.
    other.settle(other.reserve(CENT, 10 * CENT, at=NOON), CENT)
    spender.settle(spender.reserve(4 * CENT, 10 * CENT, at=NOON), 4 * CENT)
    held = spender.reserve(4 * CENT, 10 * CENT, at=NOON)
    other.close()
    redis_server.stop()
    redis_server.start()
    # A machine that knows nothing comes first. It waits until the process that lives has spoken.
    stranger = open_ledger("stranger", settling_seconds=3.0)
    with pytest.raises(BudgetExceededError, match=r"\$0.01 is left \(\$0.09 is used\)"):
        stranger.reserve(2 * CENT, 10 * CENT, at=NOON)
    # What was under way is not known any more, and stays at its worst case.
    spender.settle(held, CENT)
    assert stranger.account(NOON) == Account(spent_usd=9 * CENT)
    stranger.reserve(CENT, 10 * CENT, at=NOON)
    # The other machine's memory is older than what the server has been told.
    again = open_ledger("other")
    assert again.account(NOON) == Account(spent_usd=9 * CENT, reserved_usd=CENT)


def test_a_server_that_goes_back_to_an_older_state_hears_what_it_has_lost(
    open_ledger: Open, redis_server: RedisServer
) -> None:
    import redis

    record = "claude-force:{shared}:1:spending"
    ledger = open_ledger("one")
    under_way = ledger.reserve(CENT, 10 * CENT, at=NOON)
    with redis.Redis.from_url(redis_server.url) as client:
        snapshot = client.dump(record)
        for _ in range(6):
            ledger.settle(ledger.reserve(CENT, 10 * CENT, at=NOON), CENT)
        client.restore(record, 0, snapshot, replace=True)
    assert ledger.account(NOON) == Account(spent_usd=7 * CENT)
    # What the snapshot knew of is not counted twice, and stays at its worst case.
    ledger.settle(under_way, Decimal(0))
    assert ledger.account(NOON) == Account(spent_usd=7 * CENT)
    ledger.reserve(3 * CENT, 10 * CENT, at=NOON)
    with pytest.raises(BudgetExceededError):
        ledger.reserve(CENT, 10 * CENT, at=NOON)


def test_a_machine_remembers_what_was_used_when_no_process_lives(
    open_ledger: Open, redis_server: RedisServer
) -> None:
    ledger = open_ledger("one")
    ledger.settle(ledger.reserve(CENT, CENT, at=NOON), CENT)
    ledger.close()
    redis_server.stop()
    redis_server.start()
    with pytest.raises(BudgetExceededError):
        open_ledger("one").reserve(CENT, CENT, at=NOON)
    # And again: the record that was told is lost as well.
    redis_server.stop()
    redis_server.start()
    with pytest.raises(BudgetExceededError):
        open_ledger("one").reserve(CENT, CENT, at=NOON)


def test_a_call_waits_for_a_server_that_restarts_and_what_was_paid_is_told_then(
    open_ledger: Open, redis_server: RedisServer, until: Until
) -> None:
    ledger = open_ledger("one", wait_seconds=60.0)
    paid = ledger.reserve(CENT, 10 * CENT, at=NOON)
    redis_server.stop()
    ledger.settle(paid, CENT)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.reserve, CENT, 10 * CENT, at=NOON)
        time.sleep(0.3)
        assert not waiting.done()
        redis_server.start()
        assert waiting.result(30).amount_usd == CENT
    # A cent that was used, as the machine remembers, and one that is reserved.
    assert ledger.account(NOON) == Account(spent_usd=CENT, reserved_usd=CENT)


def test_without_the_server_a_call_is_refused_in_bounded_time_and_later_ones_at_once(
    open_ledger: Open, redis_server: RedisServer
) -> None:
    ledger = open_ledger("one", wait_seconds=0.5)
    ledger.reserve(CENT, 10 * CENT, at=NOON)
    redis_server.stop()
    began = time.monotonic()
    with pytest.raises(StorageError, match="does not answer; nothing is sent without it"):
        ledger.reserve(CENT, 10 * CENT, at=NOON)
    first = time.monotonic()
    assert 0.4 < first - began < 5
    for _ in range(20):
        with pytest.raises(StorageError):
            ledger.reserve(CENT, 10 * CENT, at=NOON)
    assert time.monotonic() - first < 5
    with pytest.raises(StorageError):
        ledger.account(NOON)


def test_a_disk_that_cannot_remember_stops_a_call_before_it_is_sent(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    path = tmp_path / "memory.db"
    path.write_bytes(b"no database" * 100)
    ledger = RedisDayLedger(redis_server.url, path)
    with pytest.raises(StorageError):
        ledger.reserve(CENT, CENT, at=NOON)
    ledger.close()
