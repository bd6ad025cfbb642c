"""Roll-ups say what the rows say."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from claude_force.metrics.retention import oldest_kept, sweep, sweep_if_due
from claude_force.metrics.schema import SCHEMA
from claude_force.storage.database import open_database
from claude_force.storage.query_cache import QueryCache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.metrics.conftest import MakeLoad, MakeRow, OpenReader

    from claude_force.metrics.queries import Totals
    from claude_force.metrics.rows import CallRow

NOW = 1_795_435_200.0
DAY = 86_400


def assert_says(totals: Totals, rows: Sequence[CallRow]) -> None:
    """The totals are those of exactly these rows."""
    assert totals.calls == len(rows)
    assert totals.failures == sum(not row.ok for row in rows)
    assert totals.cached == sum(row.cached_tier is not None for row in rows)
    assert totals.retries == sum(row.attempts - 1 for row in rows)
    assert totals.input_tokens == sum(row.input_tokens for row in rows)
    assert totals.output_tokens == sum(row.output_tokens for row in rows)
    assert totals.cache_read_tokens == sum(row.cache_read_tokens for row in rows)
    assert totals.cache_write_tokens == sum(row.cache_write_tokens for row in rows)
    assert totals.cost_usd == sum((row.cost_usd or Decimal(0) for row in rows), Decimal(0))
    assert totals.unpriced == sum(row.cost_usd is None for row in rows)
    assert totals.saved_usd == sum((row.saved_usd or Decimal(0) for row in rows), Decimal(0))
    took = sorted(row.seconds for row in rows if row.answered_by_api)
    for share, found in ((0.5, totals.p50_seconds), (0.95, totals.p95_seconds)):
        if not took:
            assert found is None
        else:
            assert found is not None
            assert math.isclose(found, took[math.ceil(share * len(took)) - 1], rel_tol=0.0101)


@pytest.mark.parametrize("since", [None, 20 * DAY, 7 * DAY, 1.3 * DAY, 5 * 3600, 1800, 60])
def test_summary_of_any_time_is_that_of_its_rows(
    since: float | None,
    fill: Callable[[list[CallRow]], None],
    open_reader: OpenReader,
    make_load: MakeLoad,
) -> None:
    now = NOW + 1234.5
    rows = make_load(3000, days=25, now=now) + make_load(300, days=0.05, seed=2, now=now)
    fill(rows)
    answer = open_reader(now).summary(since)
    began = 0.0 if answer.since is None else answer.since.timestamp()
    assert since is None or now - since - 3600 < began <= now - since
    assert_says(
        answer.value.totals, [row for row in rows if int(row.ended_at * 1000) >= began * 1000]
    )


def test_groups_are_those_of_the_rows(
    fill: Callable[[list[CallRow]], None], open_reader: OpenReader, make_load: MakeLoad
) -> None:
    rows = make_load(2000, days=4)
    fill(rows)
    by_key: defaultdict[tuple[object, ...], list[CallRow]] = defaultdict(list)
    for row in rows:
        hour = datetime.fromtimestamp(int(row.ended_at * 1000) // 3_600_000 * 3600, UTC)
        by_key[hour, row.agent_name].append(row)
    groups = open_reader().grouped(("hour", "agent"), 10 * DAY).value
    assert len(groups) == len(by_key)
    for group in groups:
        assert_says(group.totals, by_key[group.start, group.agent])


def test_one_agent_is_only_its_calls(
    fill: Callable[[list[CallRow]], None], open_reader: OpenReader, make_load: MakeLoad
) -> None:
    rows = make_load(500, days=3)
    fill(rows)
    own = [row for row in rows if row.agent_name == "writer"]
    reader = open_reader()
    assert_says(reader.summary(None, agent="writer").value.totals, own)
    assert reader.summary(None, agent="nobody").value.totals.calls == 0


def test_dollars_are_exact_and_an_unknown_price_stays_unknown(
    fill: Callable[[list[CallRow]], None], open_reader: OpenReader, make_row: MakeRow
) -> None:
    # A tenth of a nanodollar a call, a thousand times: a float would be off.
    fill([make_row(cost_usd=Decimal("0.0000000001"))] * 1000 + [make_row(cost_usd=None)])
    totals = open_reader().summary().value.totals
    assert totals.cost_usd == Decimal("0.0000001")
    assert totals.unpriced == 1


def test_rows_come_back_as_they_were_written(
    fill: Callable[[list[CallRow]], None], open_reader: OpenReader, make_load: MakeLoad
) -> None:
    rows = sorted(make_load(2500, days=2), key=lambda row: row.ended_at)
    fill(rows)
    found = list(open_reader().rows(10 * DAY))
    assert [row.call_id for row in found] == [row.call_id for row in rows]
    assert found[7] == rows[7]._replace(ended_at=int(rows[7].ended_at * 1000) / 1000)


def test_slowest_and_last_failures(
    fill: Callable[[list[CallRow]], None], open_reader: OpenReader, make_load: MakeLoad
) -> None:
    rows = make_load(800, days=3)
    fill(rows)
    reader = open_reader()
    slow = sorted(rows, key=lambda row: -row.seconds)[:5]
    assert [row.call_id for row in reader.slowest(limit=5).value] == [row.call_id for row in slow]
    failed = sorted((row for row in rows if not row.ok), key=lambda row: -row.ended_at)
    found = reader.failures(limit=3).value
    assert [row.call_id for row in found] == [row.call_id for row in failed[:3]]
    counts = reader.failure_counts().value
    assert sum(count.calls for count in counts) == len(failed)
    assert {count.error_kind for count in counts} == {"timeout"}


def test_looking_where_nothing_was_recorded_makes_nothing(
    store_path: Path, open_reader: OpenReader
) -> None:
    reader = open_reader()
    assert reader.summary().value.totals.calls == 0
    assert reader.grouped(("agent",)).value == ()
    assert list(reader.rows()) == []
    assert reader.slowest().value == ()
    assert not store_path.parent.exists()


class TestRetention:
    def test_sweep_keeps_the_sums_and_makes_the_file_80_percent_smaller(
        self,
        store_path: Path,
        fill: Callable[[list[CallRow]], None],
        open_reader: OpenReader,
        make_load: MakeLoad,
    ) -> None:
        now = NOW + 60 * DAY
        rows = make_load(20_000, days=20)
        fill(rows)
        before = store_path.stat().st_size
        reader = open_reader(now)
        totals = reader.summary().value.totals
        with closing(open_database(store_path, SCHEMA)) as connection:
            sweep(connection, oldest_kept(now, 30))
        after = store_path.stat().st_size
        assert after <= 0.2 * before, f"{before:,} bytes became {after:,}"
        assert reader.summary().value.totals == totals
        assert_says(totals, rows)
        assert list(reader.rows()) == []
        by_day = reader.grouped(("day", "agent", "model", "workflow")).value
        assert sum(group.totals.calls for group in by_day) == 20_000

    def test_only_what_is_past_its_days_is_removed_and_older_times_begin_with_a_day(
        self,
        store_path: Path,
        fill: Callable[[list[CallRow]], None],
        open_reader: OpenReader,
        make_load: MakeLoad,
    ) -> None:
        rows = make_load(4000, days=40)
        fill(rows)
        with closing(open_database(store_path, SCHEMA)) as connection:
            assert sweep_if_due(connection, now=NOW, retention_days=30)
            assert not sweep_if_due(connection, now=NOW, retention_days=30)
            assert sweep_if_due(connection, now=NOW + DAY, retention_days=30)
        kept_from = oldest_kept(NOW + DAY, 30)
        reader = open_reader()
        kept = {row.call_id for row in reader.rows()}
        assert kept == {row.call_id for row in rows if row.ended_at >= kept_from}
        assert_says(reader.summary().value.totals, rows)
        began = (NOW - 35 * DAY) // DAY * DAY
        older = [row for row in rows if row.ended_at >= began]
        assert_says(reader.summary(35 * DAY).value.totals, older)


class TestQueryCache:
    def test_same_question_is_a_hit_until_somebody_writes(
        self,
        fill: Callable[[list[CallRow]], None],
        open_reader: OpenReader,
        make_row: MakeRow,
    ) -> None:
        fill([make_row()])
        reader = open_reader()
        first, second = reader.summary(), reader.summary()
        assert (first.explanation.hit, second.explanation.hit) == (False, True)
        assert second.value == first.value
        fill([make_row()])
        third = reader.summary()
        assert not third.explanation.hit
        assert third.explanation.version != first.explanation.version
        assert third.value.totals.calls == 2

    def test_another_question_is_no_hit(
        self,
        fill: Callable[[list[CallRow]], None],
        open_reader: OpenReader,
        make_row: MakeRow,
    ) -> None:
        fill([make_row()])
        reader = open_reader()
        reader.summary(DAY)
        assert not reader.summary(2 * DAY).explanation.hit
        assert not reader.summary(DAY, agent="writer").explanation.hit
        assert not reader.grouped(("agent",), DAY).explanation.hit
        assert reader.summary(DAY).explanation.hit

    def test_the_129th_result_drops_the_one_used_least_recently(self) -> None:
        cache: QueryCache[int] = QueryCache()
        for number in range(128):
            cache.put(number, 1, number)
        assert cache.get(0, 1) == 0
        cache.put(128, 1, 128)
        assert cache.get(1, 1) is None
        assert cache.get(0, 1) == 0
        assert len(cache) == 128

    def test_a_result_of_an_older_version_is_never_found(self) -> None:
        cache: QueryCache[str] = QueryCache()
        cache.put("q", 1, "old")
        assert cache.get("q", 2) is None
        cache.put("other", 2, "new")
        assert cache.get("q", 1) is None

    def test_threads_may_ask_at_the_same_time(
        self,
        fill: Callable[[list[CallRow]], None],
        open_reader: OpenReader,
        make_load: MakeLoad,
    ) -> None:
        fill(make_load(500, days=3))
        reader = open_reader()
        found: list[list[int]] = []

        def ask() -> None:
            found.append([reader.summary(days * DAY).value.totals.calls for days in range(1, 20)])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [found[0]] * 4
        assert found[0][-1] == 500
