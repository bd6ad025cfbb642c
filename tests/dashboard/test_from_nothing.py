"""A dashboard that is opened before there is anything to see, and one that ends while somebody looks."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.dashboard.conftest import row, run_under_way, served

from claude_force.resilience.shared_view import change_limits

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Until
    from tests.reporting.browser import Page


def test_a_page_goes_from_nothing_to_figures_to_the_end_of_its_server(
    tmp_path: Path, page: Page, until: Until
) -> None:
    def shown() -> str:
        return str(page.evaluate("document.body.innerText"))

    with served(tmp_path) as one:
        page.go(one.url)
        until(lambda: "Nothing yet" in shown())
        assert str(tmp_path) in shown()
        assert "claude-force dashboard --simulated" in shown()
        assert "Calls per minute" not in shown()
        # The store is made by the first call, and the page has it without being loaded anew.
        one.write([row(agent_name="first")])
        until(lambda: "first" in shown() and "Nothing yet" not in shown())
        # A chart that was hidden has a size now.
        until(
            lambda: (
                page.evaluate("document.querySelector('.chart svg').getBoundingClientRect().width")
                > 300
            )
        )
        assert "Attention" not in shown()
        with run_under_way(tmp_path, "abc123"):
            until(lambda: "0 of 2 steps" in shown())
            change_limits(tmp_path / "limits.db", paused=True)
            until(lambda: "Attention" in shown() and "No request of any run is let out" in shown())
            change_limits(tmp_path / "limits.db", paused=False)
            until(lambda: "Attention" not in shown())
        assert page.errors == []
        # A browser that holds a connection does not hold the server.
        one.process.send_signal(signal.SIGINT)
        one.process.wait(timeout=20)
        assert one.process.returncode == 0
        until(lambda: "not connected" in shown())
