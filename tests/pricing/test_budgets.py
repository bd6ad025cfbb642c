"""Budgets: worst cases, concurrent calls, unknown prices, and days that processes share."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.domain.errors import BudgetExceededError, InputError
from claude_force.domain.messages import CallContext, Message, MessageRequest, TextBlock
from claude_force.domain.tokens import estimate_tokens
from claude_force.domain.usage import Usage
from claude_force.pricing.budget_queue import BudgetQueue
from claude_force.pricing.budgets import Account, Budget, BudgetLedger, Reservation
from claude_force.pricing.catalogue import PriceCatalogue
from claude_force.pricing.day_ledger import DayLedger, day_of
from claude_force.pricing.spending import BudgetLimits, Spending
from claude_force.pricing.worst_case import worst_case_usage
from claude_force.storage.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MODEL = "claude-sonnet-5-5"
RUN = Budget("run", "r", Decimal("3.00"))


def request(
    text: str = "x" * 1_000,
    *,
    model: str = MODEL,
    max_tokens: int = 1_000,
    cache_ttl: str | None = None,
    **context: str,
) -> MessageRequest:
    return MessageRequest(
        model=model,
        messages=(Message("user", (TextBlock(text, cache_ttl),)),),  # type: ignore[arg-type] # "5m" or "1h"
        max_tokens=max_tokens,
        context=CallContext(**context),  # type: ignore[arg-type] # only text is passed
    )


def test_a_hundred_concurrent_first_calls_against_a_budget_for_three_make_three() -> None:
    ledger = BudgetLedger()
    made: list[Reservation] = []
    refused: list[BudgetExceededError] = []
    barrier = threading.Barrier(20)

    def first_calls() -> None:
        barrier.wait()
        for _ in range(5):
            try:
                made.append(ledger.reserve(Decimal("1.00"), [RUN], model=MODEL))
            except BudgetExceededError as error:
                refused.append(error)

    threads = [threading.Thread(target=first_calls) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (3, 97)
    assert ledger.account(RUN) == Account(reserved_usd=Decimal("3.00"))


def test_what_a_call_did_not_use_is_there_for_the_next() -> None:
    ledger = BudgetLedger()
    reservation = ledger.reserve(Decimal("2.50"), [RUN], model=MODEL)
    with pytest.raises(BudgetExceededError):
        ledger.reserve(Decimal("2.50"), [RUN], model=MODEL)
    ledger.settle(reservation, Decimal("0.10"))
    ledger.settle(reservation, Decimal("0.10"))
    assert ledger.account(RUN) == Account(spent_usd=Decimal("0.10"), reserved_usd=Decimal("0.00"))
    ledger.reserve(Decimal("2.90"), [RUN], model=MODEL)


def test_a_call_whose_cost_nobody_knows_counts_as_its_worst_case() -> None:
    ledger = BudgetLedger()
    ledger.settle(ledger.reserve(Decimal(2), [RUN], model=MODEL), None)
    assert ledger.account(RUN).spent_usd == 2


def test_a_refused_call_reserves_nothing_in_any_budget() -> None:
    ledger = BudgetLedger()
    wide, narrow = Budget("run", "r", Decimal(10)), Budget("agent", "a", Decimal(1))
    with pytest.raises(BudgetExceededError):
        ledger.reserve(Decimal(2), [wide, narrow], model=MODEL)
    assert ledger.account(wide) == ledger.account(narrow) == Account()


def test_the_message_says_what_is_left_and_what_to_do() -> None:
    ledger = BudgetLedger()
    ledger.settle(ledger.reserve(Decimal(1), [RUN], model=MODEL), Decimal("0.75"))
    ledger.reserve(Decimal(1), [RUN], model=MODEL)
    with pytest.raises(BudgetExceededError) as caught:
        ledger.reserve(Decimal("1.2500005"), [RUN], model=MODEL)
    assert str(caught.value) == (
        "This call can cost up to $1.25, and of the run's budget ('r'), $3.00, $1.25 is left ($1.75 is used, $1.00 "
        "of it held by calls under way). It was not sent. Raise the budget, or ask for less (--max-tokens, a "
        "smaller prompt, a cheaper model)."
    )
    assert caught.value.exit_code == 8
    assert isinstance(caught.value, InputError)


def test_an_unknown_price_is_an_error_with_a_budget_and_none_without() -> None:
    ledger = BudgetLedger()
    with pytest.raises(BudgetExceededError, match="No price of the model 'unheard-of' is known"):
        ledger.reserve(None, [RUN], model="unheard-of")
    ledger.settle(ledger.reserve(None, [], model="unheard-of"), None)


def test_a_budget_of_a_call_bounds_each_call_by_itself() -> None:
    ledger, each = BudgetLedger(), Budget("call", "", Decimal("0.50"))
    for _ in range(10):
        ledger.settle(ledger.reserve(Decimal("0.50"), [each], model=MODEL), Decimal("0.50"))
    with pytest.raises(BudgetExceededError):
        ledger.reserve(Decimal("0.51"), [each], model=MODEL)


amounts = st.decimals(0, 2, places=4)


@given(
    steps=st.lists(
        st.tuples(amounts, st.one_of(st.none(), st.decimals(0, 1, places=2)), st.integers(0, 9)),
        max_size=60,
    )
)
def test_spent_and_reserved_never_pass_the_limit_while_worst_cases_hold(
    steps: list[tuple[Decimal, Decimal | None, int]],
) -> None:
    ledger, open_ones = BudgetLedger(), list[Reservation]()
    spent = Decimal(0)
    for worst, share, which in steps:
        try:
            open_ones.append(ledger.reserve(worst, [RUN], model=MODEL))
        except BudgetExceededError:
            assert worst > RUN.limit_usd - ledger.account(RUN).used_usd
        if open_ones and which < 6:
            ending = open_ones.pop(which % len(open_ones))
            actual = None if share is None else ending.amount_usd * share
            ledger.settle(ending, actual)
            spent += ending.amount_usd if actual is None else actual
        account = ledger.account(RUN)
        assert account.used_usd <= RUN.limit_usd
        assert account.spent_usd == spent
        assert account.reserved_usd == sum(r.amount_usd for r in open_ones)


@given(text=st.text(max_size=500))
def test_a_worst_case_is_never_below_the_usual_estimate(text: str) -> None:
    assert worst_case_usage(request(text)).total_input_tokens >= estimate_tokens(text)


def test_a_worst_case_counts_the_dearest_kind_and_every_token_of_the_answer() -> None:
    tokens = 500 + 10 + 500
    assert worst_case_usage(request()) == Usage(input_tokens=tokens, output_tokens=1_000)
    assert worst_case_usage(request(cache_ttl="5m")) == Usage(
        cache_write_5m_tokens=tokens, output_tokens=1_000
    )
    assert worst_case_usage(request(cache_ttl="1h")) == Usage(
        cache_write_1h_tokens=tokens, output_tokens=1_000
    )
    # Three bytes a character, and at most a token a byte.
    assert worst_case_usage(request("語" * 10)).input_tokens == 510 + 30


def spending(path: Path | None = None, **limits: Decimal) -> Spending:
    return Spending(
        BudgetLimits(**limits),  # type: ignore[arg-type] # names of dollar limits
        catalogue=PriceCatalogue(),
        day_ledger=None if path is None else DayLedger(path),
    )


def test_a_request_counts_against_its_run_and_its_agent() -> None:
    async def main() -> None:
        budgets = Spending(
            BudgetLimits(per_run_usd=Decimal(1), per_agent_usd={"writer": Decimal("0.02")}),
            catalogue=PriceCatalogue(),
        )
        first = await budgets.reserve(request(run_id="r1", agent_name="writer"), at=NOON)
        # 1,010 tokens of input at $2 and 1,000 of output at $10 a million.
        assert first.own.amount_usd == Decimal("0.01202")
        with pytest.raises(BudgetExceededError, match="the agent's budget"):
            await budgets.reserve(request(run_id="r2", agent_name="writer"), at=NOON)
        await budgets.reserve(request(run_id="r2", agent_name="reader"), at=NOON)
        await budgets.settle(first, Decimal("0.001"))
        await budgets.reserve(request(run_id="r2", agent_name="writer"), at=NOON)

    asyncio.run(main())


def test_a_day_is_shared_by_every_ledger_of_its_file(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "spending.db"
        several = [spending(path, per_day_usd=Decimal("0.04")) for _ in range(4)]
        outcomes = await asyncio.gather(
            *(several[n % 4].reserve(request(), at=NOON) for n in range(100)),
            return_exceptions=True,
        )
        made = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(made) == 3
        assert {type(o) for o in outcomes if isinstance(o, BaseException)} == {BudgetExceededError}
        await several[3].settle(made[0], Decimal("0.00001"))
        await several[2].reserve(request(), at=NOON)
        for one in several:
            one.close()

    asyncio.run(main())


def test_another_day_begins_anew_and_days_are_of_utc(tmp_path: Path) -> None:
    ledger = DayLedger(tmp_path / "spending.db")
    late = datetime(2026, 11, 23, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert day_of(late) == "2026-11-22"
    ledger.reserve(Decimal(1), Decimal(1), at=NOON)
    with pytest.raises(BudgetExceededError, match=r"the day's budget \('2026-11-22'\)"):
        ledger.reserve(Decimal(1), Decimal(1), at=late)
    ledger.reserve(Decimal(1), Decimal(1), at=NOON + timedelta(days=1))
    ledger.close()


def test_a_reservation_counts_for_the_day_on_which_it_was_made(tmp_path: Path) -> None:
    ledger = DayLedger(tmp_path / "spending.db")
    reservation = ledger.reserve(Decimal(1), Decimal(1), at=NOON)
    ledger.settle(reservation, Decimal("0.3"))
    assert ledger.account(NOON) == Account(spent_usd=Decimal("0.3"), reserved_usd=Decimal(0))
    assert ledger.account(NOON + timedelta(days=1)) == Account()
    ledger.close()


def test_a_killed_process_cannot_make_a_day_cheaper(tmp_path: Path) -> None:
    script = (
        "import os, sys, signal; from pathlib import Path; from decimal import Decimal\n"
        "from datetime import datetime, UTC\n"
        "from claude_force.pricing.day_ledger import DayLedger\n"
        "ledger = DayLedger(Path(sys.argv[1])); at = datetime(2026, 11, 22, 12, tzinfo=UTC)\n"
        "ledger.settle(ledger.reserve(Decimal(1), Decimal(9), at=at), Decimal('0.5'))\n"
        "ledger.reserve(Decimal(2), Decimal(9), at=at); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "spending.db"
    killed = subprocess.run([sys.executable, "-c", script, str(path)], timeout=60, check=False)
    assert killed.returncode == -9
    ledger = DayLedger(path)
    assert ledger.account(NOON) == Account(spent_usd=Decimal("0.5"), reserved_usd=Decimal(2))
    ledger.close()


def test_an_unusable_ledger_is_an_error_and_leaves_nothing_reserved(tmp_path: Path) -> None:
    path = tmp_path / "spending.db"
    path.write_bytes(b"something else" * 100)

    async def main() -> None:
        budgets = spending(path, per_day_usd=Decimal(1), per_run_usd=Decimal(1))
        with pytest.raises(StorageError):
            await budgets.reserve(request(run_id="r"), at=NOON)
        assert budgets.ledger.account(Budget("run", "r", Decimal(1))).used_usd == 0

    asyncio.run(main())


def test_without_a_budget_nothing_is_priced() -> None:
    async def main() -> None:
        budgets = spending()
        reservation = await budgets.reserve(request(model="unheard-of"), at=NOON)
        await budgets.settle(reservation, None)

    asyncio.run(main())


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity"])
def test_an_amount_that_is_no_budget_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="is none; give 0 or more"):
        Budget("run", "", Decimal(amount))


def test_a_queue_keeps_no_account_of_what_has_ended() -> None:
    queue = BudgetQueue()
    for amount in (Decimal(0), Decimal(0), Decimal("1.50"), Decimal("0.25")):
        queue.hold([RUN.key], amount)
    for amount in (Decimal(0), Decimal("1.50"), Decimal("0.25"), Decimal(0)):
        queue.settled([RUN.key], amount)
    assert vars(queue)["_held"] == {}
