"""What somebody sees, in a real browser: figures, live changes, drill-down, runs, buttons."""

from __future__ import annotations

import re
import time
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import pytest
from tests.dashboard.conftest import SECRET, keep_call, row, run_under_way

from claude_force.domain.errors import CallTimeoutError, InvalidRequestError
from claude_force.domain.events import StepFinished
from claude_force.domain.results import AgentResult, StepResult
from claude_force.domain.usage import Usage
from claude_force.resilience.shared_view import read_state
from claude_force.workflows.run_store import RunStore

if TYPE_CHECKING:
    from tests.conftest import Until
    from tests.dashboard.conftest import Served
    from tests.reporting.browser import Page

ATTACK = "</script><script>window.stolen=1</script><img src=x onerror='window.stolen=1'>"


def text(page: Page) -> str:
    return str(page.evaluate("document.body.innerText"))


def calls_shown(page: Page) -> int:
    """The figure of the tile."""
    found = re.search(r"Calls\n([\d,]+)\n", text(page))
    return int(found[1].replace(",", "")) if found else -1


def click_through(page: Page, marks: str) -> None:
    """Click on the first of the places that a script finds, until that leads to calls.

    A chart that is renewed between the look and the click, as at the turn of a minute, has moved on.
    """
    for _ in range(5):
        x, y = page.evaluate(marks)[0][:2]
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            page.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            if "/calls?" in page.evaluate("location.href"):
                return
            time.sleep(0.02)
    raise AssertionError("a click led nowhere")


def test_a_call_of_another_process_appears_while_one_looks(
    dashboard: Served, page: Page, until: Until
) -> None:
    dashboard.write([row() for _ in range(5)])
    page.go(dashboard.address)
    until(lambda: calls_shown(page) >= 5)
    before = calls_shown(page)
    dashboard.write([row(agent_name="newcomer")])
    until(lambda: calls_shown(page) == before + 1)
    until(lambda: "newcomer" in text(page))
    assert page.errors == []
    assert [url for url in page.loaded if not url.startswith(dashboard.address)] == []
    # It was not loaded anew.
    assert [url for url in page.loaded if url == dashboard.address] == [dashboard.address]


def test_figures_are_those_of_the_store(dashboard: Served, page: Page, until: Until) -> None:
    dashboard.write(
        [
            *(row(agent_name="measured", seconds=4.0) for _ in range(3)),
            row(agent_name="measured", error_kind="timeout", cost_usd=None),
        ]
    )
    page.go(dashboard.address)
    until(lambda: "measured" in text(page))
    cells = "[...document.querySelectorAll('tr')].find((row) => row.innerText.startsWith('measured')).innerText"
    # Calls, failed, share of cached answers, median, 95th percentile, dollars.
    assert page.evaluate(cells).split("\t") == [
        *("measured", "4", "1", "0.0%", "4.0 s", "4.0 s", "$0.0180"),
    ]


def test_a_click_on_a_bar_leads_to_the_calls_of_that_minute(
    dashboard: Served, page: Page, until: Until
) -> None:
    # Enough for the lowest bar to be high, and in the middle of the chart.
    minute = time.time() // 60 * 60 - 1800
    dashboard.write([row(minute + 5, agent_name="clicked") for _ in range(40)])
    page.go(dashboard.address)
    # The middles of the bars of answered calls, without the mark of the legend; the highest first.
    bars = """(() => {
        const chart = document.querySelector('.chart');
        return [...chart.querySelectorAll('path[fill="#3f7fe0"]')]
            .map((bar) => bar.getBoundingClientRect())
            .filter((box) => box.height > 20)
            .sort((one, other) => other.height - one.height)
            .map((box) => [box.x + box.width / 2, box.y + box.height / 2, chart.getBoundingClientRect().right]);
    })()"""

    def in_the_middle() -> bool:
        found = page.evaluate(bars)
        return bool(found) and found[0][0] < found[0][2] - 100

    until(in_the_middle)
    click_through(page, bars)
    until(lambda: "clicked" in text(page))
    rows = page.evaluate("document.querySelectorAll('tbody tr').length")
    assert rows == 40
    assert page.errors == []


