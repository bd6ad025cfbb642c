"""The budget of a day, shared by the processes of several machines in a Redis server."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from claude_force.pricing.budgets import Account, Budget, Reservation, check_fits
from claude_force.pricing.day_ledger import KEPT_DAYS, day_of
from claude_force.pricing.day_memory import NOTHING, DayMemory, Remembered
from claude_force.storage.errors import StorageError
from claude_force.storage.redis_link import Patience, RedisLink

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from claude_force.storage.redis_link import RedisClient

# The braces keep it with the other keys that machines share. The number is that of its form.
RECORD: Final = "claude-force:{shared}:1:spending"
# Whole billionths: the finest price is some hundred of them, and a script counts whole numbers exactly.
_NANO: Final = Decimal(1_000_000_000)
_LARGEST_NANO: Final = 9_000_000_000_000_000
# A record that is new settles for so long before anything is reserved in it; processes speak up more often.
_SETTLING_SECONDS: Final = 3.0
_BEAT_SECONDS: Final = 1.0
# A server that restarts costs a wait of this length; one that is gone for longer, the call.
_WAIT_SECONDS: Final = 5.0
_LOOK_AGAIN_SECONDS: Final = 0.05
_PATIENCE: Final = Patience(
    timeout_seconds=0.5,
    slow_seconds=float("inf"),
    first_pause_seconds=0.1,
    longest_pause_seconds=_BEAT_SECONDS,
    meanwhile="nothing that counts against the budget of the day is sent until it is back",
)


@dataclass(slots=True, eq=False)
class SharedReservation(Reservation):
    """A reservation that the server knows by its token: asked twice, it is made once."""

    token: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What became of a request to the record."""

    became: str
    wait_seconds: float
    spent_nano: int
    reserved_nano: int
    remembered: Remembered


