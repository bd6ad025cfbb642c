"""Laws of dividing limits among processes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from claude_force.resilience.sharing import (
    Ask,
    Others,
    Pool,
    drawn,
    fair_places,
    refilled,
    reported,
)

demands = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=2), st.integers(0, 50), max_size=8
)


@given(limit=st.integers(0, 100), demand=demands, turn=st.integers(0, 1000))
def test_places_never_exceed_the_limit_or_the_demand_and_none_is_left_over(
    limit: int, demand: dict[str, int], turn: int
) -> None:
    places = fair_places(limit, demand, turn=turn)
    assert sum(places.values()) == min(limit, sum(demand.values()))
    assert all(places[name] <= demand[name] for name in demand)


def test_equal_demand_gets_equal_places_and_what_one_leaves_the_others_get() -> None:
    assert fair_places(12, {"a": 100, "b": 100, "c": 100}, turn=0) == {"a": 4, "b": 4, "c": 4}
    assert fair_places(12, {"a": 100, "b": 1, "c": 100}, turn=0) == {"a": 6, "b": 1, "c": 5}


def test_with_fewer_places_than_processes_each_is_served_in_turn() -> None:
    demand = dict.fromkeys("abcd", 3)
    served = [fair_places(1, demand, turn=turn) for turn in range(4)]
    assert [max(places, key=lambda name: places[name]) for places in served] == list("abcd")


amounts = st.floats(-500, 5_000)


@given(
    level=amounts,
    held=amounts,
    wanted=st.floats(0, 5_000),
    needed=st.floats(0, 500),
    others=st.integers(0, 100),
    demand=st.integers(1, 100),
    can_go=st.booleans(),
)
def test_a_visit_neither_makes_nor_loses_anything(  # noqa: PLR0917 - filled in by name
    level: float,
    held: float,
    wanted: float,
    needed: float,
    others: int,
    demand: int,
    can_go: bool,
) -> None:
    pool, now_held = drawn(
        Pool(limit=1_000, level=level),
        Ask(held=held, claim=held, wanted=wanted, needed=needed),
        Others(demand=others),
        demand=demand,
        can_go=can_go,
    )
    assert abs(pool.level + now_held - level - held) < 1e-6
    assert now_held >= 0
    # Nobody takes more than is there.
    assert now_held == 0 or pool.level >= -1e-6


@given(level=amounts, elapsed=st.floats(-100, 1000), claimed=st.floats(0, 1_000))
def test_a_pool_and_what_is_claimed_never_exceed_the_limit(
    level: float, elapsed: float, claimed: float
) -> None:
    pool = refilled(
        Pool(limit=1_000, level=level),
        elapsed_seconds=elapsed,
        claimed=claimed,
        window_seconds=60,
    )
    assert pool.level + claimed <= 1_000


def test_the_first_report_sets_the_pool_and_a_later_one_knows_of_it() -> None:
    first = reported(Pool(), Ask(held=-1, claim=-1, limit=600, error=598 + 1))
    assert (first.limit, first.level, first.corrected) == (600, 599, 599)
    # Another process had sent one request at the same time: 597 remain, which was known to it as little.
    second = reported(first, Ask(held=-1, claim=-1, limit=600, error=597 + 1))
    assert second.level == 598


def test_what_a_report_lacks_is_believed_at_once_and_what_it_has_too_much_in_halves() -> None:
    pool = Pool(limit=600, level=100)
    assert reported(pool, Ask(held=0, claim=0, error=-40)).level == 60
    assert reported(pool, Ask(held=0, claim=0, error=40)).level == 120