@pytest.mark.parametrize(
    ("chart", "marks", "leads_to"),
    [
        ("Latency", "path[stroke='#3f7fe0']", {"order": "slowest"}),
        ("Dollars by day", "path[fill='#3f7fe0']", {"agent": "dearest"}),
        ("Dollars by agent", "path[fill='#3f7fe0']", {"agent": "dearest", "days": "7"}),
    ],
)
def test_a_click_on_any_other_chart_leads_to_its_calls(  # noqa: PLR0917 - fixtures and parameters
    dashboard: Served,
    page: Page,
    until: Until,
    chart: str,
    marks: str,
    leads_to: dict[str, str],
) -> None:
    now = time.time()
    dashboard.write([row(now, agent_name="dearest", cost_usd=Decimal(90))])
    page.show(1280, 1400, dark=False)
    page.go(dashboard.address)
    # The middle of the largest bar, or of the point that is the last of its line, which is longer than any point.
    found = f"""(() => {{
        const boxes = [...document.querySelectorAll("section[aria-label='{chart}'] .chart {marks}")]
            .map((mark) => mark.getBoundingClientRect())
            .filter((box) => {"box.width < 14" if chart == "Latency" else "box.width > 12 && box.height > 12"});
        boxes.sort((one, other) => other.width * other.height - one.width * one.height || other.x - one.x);
        return boxes.map((box) => [box.x + box.width / 2, box.y + box.height / 2]);
    }})()"""
    until(lambda: "dearest" in text(page) and page.evaluate(found))
    click_through(page, found)
    asked = dict(parse_qsl(page.evaluate("location.search").removeprefix("?")))
    assert leads_to.items() <= asked.items()
    if "days" not in leads_to:
        assert int(asked["since"]) <= now < int(asked["until"])
    until(lambda: "dearest" in text(page))
    assert page.errors == []


def test_an_agent_leads_to_its_calls_and_a_failure_to_those_that_failed(
    dashboard: Served, page: Page, until: Until
) -> None:
    dashboard.write([row(agent_name="drilled"), row(agent_name="drilled", error_kind="overloaded")])
    page.go(dashboard.address)
    link = "[...document.querySelectorAll('td a')].find((link) => link.innerText === 'drilled')"
    until(lambda: page.evaluate(f"Boolean({link})"))
    page.go(page.evaluate(f"{link}.href"))
    until(lambda: page.evaluate("document.querySelectorAll('tbody tr').length") == 2)
    failed = (
        "[...document.querySelectorAll('.tabs a')].find((link) => link.innerText === 'failed').href"
    )
    page.go(page.evaluate(failed))
    until(lambda: page.evaluate("document.querySelectorAll('tbody tr').length") == 1)
    assert "overloaded" in text(page)


def test_nothing_in_a_name_runs(dashboard: Served, page: Page, until: Until) -> None:
    dashboard.write([row(agent_name=ATTACK, model=ATTACK, error_kind=ATTACK, cost_usd=None)])
    for path in ("", "calls", "runs"):
        page.go(dashboard.address + path)
        until(lambda: "claude-force" in text(page))
        if path != "runs":
            until(lambda: ATTACK in text(page))
        assert page.evaluate("typeof window.stolen") == "undefined"
        assert page.evaluate("document.images.length") == 0
    assert page.errors == []


def test_a_run_is_seen_while_it_goes_on_and_stopped_from_its_page(
    dashboard: Served, page: Page, until: Until
) -> None:
    with run_under_way(dashboard.folder, "a1b2c3") as journal:
        page.go(f"{dashboard.address}runs/a1b2c3?token={dashboard.token}")
        states = (
            "[...document.querySelectorAll('.graph .box')].map((box) => box.getAttribute('class'))"
        )
        until(lambda: page.evaluate(states) == ["box s-running critical", "box s-waiting"])
        result = AgentResult(
            agent_name="alpha", text=SECRET, stop_reason="end_turn", model="m",
            requested_model="m", usage=Usage(), cost_usd=None, seconds=1.0,
        )  # fmt: skip
        step = StepResult(
            step_id="gather", agent_name="alpha", state="succeeded", result=result,
            started_seconds=0.0, ended_seconds=1.0,
        )  # fmt: skip
        journal.take(StepFinished("a1b2c3", step))
        until(lambda: page.evaluate(states)[0].startswith("box s-succeeded"))
        assert SECRET not in text(page)
        stopped: list[bool] = []
        journal.watch(lambda: stopped.append(True))
        page.evaluate(
            "[...document.querySelectorAll('button')].find((one) => one.innerText === 'Cancel this run').click()"
        )
        until(lambda: stopped)
    assert page.errors == []
    assert RunStore(dashboard.folder).load("a1b2c3").state == "interrupted"


