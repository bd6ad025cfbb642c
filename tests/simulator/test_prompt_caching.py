from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_force.domain.tokens import estimate_tokens
from claude_force.simulator import SimulatorThread
from claude_force.simulator.prompt_cache import PromptCache
from claude_force.simulator.prompts import read_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.conftest import Client, Clock


MODEL = "claude-opus-5"  # caches from 512 tokens
LONG = "word " * 1000
LONG_TOKENS = estimate_tokens(LONG)


@pytest.fixture
def sim(clock: Clock) -> Iterator[SimulatorThread]:
    with SimulatorThread(monotonic=clock) as running:
        yield running


def system(text: str = LONG, ttl: str | None = None) -> Any:
    control = {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}
    return [{"type": "text", "text": text, "cache_control": control}]


def use(client: Client, sim: SimulatorThread, **changes: Any) -> Any:
    """(uncached, written 5m, written 1h, read) of one request."""
    body = client.body("Go.", **{"model": MODEL, "system": system(), **changes})
    key = body.pop("key", "k")
    usage = client.call(sim, body, headers={"x-api-key": key}).json["usage"]
    split = usage["cache_creation"]
    five, hour = split["ephemeral_5m_input_tokens"], split["ephemeral_1h_input_tokens"]
    assert usage["cache_creation_input_tokens"] == five + hour
    return usage["input_tokens"], five, hour, usage["cache_read_input_tokens"]


def test_first_request_writes_and_the_second_reads(sim: SimulatorThread, client: Client) -> None:
    assert use(client, sim) == (1, LONG_TOKENS, 0, 0)
    assert use(client, sim) == (1, 0, 0, LONG_TOKENS)


def test_prefix_below_the_minimum_is_not_cached_silently(
    sim: SimulatorThread, client: Client
) -> None:
    short = system("x" * int(511 * 3.8))
    assert use(client, sim, system=short) == (512, 0, 0, 0)
    assert use(client, sim, system=short) == (512, 0, 0, 0)


def test_other_keys_and_models_have_their_own_cache(sim: SimulatorThread, client: Client) -> None:
    use(client, sim)
    assert use(client, sim, key="other") == (1, LONG_TOKENS, 0, 0)
    assert use(client, sim, model="claude-fable-5-2") == (1, LONG_TOKENS, 0, 0)


def test_entry_lives_five_minutes_and_a_read_renews_it(
    sim: SimulatorThread, client: Client, clock: Clock
) -> None:
    use(client, sim)
    clock.now += 299
    assert use(client, sim)[3] == LONG_TOKENS
    clock.now += 299
    assert use(client, sim)[3] == LONG_TOKENS
    clock.now += 300
    assert use(client, sim) == (1, LONG_TOKENS, 0, 0)


def test_one_hour_entry_lives_an_hour(sim: SimulatorThread, client: Client, clock: Clock) -> None:
    assert use(client, sim, system=system(ttl="1h")) == (1, 0, LONG_TOKENS, 0)
    clock.now += 3599
    assert use(client, sim, system=system(ttl="1h"))[3] == LONG_TOKENS


def test_longest_prefix_is_read_and_only_the_rest_is_written(
    sim: SimulatorThread, client: Client
) -> None:
    use(client, sim)
    blocks = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    assert use(client, sim, messages=[{"role": "user", "content": blocks}]) == (
        0,
        LONG_TOKENS,
        0,
        LONG_TOKENS,
    )


def test_grown_conversation_finds_what_an_earlier_turn_wrote(
    sim: SimulatorThread, client: Client
) -> None:
    marked = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}
    plain = {"type": "text", "text": LONG}
    first = [{"role": "user", "content": [marked]}]
    assert use(client, sim, system="s", messages=first)[1] == LONG_TOKENS + 1
    longer = [
        {"role": "user", "content": [plain]},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [marked]},
    ]
    assert use(client, sim, system="s", messages=longer) == (
        0,
        LONG_TOKENS + 1,
        0,
        LONG_TOKENS + 1,
    )