class RedisDayLedger:
    """What was spent and is reserved today, over all machines; see `DayAccounts`.

    Each change is one script in the server, so calls at the same time cannot overshoot together. What is not certain
    counts as spent: a process that dies leaves its reservations until the day ends, and while the server is gone
    nothing is reserved, for 5 s by waiting, then by a `StorageError`. What was reserved before goes on; what it cost
    is told when the server is back.

    A server that comes back empty, or with an older state, is told what was used: every machine keeps its last word on
    disk, and every process that lives repeats it once a second. Nothing is reserved for 3 s then, so that all are
    heard.

    Args:
        url: of the server.
        memory_path: of this machine's database.
        settling_seconds: see above.
        wait_seconds: how long a call waits for a server that is gone.
    """

    def __init__(
        self,
        url: str,
        memory_path: Path,
        *,
        settling_seconds: float = _SETTLING_SECONDS,
        wait_seconds: float = _WAIT_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = RedisLink(url, patience=_PATIENCE)
        self._link.check()
        self._memory = DayMemory(memory_path, server=_without_password(url))
        self._settling_seconds = settling_seconds
        self._wait_seconds = wait_seconds
        self._monotonic = monotonic
        # Guards the fields below; never held while the server is asked.
        self._lock = threading.Lock()
        self._script: Any = None
        self._gone_since: float | None = None
        self._today: str | None = None
        # What calls cost that the server has not been told yet.
        self._untold: list[tuple[str, str, int]] = []
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def reserve(
        self, worst_case_usd: Decimal, limit_usd: Decimal, *, at: datetime
    ) -> SharedReservation:
        """See `DayAccounts.reserve`."""
        budget = Budget("day", day_of(at), limit_usd)
        amount, limit = _nano(worst_case_usd, ROUND_CEILING), _nano(limit_usd, ROUND_FLOOR)
        token = os.urandom(12).hex()
        self._begin(at)
        while True:
            answer = self._ask("reserve", budget.name, token, amount=amount, limit=limit)
            if answer is None:
                self._wait_or_refuse(budget.name, token)
            elif answer.became == "hold":
                self._closing.wait(min(answer.wait_seconds, _BEAT_SECONDS) + 0.001)
            else:
                break
        if answer.became == "full":
            account = Account(
                spent_usd=answer.spent_nano / _NANO, reserved_usd=answer.reserved_nano / _NANO
            )
            check_fits(Budget("day", budget.name, limit / _NANO), account, amount / _NANO)
        return SharedReservation(worst_case_usd, (budget,), token=token)

    def settle(self, reservation: Reservation, actual_usd: Decimal | None) -> None:
        """See `DayAccounts.settle`; a server that is gone is told later."""
        if reservation.settled or not isinstance(reservation, SharedReservation):
            return
        reservation.settled = True
        spent = reservation.amount_usd if actual_usd is None else actual_usd
        with self._lock:
            self._untold += [
                (budget.name, reservation.token, _nano(spent, ROUND_CEILING))
                for budget in reservation.budgets
            ]
        self._tell()

    def account(self, at: datetime) -> Account:
        """How far the day of ``at`` is used, over all machines.

        Raises:
            StorageError: the server is gone.
        """
        answer = self._ask("look", day_of(at), "")
        if answer is None:
            raise _gone()
        return Account(
            spent_usd=answer.spent_nano / _NANO, reserved_usd=answer.reserved_nano / _NANO
        )

    def close(self) -> None:
        """Tell what is untold, and close the connections; a second call does nothing."""
        self._closing.set()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        self._tell()
        self._link.close()
        self._memory.close()

    def _begin(self, at: datetime) -> None:
        """Have this process speak up for the day from now on."""
        with self._lock:
            new_day, self._today = self._today != day_of(at), day_of(at)
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(
                    target=self._beat, name="claude-force-day-budget", daemon=True
                )
                self._thread.start()
        if new_day:
            self._memory.forget_before(_oldest(self._today))

    def _beat(self) -> None:
        while not self._closing.wait(_BEAT_SECONDS):
            self._tell()
            if self._today is not None:
                self._ask("look", self._today, "")

    def _tell(self) -> None:
        """Settle what is to be settled; what the server does not hear is kept."""
        with self._lock:
            untold, self._untold = self._untold, []
        for number, (day, token, spent) in enumerate(untold):
            if self._ask("settle", day, token, actual=spent) is None:
                with self._lock:
                    self._untold += untold[number:]
                return

    def _wait_or_refuse(self, day: str, token: str) -> None:
        with self._lock:
            since = self._gone_since
        if since is None or (
            self._monotonic() - since < self._wait_seconds
            and not self._closing.wait(_LOOK_AGAIN_SECONDS)
        ):
            return
        with self._lock:
            # It may have been made, and only the answer was lost.
            self._untold.append((day, token, 0))
        raise _gone()

    def _ask(
        self, what: str, day: str, token: str, *, amount: int = 0, actual: int = 0, limit: int = 0
    ) -> _Answer | None:
        """One script; None when the server is slow or gone."""
        then = self._recalled(day, strictly=what == "reserve")
        arguments = (
            *(what, day, token, str(amount), str(actual), str(limit)),
            *(then.life, str(then.changes), str(then.used_nano)),
            *(os.urandom(8).hex(), str(self._settling_seconds), _oldest(day)),
        )
        answer = self._link.call(lambda client: _answer(self._run(client, arguments)))
        with self._lock:
            if answer is not None:
                self._gone_since = None
            elif self._gone_since is None:
                self._gone_since = self._monotonic()
        if answer is not None:
            # A reservation has just found the disk well; what was settled must not fail for it.
            with contextlib.suppress(StorageError):
                self._memory.remember(day, answer.remembered)
        return answer

    def _recalled(self, day: str, *, strictly: bool) -> Remembered:
        try:
            return self._memory.recall(day)
        except StorageError:
            if strictly:
                raise
            return NOTHING

    def _run(self, client: RedisClient, arguments: tuple[str, ...]) -> list[Any]:
        if self._script is None:
            text = Path(__file__).with_name("redis_day.lua").read_text("utf-8")
            self._script = client.register_script(text)
        reply: list[Any] = self._script(keys=(RECORD,), args=arguments, client=client)
        return reply


def _answer(reply: list[Any]) -> _Answer:
    became, life, changes, spent, reserved, wait = reply
    return _Answer(
        became=became.decode(),
        wait_seconds=float(wait),
        spent_nano=int(spent),
        reserved_nano=int(reserved),
        remembered=Remembered(
            life=life.decode(), changes=int(changes), used_nano=int(spent) + int(reserved)
        ),
    )


def _nano(amount_usd: Decimal, rounding: str) -> int:
    whole = int((amount_usd * _NANO).to_integral_value(rounding=rounding))
    return min(whole, _LARGEST_NANO)


def _oldest(day: str) -> str:
    from datetime import date  # noqa: PLC0415 - beside the types of the annotations

    return (date.fromisoformat(day) - timedelta(days=KEPT_DAYS)).isoformat()


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _gone() -> StorageError:
    return StorageError(
        "The Redis server that keeps the budget of the day of all machines does not answer; nothing is sent without "
        "it. Start it, or run without a budget of the day, or unset CLAUDE_FORCE_REDIS_URL to count this machine alone."
    )