def cells(page: Page) -> list[list[str]]:
    """The table of steps or calls, as it is seen."""
    script = "[...document.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.innerText))"
    found: list[list[str]] = page.evaluate(script)
    return found


def test_each_step_shows_what_its_calls_came_to_while_the_run_goes_on(
    dashboard: Served, page: Page, until: Until
) -> None:
    with run_under_way(dashboard.folder, "b0b0b0") as journal:
        page.go(f"{dashboard.address}runs/b0b0b0")
        until(lambda: len(cells(page)) == 2)
        assert cells(page)[0][3:6] == ["", "", ""]
        keep_call(journal, "gather", cost_usd=Decimal("0.25"))
        until(lambda: cells(page)[0][3:6] == ["1", "1,000", "200"])
        keep_call(journal, "gather", cost_usd=Decimal("0.50"))
        keep_call(journal, "judge", cost_usd=None)
        until(lambda: [row[3:6] for row in cells(page)] == [["2", "2,000", "400"], ["1", "1,000", "200"]])  # fmt: skip
        assert [row[7] for row in cells(page)] == ["$0.7500", "price unknown"]
    assert page.errors == []


def test_a_step_leads_to_its_calls_and_to_no_others(
    dashboard: Served, page: Page, until: Until
) -> None:
    with run_under_way(dashboard.folder, "c1c1c1"):
        pass
    of_run = {"run_id": "c1c1c1", "workflow_name": "flow-c1c1c1"}
    dashboard.write(
        [
            row(agent_name="alpha", step_id="gather", **of_run),
            row(agent_name="alpha", step_id="gather", error_kind="timeout", **of_run),
            row(agent_name="beta", step_id="judge", **of_run),
            row(agent_name="alpha", step_id="gather", run_id="another"),
            row(time.time() - 86_400, agent_name="alpha", step_id="gather", **of_run),
        ]
    )
    page.go(f"{dashboard.address}runs/c1c1c1")
    link = "[...document.querySelectorAll('td a')].find((link) => link.innerText === 'gather')"
    until(lambda: page.evaluate(f"Boolean({link})"))
    page.go(page.evaluate(f"{link}.href"))
    # The one of yesterday is from before the run.
    until(lambda: [line[1] for line in cells(page)] == ["alpha", "alpha"])
    chips = "[...document.querySelectorAll('.chips a')].map((chip) => [chip.innerText, chip.href])"
    (of_the_run, _), (of_the_step, whole_run) = page.evaluate(chips)
    assert (of_the_run, of_the_step) == ("run: c1c1c1 ✕", "step: gather ✕")
    page.go(page.evaluate("document.querySelectorAll('.tabs a')[3].href"))
    until(lambda: [line[3] for line in cells(page)] == ["timeout"])
    page.go(whole_run)
    until(lambda: sorted(line[4] for line in cells(page)) == ["gather", "gather", "judge"])
    assert page.errors == []


def test_a_failed_step_says_why_but_quotes_no_prompt(
    dashboard: Served, page: Page, until: Until
) -> None:
    errors = {
        "gather": InvalidRequestError(f"The API refuses {SECRET!r}."),
        "judge": CallTimeoutError("No complete answer <b>within</b> 9 s."),
    }
    with run_under_way(dashboard.folder, "d2d2d2") as journal:
        for step_id, error in errors.items():
            step = StepResult(step_id=step_id, agent_name="alpha", state="failed", error=error)
            journal.take(StepFinished("d2d2d2", step))
    page.go(f"{dashboard.address}runs/d2d2d2")
    remarks = "[...document.querySelectorAll('tr.remark')].map((row) => row.innerText)"
    until(
        lambda: (
            page.evaluate(remarks)
            == ["invalid_request", "timeout: No complete answer <b>within</b> 9 s."]
        )
    )
    assert SECRET not in page.evaluate("document.documentElement.outerHTML")
    assert "claude-force runs show d2d2d2" in text(page)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_a_run_fits_its_width(
    dashboard: Served, page: Page, until: Until, width: int
) -> None:
    with run_under_way(dashboard.folder, f"e{width}") as journal:
        keep_call(journal, "gather", cost_usd=Decimal("12.34"))
        error = CallTimeoutError("No complete answer within 9 s (attempt 3). Allow more time (--timeout, timeout_seconds).")  # fmt: skip
        step = StepResult(
            step_id="gather", agent_name="alpha", state="failed", error=error,
            started_seconds=0.0, ended_seconds=9.0,
        )  # fmt: skip
        journal.take(StepFinished(f"e{width}", step))
    page.show(width, 900, dark=False)
    page.go(f"{dashboard.address}runs/e{width}")
    until(lambda: "$12.34" in text(page))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll')].every((one) => one.scrollWidth <= one.clientWidth + 1)"
    )


