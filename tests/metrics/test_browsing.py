"""The calls behind a figure, among many: the right ones, each once, the newest first."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest
from tests.metrics.conftest import NOW

from claude_force.metrics.browsing import CallBrowser, CallFilter, CallState, Minute
from claude_force.metrics.schema import SCHEMA
from claude_force.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.metrics.conftest import MakeLoad, MakeRow

    from claude_force.metrics.rows import CallRow

    Fill = Callable[[Iterable[CallRow]], None]

HOUR = 3600


def state_of(call: CallRow) -> CallState:
    if call.error_kind is not None:
        return "failed"
    return "answered" if call.cached_tier is None else "cached"


def fits(call: CallRow, wanted: CallFilter) -> bool:
    return (
        wanted.agent in {None, call.agent_name}
        and wanted.model in {None, call.model}
        and wanted.workflow in {None, call.workflow_name or ""}
        and wanted.error_kind in {None, call.error_kind}
        and wanted.run_id in {None, call.run_id}
        and wanted.step_id in {None, call.step_id}
        and wanted.state in {"all", state_of(call)}
        and wanted.since <= call.ended_at < wanted.until
    )


@pytest.mark.parametrize("state", get_args(CallState))
@pytest.mark.parametrize(
    "wanted",
    [
        CallFilter(),
        CallFilter(agent="writer"),
        CallFilter(model="claude-haiku-5-5", workflow="code-quality"),
        CallFilter(workflow=""),
        CallFilter(agent="nobody"),
        CallFilter(since=int(NOW) - 30 * HOUR, until=int(NOW) - 29 * HOUR + 1234),
        CallFilter(agent="planner", since=int(NOW) - 100_000, until=int(NOW) - 60),
    ],
    ids=str,
)
def test_pages_hold_every_call_that_fits_once_and_the_newest_first(
    store_path: Path, fill: Fill, make_load: MakeLoad, wanted: CallFilter, state: CallState
) -> None:
    load = make_load(800, days=3)
    fill(load)
    wanted = replace(wanted, state=state)
    browser = CallBrowser(store_path)
    found: list[CallRow] = []
    before: int | None = None
    while True:
        page = browser.calls(wanted, before=before, limit=7)
        found += page.calls
        before = page.before
        if before is None:
            break
        assert len(page.calls) == 7
    browser.close()
    expected = sorted(
        (call for call in load if fits(call, wanted)), key=lambda call: -int(call.ended_at * 1000)
    )
    assert [call.call_id for call in found] == [call.call_id for call in expected]


def test_calls_of_one_kind_of_error(store_path: Path, fill: Fill, make_row: MakeRow) -> None:
    fill([make_row(error_kind="timeout"), make_row(error_kind="overloaded", call_id="c2")])
    browser = CallBrowser(store_path)
    page = browser.calls(CallFilter(state="failed", error_kind="overloaded"))
    browser.close()
    assert [call.call_id for call in page.calls] == ["c2"]


@pytest.mark.parametrize("state", ["all", "answered", "failed"])
def test_calls_of_a_run_and_of_a_step_page_by_page(
    store_path: Path, fill: Fill, make_load: MakeLoad, state: CallState
) -> None:
    load = [
        call._replace(run_id=f"r{place % 3}", step_id="ab"[place % 2])
        for place, call in enumerate(make_load(600, days=1))
    ]
    fill(load)
    browser = CallBrowser(store_path)
    for wanted in (CallFilter(run_id="r1", state=state), CallFilter(run_id="r1", step_id="b", state=state)):  # fmt: skip
        found: list[str] = []
        before: int | None = None
        while not found or before is not None:
            page = browser.calls(wanted, before=before, limit=5)
            found += [call.call_id for call in page.calls]
            before = page.before
        ordered = sorted(load, key=lambda call: -int(call.ended_at * 1000))
        assert found == [call.call_id for call in ordered if fits(call, wanted)]
    browser.close()


def test_the_slowest_of_a_time(store_path: Path, fill: Fill, make_row: MakeRow) -> None:
    fill(make_row(NOW - number, call_id=str(number), seconds=number % 7) for number in range(40))
    browser = CallBrowser(store_path)
    page = browser.calls(CallFilter(slowest=True, since=int(NOW) - 20), limit=3)
    browser.close()
    assert [call.call_id for call in page.calls] == ["6", "13", "20"]
    assert page.before is None


def test_minutes_are_counted_those_without_a_call_too(
    store_path: Path, fill: Fill, make_row: MakeRow
) -> None:
    fill(
        [
            make_row(NOW + 1),
            make_row(NOW - 59, cached_tier="disk"),
            make_row(NOW - 61, error_kind="timeout"),
            make_row(NOW - 150),
        ]
    )
    browser = CallBrowser(store_path, wall_clock=lambda: NOW + 2)
    assert browser.minutes(4) == (
        Minute(int(NOW) - 180, answered=1),
        Minute(int(NOW) - 120, failed=1),
        Minute(int(NOW) - 60, cached=1),
        Minute(int(NOW), answered=1),
    )
    browser.close()


def test_without_a_store_there_is_nothing_and_none_is_made(store_path: Path) -> None:
    browser = CallBrowser(store_path, wall_clock=lambda: NOW)
    assert browser.calls(CallFilter()).calls == ()
    assert browser.minutes(2) == (Minute(int(NOW) - 60), Minute(int(NOW)))
    assert not store_path.parent.exists()


def test_failures_of_an_older_store_are_counted_by_day(store_path: Path) -> None:
    older = replace(SCHEMA, migrations=SCHEMA.migrations[:2])
    with closing(open_database(store_path, older)) as connection:
        connection.execute("INSERT INTO names VALUES (1, 'writer'), (2, 'timeout')")
        connection.executemany(
            """INSERT INTO calls (id, ended_ms, call_id, agent, model, requested_model, workflow, seconds, attempts,
                input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, error_kind)
            VALUES (?, ?, 'c', 1, 1, 1, 0, 1.0, 1, 0, 0, 0, 0, ?)""",
            [(1, int(NOW) * 1000, 2), (2, int(NOW) * 1000 + 1, 2), (3, int(NOW) * 1000 + 2, 0)],
        )
    with closing(open_database(store_path, SCHEMA)) as connection:
        counts = connection.execute("SELECT * FROM failure_days").fetchall()
    assert counts == [(int(NOW) // 86_400 * 86_400, 1, 2, 2)]
