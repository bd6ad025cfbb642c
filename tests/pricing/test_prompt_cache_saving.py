from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from claude_force.domain.messages import CacheHit
from claude_force.domain.results import AgentResult
from claude_force.domain.usage import Usage
from claude_force.pricing.catalogue import PriceCatalogue
from claude_force.pricing.prompt_cache_saving import PromptCacheSaving, saving_usd
from claude_force.pricing.tariff import Rate, Tariff

SONNET = Tariff(
    input=Rate(Decimal(2)),
    cache_write_5m=Rate(Decimal("2.5")),
    cache_write_1h=Rate(Decimal(4)),
    cache_read=Rate(Decimal("0.1")),
    output=Rate(Decimal(10)),
)
# The whole request costs five times as much above 100,000 tokens.
HAIKU = Tariff(
    input=Rate(Decimal("0.1"), ((100_000, Decimal("0.5")),)),
    cache_write_5m=Rate(Decimal("0.125"), ((100_000, Decimal("0.625")),)),
    cache_write_1h=Rate(Decimal("0.2"), ((100_000, Decimal(1)),)),
    cache_read=Rate(Decimal("0.01"), ((100_000, Decimal("0.05")),)),
    output=Rate(Decimal("0.5"), ((100_000, Decimal("2.5")),)),
)
TOKENS = st.integers(0, 10**6)
USAGES = st.builds(
    Usage,
    input_tokens=TOKENS,
    cache_write_5m_tokens=TOKENS,
    cache_write_1h_tokens=TOKENS,
    cache_read_tokens=TOKENS,
    output_tokens=TOKENS,
)


def result(usage: Usage, model: str = "sonnet", **fields: object) -> AgentResult:
    known = {"agent_name": "a", "text": "t", "stop_reason": "end_turn", "requested_model": model}
    return AgentResult(**(known | {"model": model, "usage": usage} | fields))  # type: ignore[arg-type] # by name


def test_read_saves_the_rest_of_the_price_and_a_write_costs_a_quarter_more() -> None:
    assert saving_usd(Usage(cache_read_tokens=6000), SONNET) == Decimal("0.0114")
    assert saving_usd(Usage(cache_write_5m_tokens=6000), SONNET) == Decimal("-0.003")
    assert saving_usd(Usage(cache_write_1h_tokens=6000), SONNET) == Decimal("-0.012")
    assert saving_usd(Usage(input_tokens=6000, output_tokens=9), SONNET) == 0


def test_tier_is_that_of_the_whole_prompt() -> None:
    assert saving_usd(Usage(cache_read_tokens=100_000), HAIKU) == Decimal("0.009")
    assert saving_usd(Usage(cache_read_tokens=100_001), HAIKU) == Decimal("0.04500045")


@given(USAGES)
def test_cost_and_saving_are_exactly_what_the_plain_request_costs(usage: Usage) -> None:
    plain = Usage(input_tokens=usage.total_input_tokens, output_tokens=usage.output_tokens)
    for tariff in (SONNET, HAIKU):
        assert tariff.cost_usd(usage) + saving_usd(usage, tariff) == tariff.cost_usd(plain)


def test_sum_has_failed_attempts_in_it_and_no_answers_of_the_response_cache() -> None:
    saving = PromptCacheSaving({"sonnet": SONNET}.get)
    read = Usage(cache_read_tokens=6000)
    saving.add([result(read, lost_usages=(Usage(cache_write_5m_tokens=6000),))])
    saving.add([result(read, cached=CacheHit("memory", 1.0))])
    assert saving.total_usd == Decimal("0.0084")


def test_unknown_price_makes_the_sum_unknown_and_matters_only_where_there_is_a_saving() -> None:
    saving = PromptCacheSaving({"sonnet": SONNET}.get)
    saving.add([result(Usage(input_tokens=5), "unheard-of"), result(Usage(cache_read_tokens=10))])
    assert saving.total_usd == Decimal("0.000019")
    saving.add([result(Usage(cache_read_tokens=5), "unheard-of")])
    assert saving.total_usd is None


def test_tariff_at_hand_takes_no_time_and_is_the_tariff_once_it_is_loaded() -> None:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    catalogue = PriceCatalogue()
    tariff = catalogue.tariff("claude-sonnet-5-5", at=at)
    assert tariff is not None
    assert tariff.cache_read.base * 20 == tariff.input.base
    assert catalogue.tariff_at_hand("claude-sonnet-5-5", at=at) is tariff