def test_both_lifetimes_in_one_request_are_split(sim: SimulatorThread, client: Client) -> None:
    blocks = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    got = use(client, sim, system=system(ttl="1h"), messages=[{"role": "user", "content": blocks}])
    assert got == (0, LONG_TOKENS, LONG_TOKENS, 0)


def test_top_level_cache_control_marks_the_last_block(sim: SimulatorThread, client: Client) -> None:
    changes = {"system": LONG, "cache_control": {"type": "ephemeral"}}
    assert use(client, sim, **changes) == (0, LONG_TOKENS + 1, 0, 0)
    assert use(client, sim, **changes) == (0, 0, 0, LONG_TOKENS + 1)


def test_request_sent_before_the_first_answer_began_pays_for_the_write_too() -> None:
    cache = PromptCache()
    prompt = prompt_of(LONG)
    first = cache.look_up(prompt, organisation="o", now=0.0)
    second = cache.look_up(prompt, organisation="o", now=0.0)
    assert second.usage.cache_write_5m_tokens == first.usage.cache_write_5m_tokens == LONG_TOKENS
    cache.begin(first)
    assert cache.look_up(prompt, organisation="o", now=0.0).usage.cache_read_tokens == LONG_TOKENS


def test_lifetime_counts_from_the_start_of_the_request_not_of_the_answer() -> None:
    cache = PromptCache()
    prompt = prompt_of(LONG)
    slow = cache.look_up(prompt, organisation="o", now=0.0)
    cache.begin(slow)
    assert cache.look_up(prompt, organisation="o", now=300.0).usage.cache_read_tokens == 0


def test_request_that_was_refused_renews_nothing() -> None:
    cache = PromptCache()
    prompt = prompt_of(LONG)
    cache.begin(cache.look_up(prompt, organisation="o", now=0.0))
    refused = cache.look_up(prompt, organisation="o", now=200.0)
    assert refused.usage.cache_read_tokens == LONG_TOKENS
    assert cache.look_up(prompt, organisation="o", now=300.0).usage.cache_read_tokens == 0


def test_read_renews_from_the_start_of_its_request() -> None:
    cache = PromptCache()
    prompt = prompt_of(LONG)
    cache.begin(cache.look_up(prompt, organisation="o", now=0.0))
    cache.accept(cache.look_up(prompt, organisation="o", now=200.0))
    assert cache.look_up(prompt, organisation="o", now=499.0).usage.cache_read_tokens == LONG_TOKENS
    assert cache.look_up(prompt, organisation="o", now=500.0).usage.cache_read_tokens == 0


def test_marks_change_the_price_and_not_the_answer(sim: SimulatorThread, client: Client) -> None:
    marked = client.body("Go.", model=MODEL, system=system())
    plain = client.body("Go.", model=MODEL, system=[{"type": "text", "text": LONG}])
    one, other = (client.call(sim, body).json for body in (marked, plain))
    assert one["content"] == other["content"]
    assert list(sim.stats.requests_by_fingerprint.values()) == [2]


def prompt_of(text: str) -> Any:
    return read_prompt(
        {
            "model": MODEL,
            "max_tokens": 1,
            "system": system(text),
            "messages": [{"role": "user", "content": "x"}],
        }
    )


@given(
    turns=st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, "5m"])), min_size=1, max_size=4),
        min_size=1,
        max_size=5,
    ),
    gap=st.floats(0, 400),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_read_written_and_uncached_always_add_up_to_the_prompt(turns: Any, gap: Any) -> None:
    cache = PromptCache()
    for number, turn in enumerate(turns):
        content = [
            {"type": "text", "text": LONG + text}
            | ({"cache_control": {"type": "ephemeral"}} if ttl else {})
            for text, ttl in turn
        ]
        body = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
        prompt = read_prompt(body)
        use = cache.look_up(prompt, organisation="o", now=gap * number)
        assert use.usage.total_input_tokens == prompt.total_tokens
        assert min(use.usage.input_tokens, use.usage.cache_read_tokens) >= 0
        cache.accept(use)
        cache.begin(use)
        again = cache.look_up(prompt, organisation="o", now=gap * number)
        assert again.usage.cache_write_tokens == 0
