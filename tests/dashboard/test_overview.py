"""The first page reads roll-ups once; what it adds up is what the store answers question by question."""

from __future__ import annotations

import random
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from tests.dashboard.conftest import row

from claude_force.dashboard import charts
from claude_force.dashboard.overview import SPANS, OverviewReader
from claude_force.metrics.browsing import CallBrowser
from claude_force.metrics.reader import MetricsReader
from claude_force.metrics.schema import SCHEMA
from claude_force.metrics.writing import RowWriter
from claude_force.storage.database import open_database

if TYPE_CHECKING:
    from pathlib import Path

# Noon of a Monday, in UTC.
NOW = 1_795_435_200.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    draw = random.Random(3)  # noqa: S311 - figures of a test
    rows = [
        row(
            NOW - draw.random() * 40 * 86_400,
            agent_name=f"agent-{draw.randrange(11)}",
            seconds=draw.lognormvariate(1, 0.6),
            error_kind=draw.choice((None,) * 9 + ("timeout",)),
            cached_tier=None,
            cost_usd=Decimal(draw.randrange(10**6)).scaleb(-8),
        )
        for _ in range(600)
    ]
    with closing(open_database(tmp_path / "metrics.db", SCHEMA)) as connection:
        RowWriter(connection).write(rows)
    return tmp_path / "metrics.db"


@pytest.mark.parametrize("days", SPANS)
def test_an_overview_is_what_the_reader_answers(path: Path, days: int) -> None:
    with (
        closing(MetricsReader(path, wall_clock=lambda: NOW)) as reader,
        closing(CallBrowser(path, wall_clock=lambda: NOW)) as browser,
    ):
        overview = OverviewReader(reader, browser).read(days, now=NOW)
        since = float(days * 86_400)
        assert overview.totals == reader.summary(since).value.totals
        assert overview.latency == reader.grouped((overview.step,), since).value
        assert overview.agents == reader.grouped(("agent",), since).value
        assert overview.savings == reader.savings(since).value
        assert overview.failures == reader.failure_counts(since).value
        by_day = reader.grouped(("day", "agent"), since).value
        assert {(one.start, one.agent): one.totals for one in overview.by_day_and_agent} == {
            (one.start, one.agent): one.totals for one in by_day
        }


def test_calls_of_this_hour_are_added_to_those_of_hours_that_are_over(path: Path) -> None:
    with (
        closing(MetricsReader(path, wall_clock=lambda: NOW)) as reader,
        closing(CallBrowser(path, wall_clock=lambda: NOW)) as browser,
        closing(open_database(path, SCHEMA)) as connection,
    ):
        overviews = OverviewReader(reader, browser)
        first = overviews.read(7, now=NOW)
        for added in (1, 2):
            RowWriter(connection).write([row(NOW, agent_name="agent-1", cost_usd=Decimal(1))])
            later = overviews.read(7, now=NOW)
            assert later.totals.calls == first.totals.calls + added
            assert later.totals.cost_usd == first.totals.cost_usd + added
            assert later.totals == reader.summary(7 * 86_400.0).value.totals
            assert later.agents == reader.grouped(("agent",), 7 * 86_400.0).value


def test_a_chart_of_dollars_has_all_of_them_however_many_agents_there_are(path: Path) -> None:
    with (
        closing(MetricsReader(path, wall_clock=lambda: NOW)) as reader,
        closing(CallBrowser(path, wall_clock=lambda: NOW)) as browser,
    ):
        overview = OverviewReader(reader, browser).read(30, now=NOW)
    series = charts.cost_by_day(overview)["series"]
    assert [one["name"] for one in series] == [
        *(group.agent for group in overview.agents[:8]),
        charts.OTHERS,
    ]
    drawn = sum(sum(one["data"]) for one in series)
    assert drawn == pytest.approx(float(overview.totals.cost_usd), abs=0.001)
    assert [one["data"] for one in series if len(one["data"]) != len(series[0]["data"])] == []