def test_a_step_whose_run_was_interrupted_is_not_shown_as_running(
    dashboard: Served, page: Page, until: Until
) -> None:
    with run_under_way(dashboard.folder, "f0f0f0"):
        pass
    page.go(f"{dashboard.address}runs/f0f0f0")
    until(lambda: "gather" in text(page))
    assert page.evaluate("document.querySelectorAll('.s-running').length") == 0
    assert page.evaluate("document.querySelectorAll('.graph .s-interrupted').length") == 1
    assert text(page).count("! interrupted") == 2


def test_runs_are_paused_with_the_token_and_not_without(
    dashboard: Served, page: Page, until: Until
) -> None:
    page.go(dashboard.address)
    until(lambda: "Overview" in text(page))
    assert page.evaluate("document.querySelectorAll('button').length") == 0
    page.go(dashboard.url)
    until(lambda: "Pause all runs" in text(page))
    # The token is in the address no more, nor where a script could read it.
    assert page.evaluate("location.href + document.cookie") == dashboard.address

    def paused() -> bool:
        state = read_state(dashboard.folder / "limits.db")
        return state is not None and state.user_limits.paused

    click = "[...document.querySelectorAll('button')].find((one) => one.innerText.endsWith('all runs')).click()"
    page.evaluate(click)
    until(paused)
    until(lambda: "Resume all runs" in text(page))
    page.evaluate(click)
    until(lambda: not paused())


def test_a_page_says_what_it_is_without_being_seen(
    dashboard: Served, page: Page, until: Until
) -> None:
    dashboard.write([row()])
    page.go(dashboard.address)
    until(lambda: page.evaluate("document.querySelectorAll('.chart[aria-label]').length") == 4)
    assert page.evaluate("document.documentElement.lang") == "en-US"
    assert page.evaluate("document.title") == "Overview · claude-force"
    assert page.evaluate("document.querySelectorAll('h1').length") == 1
    assert page.evaluate("document.querySelector('nav [aria-current]').innerText") == "Overview"
    described = page.evaluate(
        "[...document.querySelectorAll('.chart')].map((chart) => chart.getAttribute('aria-label'))"
    )
    assert re.fullmatch(
        r"Calls per minute in the last hour, together \d+ answered, \d+ from the cache, \d+ failed.",
        described[0],
    )
    assert re.match(r"Dollars by agent: \S+ \$", described[3])
    # The charts can be had without a mouse, too.
    links = "[...document.querySelectorAll('.panel .top a')].map((link) => link.innerText)"
    assert page.evaluate(links) == ["calls of the last hour", "slowest calls of a day"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["", "runs", "calls"])
def test_a_page_fits_its_width(  # noqa: PLR0917 - fixtures and parameters
    dashboard: Served, page: Page, until: Until, path: str, width: int, dark: bool
) -> None:
    dashboard.write([row(agent_name="an-agent-with-quite-a-long-name-for-a-telephone")])
    page.show(width, 900, dark=dark)
    page.go(dashboard.address + path)
    until(lambda: page.evaluate("document.querySelectorAll('.panel').length") > 0)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll')].every((one) => one.scrollWidth <= one.clientWidth + 1)"
    )
    colours = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colours == ("rgb(14, 17, 22)" if dark else "rgb(244, 245, 247)")
    assert page.errors == []
