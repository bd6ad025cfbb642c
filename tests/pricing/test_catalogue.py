"""Prices: the figures of the published price list, and equality with the package they come from."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as Tokens
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st

from claude_force.domain.models import known_model_ids
from claude_force.domain.usage import Usage
from claude_force.pricing.catalogue import PriceCatalogue

NOVEMBER = datetime(2026, 11, 22, tzinfo=UTC)
MILLION = 1_000_000

# input, write for 5 minutes, write for 1 hour, read, output: dollars a million tokens, below any tier.
PUBLISHED = {
    "claude-fable-5-2": ("8", "10", "16", "0.2", "40"),
    "claude-opus-5-5": ("4", "5", "8", "0.2", "20"),
    "claude-opus-5": ("5", "6.25", "10", "0.5", "25"),
    "claude-sonnet-5-5": ("2", "2.5", "4", "0.1", "10"),
    "claude-sonnet-5": ("2", "2.5", "4", "0.2", "10"),
    "claude-sonnet-4-6": ("3", "3.75", "6", "0.3", "15"),
    "claude-haiku-4-5": ("1", "1.25", "2", "0.1", "5"),
}


def cost(model: str, *usages: Usage, at: datetime = NOVEMBER) -> Decimal | None:
    return asyncio.run(PriceCatalogue().cost_usd(model, usages, at=at))


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_prices_hold_for_every_kind_of_token(model: str) -> None:
    plain, written_5m, written_1h, read, output = map(Decimal, PUBLISHED[model])
    assert cost(model, Usage(input_tokens=MILLION)) == plain
    assert cost(model, Usage(cache_write_5m_tokens=MILLION)) == written_5m
    assert cost(model, Usage(cache_write_1h_tokens=MILLION)) == written_1h
    assert cost(model, Usage(cache_read_tokens=MILLION)) == read
    assert cost(model, Usage(output_tokens=MILLION)) == output


def test_haiku_charges_the_whole_request_more_above_a_prompt_of_100k() -> None:
    at_the_edge = Usage(input_tokens=100_000, output_tokens=10_000)
    above = Usage(input_tokens=100_001, output_tokens=10_000)
    assert cost("claude-haiku-5-5", at_the_edge) == Decimal("0.015")
    assert cost("claude-haiku-5-5", above) == Decimal("0.0750005")


def test_a_tier_goes_by_the_size_of_one_request_not_of_their_sum() -> None:
    half = Usage(input_tokens=60_000)
    assert cost("claude-haiku-5-5", half, half) == Decimal("0.012")


def test_a_thousand_tokens_of_an_ordinary_answer_cost_what_the_list_says() -> None:
    # An earlier tool was wrong by a factor of 1000 here.
    usage = Usage(input_tokens=1_000, output_tokens=500)
    assert cost("claude-sonnet-5-5", usage) == Decimal("0.007")


def test_an_unknown_model_has_an_unknown_price_not_zero() -> None:
    assert cost("claude-unheard-of-9", Usage(input_tokens=5)) is None


def test_a_dated_snapshot_costs_what_its_model_costs() -> None:
    assert cost("claude-haiku-4-5-20251001", Usage(output_tokens=MILLION)) == Decimal(5)


tokens = st.integers(0, 400_000)
usages = st.builds(
    Usage,
    input_tokens=tokens,
    cache_write_5m_tokens=tokens,
    cache_write_1h_tokens=tokens,
    cache_read_tokens=tokens,
    output_tokens=tokens,
)


@given(model=st.sampled_from(known_model_ids()), usage=usages)
def test_a_tariff_equals_the_calculation_of_the_package(model: str, usage: Usage) -> None:
    try:
        reference = calc_price(
            Tokens(
                input_tokens=usage.total_input_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                cache_write_1h_tokens=usage.cache_write_1h_tokens,
                cache_read_tokens=usage.cache_read_tokens,
                output_tokens=usage.output_tokens,
            ),
            model_ref=model,
            provider_id="anthropic",
            genai_request_timestamp=NOVEMBER,
        ).total_price
    except LookupError:
        assert cost(model, usage) is None
    else:
        assert cost(model, usage) == reference
