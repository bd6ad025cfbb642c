"""Laws of the planner: how many marks, where, for how long, and that they pay."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_force.domain.messages import Message, MessageRequest, TextBlock
from claude_force.pricing.catalogue import PriceCatalogue
from claude_force.provider.prompt_cache.history import PrefixHistory
from claude_force.provider.prompt_cache.outlook import (
    USUAL_RATES,
    CacheRates,
    GapCounts,
    Outlook,
    rates_of,
)
from claude_force.provider.prompt_cache.planner import plan_marks
from claude_force.provider.prompt_cache.prefixes import (
    Prefix,
    PrefixKey,
    prefix_keys,
    prefixes_of,
    with_marks,
)
from claude_force.provider.wire import request_body
from claude_force.simulator.prompt_cache import PromptCache
from claude_force.simulator.prompts import read_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.domain.messages import PromptCacheTtl

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

# Caches from 512 tokens; a word is 5 characters, 1.3 tokens.
MODEL = "claude-opus-5"
DEFINITION, CONTEXT = "word " * 600, "text " * 1200
MINUTE = 60.0
# Shares of the plain price, by which the simulator's books are read here.
PRICES = {"input": 1.0, "5m": 1.25, "1h": 2.0, "read": 0.1}


def request(task: str = "Go.", *, files: Sequence[str] = (), **changes: Any) -> MessageRequest:
    blocks = tuple(TextBlock(text) for text in (*files, task))
    fields = {"model": MODEL, "max_tokens": 9, "system": (TextBlock(DEFINITION),)}
    return MessageRequest(**(fields | {"messages": (Message("user", blocks),)} | changes))


def outlook(
    block: int,
    tokens: int,
    *,
    readers: int = 0,
    warm: PromptCacheTtl | None = None,
    gaps: tuple[int, int, int] = (0, 0, 0),
) -> Outlook:
    prefix = Prefix(PrefixKey(bytes([block])), tokens, block)
    return Outlook(prefix=prefix, warm=warm, readers=readers, gaps=GapCounts(*gaps))


def marks(*outlooks: Outlook, one_hour: bool = True) -> dict[int, str]:
    return dict(plan_marks(outlooks, USUAL_RATES, one_hour=one_hour).marks)


class TestPrefixes:
    def test_shorter_beginnings_than_the_minimum_are_none(self) -> None:
        assert prefixes_of(request(system=(TextBlock("word " * 380),))) == ()
        found = prefixes_of(request(files=[CONTEXT]))
        assert [prefix.block for prefix in found] == [0, 1, 2]
        assert prefixes_of(request(files=[CONTEXT], model="claude-haiku-4-5")) == ()

    def test_keys_are_equal_as_far_as_prompts_are(self) -> None:
        one = prefix_keys(request("One", files=[CONTEXT, "a"]))
        other = prefix_keys(request("Two", files=[CONTEXT, "b"]))
        assert one[:2] == other[:2]
        assert not set(one[2:]) & set(other)

    @pytest.mark.parametrize(
        "change",
        [{"model": "claude-opus-4-8"}, {"effort": "low"}, {"output_schema": "{}"}, {"api_version": "2023-06-01"}],
    )  # fmt: skip
    def test_what_stands_before_the_prompt_is_in_the_keys(self, change: dict[str, Any]) -> None:
        plain = request(files=[CONTEXT])
        assert not set(prefix_keys(plain)) & set(prefix_keys(request(files=[CONTEXT], **change)))

    def test_text_that_moves_to_another_block_is_another_beginning(self) -> None:
        one, other = request(files=[CONTEXT + "a"]), request(files=[CONTEXT, "a"])
        assert prefix_keys(one)[1] not in prefix_keys(other)

    def test_marks_stand_behind_their_blocks_and_change_no_text(self) -> None:
        plain = request(files=[CONTEXT])
        marked = with_marks(plain, {0: "1h", 1: "5m"})
        assert marked.system == (TextBlock(DEFINITION, "1h"),)
        assert marked.messages[0].content == (TextBlock(CONTEXT, "5m"), TextBlock("Go."))
        assert prefix_keys(marked) == prefix_keys(plain)


class TestMarks:
    def test_nobody_reads_it_so_nothing_is_marked(self) -> None:
        assert marks(outlook(0, 5000), outlook(1, 9000)) == {}

    def test_longest_shared_prefix_alone_is_marked_where_all_readers_go_on(self) -> None:
        shared = (outlook(0, 1000, readers=9), outlook(1, 7000, readers=9))
        assert marks(*shared, outlook(2, 8000)) == {1: "5m"}

    def test_readers_that_part_get_a_mark_where_they_do(self) -> None:
        assert marks(outlook(0, 1000, readers=9), outlook(1, 7000, readers=3)) == {
            0: "5m",
            1: "5m",
        }

    def test_what_can_be_read_is_marked_even_for_the_last_reader(self) -> None:
        assert marks(outlook(0, 1000, warm="5m"), outlook(1, 7000)) == {0: "5m"}

    def test_least_missed_mark_is_left_out_of_five(self) -> None:
        steps = [(1000, 60), (6000, 50), (6100, 40), (12_000, 30), (18_000, 20)]
        found = marks(*(outlook(at, t, readers=n) for at, (t, n) in enumerate(steps)))
        assert sorted(found) == [0, 1, 3, 4]

    def test_an_hour_never_comes_after_five_minutes(self) -> None:
        often = outlook(0, 1000, readers=9, gaps=(60, 0, 0))
        seldom = outlook(1, 9000, gaps=(0, 8, 0))
        assert marks(often, seldom) == {0: "1h", 1: "1h"}

    @given(
        st.lists(
            st.tuples(
                st.integers(1, 5000),
                st.integers(0, 40),
                st.sampled_from([None, None, "5m", "1h"]),
                st.tuples(st.integers(0, 64), st.integers(0, 64), st.integers(0, 64)),
            ),
            max_size=30,
        ),
        st.booleans(),
    )
    def test_four_marks_at_most_in_the_order_that_the_api_takes(
        self, blocks: list[Any], one_hour: bool
    ) -> None:
        tokens, outlooks = 0, []
        for block, (size, readers, warm, gaps) in enumerate(blocks):
            tokens += size
            outlooks.append(outlook(block, tokens, readers=readers, warm=warm, gaps=gaps))
        plan = plan_marks(outlooks, USUAL_RATES, one_hour=one_hour)
        lifetimes = [plan.marks[block] for block in sorted(plan.marks)]
        assert len(lifetimes) <= 4
        assert lifetimes == sorted(lifetimes)
        assert {write.prefix.block for write in plan.written} <= set(plan.marks)
        assert all(write.warm is None for write in plan.written)


class TestLifetime:
    @pytest.mark.parametrize(
        ("readers", "gaps", "expected"),
        [
            (0, (0, 0, 0), None),
            (1, (0, 0, 0), "5m"),
            (49, (0, 0, 0), "5m"),
            # Asked again within five minutes, once.
            (0, (1, 0, 0), "5m"),
            (0, (0, 0, 3), None),
            (0, (1, 0, 3), None),
            # Every ten minutes: one such gap might be chance.
            (0, (0, 1, 0), None),
            (0, (0, 2, 0), "1h"),
            (0, (0, 2, 1), None),
            # Bursts that come back within the hour.
            (49, (60, 2, 0), "1h"),
            (49, (60, 2, 6), "5m"),
        ],
    )
    def test_hour_is_paid_for_only_where_measured_gaps_make_it_cheaper(
        self, readers: int, gaps: tuple[int, int, int], expected: str | None
    ) -> None:
        found = outlook(0, 9000, readers=readers, gaps=gaps)
        assert found.best_lifetime(USUAL_RATES, one_hour=True) == expected
        without = found.best_lifetime(USUAL_RATES, one_hour=False)
        assert without in {None, "5m"}

    def test_gaps_are_counted_by_the_lifetime_that_would_have_lasted(self) -> None:
        gaps = GapCounts()
        for seconds in (0.0, 299.9, 300.0, 3599.0, 3600.0):
            gaps = gaps.after(seconds)
        assert gaps == GapCounts(2, 2, 1)

    def test_old_habits_fade(self) -> None:
        gaps = GapCounts()
        for _ in range(1000):
            gaps = gaps.after(1.0)
        assert gaps.within_5m <= 64

    def test_rates_are_shares_of_the_price_of_input(self) -> None:
        sonnet = PriceCatalogue().tariff("claude-sonnet-5-5", at=datetime(2026, 11, 20, tzinfo=UTC))
        assert rates_of(sonnet) == CacheRates(write_5m=1.25, write_1h=2.0, read=0.05)
        assert rates_of(None) == USUAL_RATES


# ---- on the simulator's books


def bill(gaps: Sequence[float], *, known: bool, planned: bool = True) -> float:
    """What calls of one prefix pay in all, in tokens of plain input, with these seconds between them.

    ``known``: each call knows how many will follow it with no gap of five minutes between them.
    """
    cache, history, now, total = PromptCache(), PrefixHistory(), 0.0, 0.0
    for number in range(len(gaps) + 1):
        asked = request(f"Question {number}", files=[CONTEXT])
        prefixes = prefixes_of(asked)
        records = history.asked(prefixes, now)
        following = _following(gaps[number:]) if known else 0
        plan = plan_marks(
            [
                Outlook(
                    prefix=prefix,
                    warm=record.warm(now),
                    readers=following if prefix.block < 2 else 0,
                    gaps=GapCounts() if known else record.telling_gaps,
                )
                for prefix, record in zip(prefixes, records, strict=True)
            ],
            USUAL_RATES,
            one_hour=True,
        )
        sent = with_marks(asked, plan.marks) if planned else asked
        use = cache.look_up(read_prompt(request_body(sent)), organisation="o", now=now)
        cache.accept(use)
        cache.begin(use)
        history.kept(prefixes, plan.marks, since=now, rates=USUAL_RATES)
        usage = use.usage
        total += (
            usage.input_tokens * PRICES["input"]
            + usage.cache_write_5m_tokens * PRICES["5m"]
            + usage.cache_write_1h_tokens * PRICES["1h"]
            + usage.cache_read_tokens * PRICES["read"]
        )
        now += gaps[number] if number < len(gaps) else 0.0
    return total


def _following(gaps: Sequence[float]) -> int:
    for number, gap in enumerate(gaps):
        if gap >= 5 * MINUTE:
            return number
    return len(gaps)


PREFIX_TOKENS = prefixes_of(request(files=[CONTEXT]))[1].tokens
GAPS = st.lists(
    st.one_of(st.floats(0, 299), st.floats(301, 3599), st.floats(3601, 90_000)), max_size=40
)


@given(GAPS)
@settings(max_examples=200)
def test_with_known_gaps_it_is_never_dearer_than_no_planner(gaps: list[float]) -> None:
    planned, plain = bill(gaps, known=True), bill(gaps, known=True, planned=False)
    assert planned <= plain + 1e-6
    if any(gap < 5 * MINUTE for gap in gaps):
        assert planned < plain


@given(GAPS)
@settings(max_examples=300)
def test_with_measured_gaps_it_never_loses_more_than_two_prefixes(gaps: list[float]) -> None:
    lost = bill(gaps, known=False) - bill(gaps, known=False, planned=False)
    assert lost <= 2 * PREFIX_TOKENS


@pytest.mark.parametrize(
    ("gap_seconds", "calls", "at_most"),
    [
        # One plain call, one write, the rest reads.
        (MINUTE, 40, 0.16),
        # Two measured gaps, one write for an hour, the rest reads.
        (10 * MINUTE, 40, 0.22),
        # No lifetime lasts.
        (2 * 60 * MINUTE, 40, 1.0),
    ],
)
def test_regular_calls_come_to_a_share_of_the_plain_price(
    gap_seconds: float, calls: int, at_most: float
) -> None:
    gaps = [gap_seconds] * (calls - 1)
    share = bill(gaps, known=False) / bill(gaps, known=False, planned=False)
    assert share <= at_most
