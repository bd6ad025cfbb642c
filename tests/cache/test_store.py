"""The tiers as one store."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from blockbuster import blockbuster_ctx

from claude_force.cache.answers import entry_of, response_of, shared_response
from claude_force.cache.fingerprint import request_fields, request_key
from claude_force.cache.policy import Freshness, Lifetimes
from claude_force.cache.store import CacheStore, Verification, open_store
from claude_force.cache.why import FieldChange
from claude_force.domain.errors import InputError
from claude_force.domain.messages import (
    CacheHit,
    CallContext,
    Message,
    MessageRequest,
    MessageResponse,
    TextBlock,
)
from claude_force.domain.usage import Usage

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.cache.entries import CacheEntry

ORIGIN = "https://api.anthropic.com"
REQUEST = MessageRequest(
    model="claude-sonnet-5-5",
    system=(TextBlock("You write."),),
    messages=(Message("user", (TextBlock("Say hello"),)),),
    max_tokens=4096,
    context=CallContext(agent_name="writer"),
)
RESPONSE = MessageResponse(
    message_id="msg_1",
    model="claude-sonnet-5-5-20261001",
    text="Hello — grüß dich.",
    stop_reason="end_turn",
    usage=Usage(input_tokens=10, cache_write_1h_tokens=3, cache_read_tokens=4, output_tokens=5),
    request_id="req_1",
    attempts=2,
    cost_usd=Decimal("0.0123"),
)
KEY = request_key(REQUEST, ORIGIN)


SECRET = "shared by both machines"


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def _store(folder: Path, clock: Clock, *, secret: str = SECRET, **lifetimes: float) -> CacheStore:
    return open_store(
        folder,
        lifetimes=Lifetimes(**{"ttl_seconds": 100.0, **lifetimes}),
        max_bytes=4_000_000,
        secret=secret,
        wall_clock=clock,
    )


def _entry(request: MessageRequest = REQUEST, created_at: float = 1000.0) -> CacheEntry:
    return entry_of(
        RESPONSE, request, key=request_key(request, ORIGIN), origin=ORIGIN, created_at=created_at
    )


def test_an_answer_comes_back_whole_and_marked_as_cached(tmp_path: Path) -> None:
    clock = Clock()
    with closing(_store(tmp_path, clock)) as store:
        store.put(_entry())
    clock.now += 40
    with closing(_store(tmp_path, clock)) as store:
        from_disk, from_memory = store.lookup(KEY), store.lookup(KEY)
        assert from_disk is not None
        assert from_memory is not None
        assert response_of(from_disk) == replace(
            RESPONSE,
            attempts=0,
            cost_usd=Decimal(0),
            cached=CacheHit("disk", 40.0, saved_usd=Decimal("0.0123")),
        )
        assert from_memory.tier == "memory"
        assert from_memory.entry.cost_usd == "0.0123"
        assert from_memory.entry.agent_name == "writer"


@pytest.mark.parametrize("change", [{"body": b"not an answer"}, {"cost_usd": "a lot"}])
def test_an_entry_that_is_no_answer_gives_none(tmp_path: Path, change: dict[str, object]) -> None:
    with closing(_store(tmp_path, Clock())) as store:
        store.put(msgspec.structs.replace(_entry(), **change))
        found = store.lookup(KEY)
        assert found is not None
        assert response_of(found) is None


def test_a_waiter_of_a_flight_pays_nothing() -> None:
    shared = shared_response(RESPONSE)
    assert shared.text == RESPONSE.text
    assert shared.cost_usd == 0
    assert shared.cached == CacheHit("memory", 0.0, saved_usd=Decimal("0.0123"))


def test_life_ends_in_memory_and_on_disk(tmp_path: Path) -> None:
    clock = Clock()
    with closing(_store(tmp_path, clock)) as store:
        store.put(_entry())
        clock.now = 1099.9
        assert store.lookup(KEY) is not None
        clock.now = 1100.0
        assert store.lookup_memory(KEY) is None
        assert store.lookup(KEY) is None


def test_stale_windows_are_said(tmp_path: Path) -> None:
    clock = Clock()
    with closing(
        _store(tmp_path, clock, stale_while_revalidate_seconds=10, stale_if_error_seconds=50)
    ) as store:
        store.put(_entry())
        seen = []
        for age in (0, 105, 120, 151):
            clock.now = 1000.0 + age
            found = store.lookup(KEY)
            seen.append(None if found is None else (found.freshness, found.stale))
        assert seen == [
            (Freshness.FRESH, False),
            (Freshness.REVALIDATE, True),
            (Freshness.IF_ERROR, True),
            None,
        ]


def test_a_callers_maximum_age_hides_an_entry_from_that_caller_only(tmp_path: Path) -> None:
    clock = Clock()
    with closing(_store(tmp_path, clock)) as store:
        store.put(_entry())
        clock.now += 50
        assert store.lookup(KEY, max_age_seconds=30) is None
        assert store.lookup_memory(KEY) is not None


def test_a_clock_that_was_set_back_gives_age_zero(tmp_path: Path) -> None:
    clock = Clock()
    with closing(_store(tmp_path, clock)) as store:
        store.put(_entry())
        clock.now -= 500
        found = store.lookup(KEY)
        assert found is not None
        assert found.age_seconds == 0.0


def test_the_event_loop_is_never_blocked(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Clock()
        store = _store(tmp_path, clock)
        settled = asyncio.Event()
        loop = asyncio.get_running_loop()
        assert await store.lookup_async(KEY) is None
        store.put(_entry(), lambda: loop.call_soon_threadsafe(settled.set))
        await asyncio.wait_for(settled.wait(), 20)
        assert store.lookup_memory(KEY) is not None
        other = _store(tmp_path, clock)
        found = await other.lookup_async(KEY)
        assert found is not None
        assert found.tier == "disk"
        await other.aclose()
        await store.aclose()

    with blockbuster_ctx():
        asyncio.run(main())


def test_why_names_the_field_that_differs_from_the_nearest_entry(tmp_path: Path) -> None:
    with closing(_store(tmp_path, Clock())) as store:
        store.put(_entry())
        store.put(_entry(replace(REQUEST, model="claude-opus-5-5", max_tokens=1)))
        now = replace(REQUEST, max_tokens=8192)
        explanation = store.why(request_fields(now, ORIGIN))
        assert explanation is not None
        assert explanation.entry.key == KEY
        assert explanation.changes == (FieldChange("max_tokens", "4096", "8192"),)


def test_why_can_leave_out_the_request_itself_and_knows_an_empty_cache(tmp_path: Path) -> None:
    with closing(_store(tmp_path, Clock())) as store:
        fields = request_fields(REQUEST, ORIGIN)
        assert store.why(fields) is None
        store.put(_entry())
        same = store.why(fields)
        assert same is not None
        assert same.changes == ()
        assert store.why(fields, except_key=KEY) is None


def test_verify_counts_valid_and_invalid_records(tmp_path: Path) -> None:
    with closing(_store(tmp_path, Clock())) as store:
        store.put(_entry())
    with closing(_store(tmp_path, Clock(), secret="other")) as stranger:
        stranger.put(_entry(replace(REQUEST, max_tokens=1)))
        assert stranger.verify() == Verification(valid=1, invalid=1)


def test_clear_reaches_memory_and_disk(tmp_path: Path) -> None:
    clock = Clock()
    with closing(_store(tmp_path, clock)) as store:
        store.put(_entry())
        store.put(_entry(replace(REQUEST, max_tokens=1), created_at=1060.0))
        clock.now = 1070.0
        assert store.clear(older_than_seconds=30) == 1
        assert store.lookup(KEY) is None
        assert store.clear(agent_name="nobody") == 0
        assert store.clear(agent_name="writer") == 1
        assert [tier.entries for tier in store.stats()] == [0, 0]


def test_entries_travel_to_another_machine_with_the_same_secret(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    with closing(_store(tmp_path / "here", Clock())) as store:
        store.put(_entry())
        assert store.export_to(file) == 1
        with pytest.raises(InputError, match="name a new file"):
            store.export_to(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with closing(_store(tmp_path / "there", Clock())) as store:
        assert store.import_from(file) == (1, 0)
        found = store.lookup(KEY)
        assert found is not None
        assert found.entry == _entry()
    with closing(_store(tmp_path / "elsewhere", Clock(), secret="other")) as store:
        assert store.import_from(file) == (0, 1)
        assert store.lookup(KEY) is None


def test_damaged_lines_are_refused_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    with closing(_store(tmp_path / "here", Clock())) as store:
        store.put(_entry())
        store.export_to(file)
    good = file.read_text()
    line = json.loads(good)
    # What stands beside the record is not read.
    friendly = json.dumps({**line, "agent_name": "someone", "created_at": 5e9})
    broken = json.dumps({**line, "record": line["record"][:-8] + "AAAAAAA="})
    file.write_text(f"{friendly}\n{broken}\nnot json\n{{}}\n")
    with closing(_store(tmp_path / "there", Clock())) as store:
        assert store.import_from(file) == (1, 3)
        found = store.lookup(KEY)
        assert found is not None
        assert found.entry == _entry()


def test_importing_what_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with (
        closing(_store(tmp_path, Clock())) as store,
        pytest.raises(InputError, match="cannot read"),
    ):
        store.import_from(tmp_path / "nothing")


def test_a_younger_entry_is_not_replaced_by_an_imported_one(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    with closing(_store(tmp_path / "here", Clock())) as store:
        store.put(_entry(created_at=1000.0))
        store.export_to(file)
    with closing(_store(tmp_path / "there", Clock())) as store:
        store.put(_entry(created_at=1010.0))
        store.import_from(file)
        found = store.lookup(KEY)
        assert found is not None
        assert found.entry.created_at == 1010.0
