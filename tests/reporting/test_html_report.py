"""The report of a run as a page, in a real browser."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from tests.reporting import runs
from tests.reporting.browser import browser

from claude_force.domain.runs import PromptPart
from claude_force.reporting.html import render_html

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.reporting.browser import Page

    from claude_force.domain.runs import RunRecord

ATTACK = "</script><script>window.stolen = 1</script><img src=x onerror='window.stolen = 1'>{{ 7 * 7 }}&amp;"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


def show(
    page: Page, run: RunRecord, folder: Path, *, width: int = 1280, dark: bool = False
) -> None:
    path = folder / "report.html"
    path.write_text(render_html(run), "utf-8")
    page.errors.clear()
    page.loaded.clear()
    page.show(width, 900, dark=dark)
    page.go(path.as_uri())


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(name, value) for name, value in attrs if name in {"src", "href"}]


def test_a_report_names_no_address_outside_itself() -> None:
    parser = _Addresses()
    parser.feed(render_html(runs.review()))
    assert [value for _, value in parser.found if value and not value.startswith("#")] == []


@pytest.mark.parametrize(
    "make", [runs.review, runs.failed, runs.fan_out, runs.run], ids=lambda make: make.__name__
)
def test_a_report_opens_without_error_and_loads_nothing(
    page: Page, tmp_path: Path, make: Any
) -> None:
    show(page, make(), tmp_path)
    assert page.errors == []
    assert [url for url in page.loaded if not url.startswith("file:")] == []
    assert len(page.loaded) == 1


def test_figures_of_a_run_are_on_its_page(page: Page, tmp_path: Path) -> None:
    show(page, runs.review(), tmp_path)
    text = page.evaluate("document.body.innerText")
    assert "code-quality" in text
    assert "Review the two files before the release of Friday." in text
    assert "Two findings have to be settled before the release." in text
    assert "14.2 s" in text
    # Two requests of `tests`, one each of `code` and `verdict`; `security` came from the cache.
    assert "$0.0317" in text
    assert "1 retry" in text


def test_the_critical_path_is_marked(page: Page, tmp_path: Path) -> None:
    show(page, runs.review(), tmp_path)
    marked = page.evaluate(
        "[...document.querySelectorAll('#graph .box.critical')].map((box) => box.textContent.trim().split('\\n')[0])"
    )
    assert len(marked) == 2
    assert any("tests" in name for name in marked)
    assert any("verdict" in name for name in marked)


def test_nothing_in_a_prompt_an_answer_or_a_name_runs(page: Page, tmp_path: Path) -> None:
    hostile = runs.call(
        "one", 0.0, 1.0, text=ATTACK, agent_name=ATTACK, prompt=(PromptPart("user", ATTACK),)
    )
    step = runs.step("one", 0.0, 1.0, text=ATTACK, agent_name=ATTACK, calls=(hostile,))
    show(page, runs.run(step, workflow_name=ATTACK, task=ATTACK, description=ATTACK), tmp_path)
    page.evaluate("document.querySelector('.timeline tbody tr button').click()")
    assert page.evaluate("typeof window.stolen") == "undefined"
    assert page.evaluate("document.images.length") == 0
    assert ATTACK in page.evaluate("document.body.innerText")
    assert page.errors == []


def test_a_step_opens_with_its_prompt_and_answer(page: Page, tmp_path: Path) -> None:
    show(page, runs.review(), tmp_path)
    assert "Work on code." not in page.evaluate("document.body.innerText")
    page.evaluate("document.querySelector('.timeline tbody tr button').click()")
    text = page.evaluate("document.body.innerText")
    assert "Work on code." in text
    assert "The answer of code." in text
    assert "claude-sonnet-5-5" in text


def test_a_search_leaves_the_steps_that_hold_the_words(page: Page, tmp_path: Path) -> None:
    show(page, runs.fan_out(), tmp_path)
    page.evaluate(
        "(() => { const field = document.getElementById('search'); field.value = 'polish';"
        " field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    shown = page.evaluate(
        "new Promise((done) => setTimeout(() => done([...document.querySelectorAll('.timeline tbody tr')]"
        ".filter((row) => row.offsetParent !== null && !row.hidden).length), 400))"
    )
    assert shown < 4


def test_a_thousand_steps_are_drawn_and_listed(page: Page, tmp_path: Path) -> None:
    show(page, runs.large(), tmp_path)
    assert page.errors == []
    assert page.evaluate("document.querySelectorAll('.timeline tbody tr').length") == 1000
    assert (tmp_path / "report.html").stat().st_size < 16_000_000


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window_and_text_stands_out(
    page: Page, tmp_path: Path, width: int, dark: bool
) -> None:
    show(page, runs.review(), tmp_path, width=width, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colours = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    text, back = (sum(map(int, colour[4:-1].split(", ")[:3])) for colour in colours)
    assert abs(text - back) > 450
    assert (back < text) is dark
    page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_bars_of_calls_stand_under_the_scale_of_the_steps(page: Page, tmp_path: Path) -> None:
    show(page, runs.fan_out(), tmp_path)
    page.evaluate("document.querySelectorAll('.timeline tbody tr button')[1].click()")
    span = "(bar => { const box = bar.getBoundingClientRect(); return [box.left, box.width]; })"
    step = page.evaluate(f"{span}(document.querySelector('#r1 .when svg'))")
    call = page.evaluate(f"{span}(document.querySelector('.calls summary svg'))")
    assert call == pytest.approx(step, abs=1)


def test_names_use_the_width_of_a_telephone(page: Page, tmp_path: Path) -> None:
    show(page, runs.large(8, width=8), tmp_path, width=390)
    assert page.evaluate(
        "[...document.querySelectorAll('.id')].every(name => name.scrollWidth <= name.clientWidth)"
    )


def test_answers_of_a_fan_out_are_read_as_texts(page: Page, tmp_path: Path) -> None:
    answer = '["One.\\nTwo.", null, "Three."]'
    step = runs.step("each", 0.0, 1.0, text=answer)
    show(page, runs.run(step), tmp_path)
    shown = page.evaluate("document.querySelector('main pre').textContent")
    assert (
        shown == "--- 1 of 3 ---\nOne.\nTwo.\n\n--- 2 of 3: no answer ---\n\n--- 3 of 3 ---\nThree."
    )
    page.evaluate("document.querySelector('.timeline tbody tr button').click()")
    assert page.evaluate("document.querySelector('.sheet pre').textContent") == shown


def test_answers_that_are_not_shown_at_the_top_are_counted(page: Page, tmp_path: Path) -> None:
    show(page, runs.large(8, width=8), tmp_path)
    assert "and the answers of 5 steps more" in page.evaluate("document.body.innerText")
