"""What Prometheus scrapes, over a socket and parsed as Prometheus does."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families
from tests.metrics.conftest import NOW

from claude_force import serve_prometheus
from claude_force.domain.errors import ConfigError, InputError
from claude_force.metrics.prometheus import BUCKETS, Standing, StoreCollector
from claude_force.metrics.prometheus_server import PrometheusServer
from claude_force.metrics.retention import sweep
from claude_force.metrics.schema import SCHEMA
from claude_force.metrics.sketch import Sketch
from claude_force.resilience.shared_view import change_limits
from claude_force.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.conftest import Cli, Spawn
    from tests.metrics.conftest import MakeRow

    from claude_force.metrics.rows import CallRow

    Fill = Callable[[Iterable[CallRow]], None]

DAY = 86_400.0
DOCS = Path(__file__).parents[2] / "docs"


def get(
    port: int, path: str = "/metrics", host: str | None = None, accept: str = ""
) -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        headers = {"Host": host or f"127.0.0.1:{port}", "Accept": accept}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(path: Path, *, now: float = NOW, **options: Any) -> dict[tuple[str, Any], float]:
    with PrometheusServer(
        StoreCollector(path, wall_clock=lambda: now, **options), port=0
    ) as server:
        status, text = get(server.port)
    assert status == 200
    return samples(text)


def labelled(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


WRITER = {"agent": "writer", "model": "claude-sonnet-5-5"}


def test_a_scrape_has_calls_tokens_dollars_and_hits(
    store_path: Path, fill: Fill, make_row: MakeRow
) -> None:
    fill(
        [
            make_row(attempts=3),
            make_row(cached_tier="disk", attempts=0, saved_usd=Decimal("0.006"), cost_usd=Decimal(0),
                     input_tokens=0, output_tokens=0),
            make_row(error_kind="timeout", cost_usd=None, input_tokens=0, output_tokens=0),
        ]
    )  # fmt: skip
    found = scrape(store_path)
    assert found[labelled("claude_force_calls_total", **WRITER, outcome="answered")] == 1
    assert found[labelled("claude_force_calls_total", **WRITER, outcome="cached")] == 1
    assert found[labelled("claude_force_calls_total", **WRITER, outcome="failed")] == 1
    assert found[labelled("claude_force_call_failures_total", agent="writer", kind="timeout")] == 1
    assert found[labelled("claude_force_tokens_total", **WRITER, sort="input")] == 1000
    assert found[labelled("claude_force_tokens_total", **WRITER, sort="output")] == 200
    assert found[labelled("claude_force_cost_dollars_total", **WRITER)] == 0.006
    assert found[labelled("claude_force_unpriced_calls_total", **WRITER)] == 1
    assert found[labelled("claude_force_retries_total", **WRITER)] == 2
    assert found[labelled("claude_force_cache_hits_total", **WRITER)] == 1
    assert found[labelled("claude_force_cache_saved_dollars_total", **WRITER)] == 0.006


def test_the_page_of_metrics_names_every_metric_with_its_type_and_labels(
    store_path: Path, fill: Fill, make_row: MakeRow
) -> None:
    fill([make_row(), make_row(error_kind="timeout")])
    standing = Standing(
        breakers={"api": True}, limits={("sonnet", "requests"): (50, 20)}, blocked=("sonnet",)
    )
    collector = StoreCollector(store_path, standing=lambda: standing, wall_clock=lambda: NOW)
    told = set()
    for family in collector.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        (labels,) = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        told.add((name, family.type, labels))
    collector.close()
    page = (DOCS / "prometheus.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(claude_force_\w+)` \| (\w+) \| (.*?) ?\|", page, re.MULTILINE)
    assert len(rows) == len(told)
    assert {
        (name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows
    } == told


def test_the_histogram_counts_complete_answers_of_the_api(
    store_path: Path, fill: Fill, make_row: MakeRow
) -> None:
    fill(
        [
            *(make_row(seconds=seconds) for seconds in (0.4, 2.2, 2.2, 45.0)),
            make_row(seconds=1.1, error_kind="timeout"),
            make_row(seconds=0.01, cached_tier="memory"),
        ]
    )
    found = scrape(store_path)
    name = "claude_force_call_duration_seconds"
    counts = {
        bound: found[labelled(f"{name}_bucket", **WRITER, le=bound)]
        for bound in ("0.25", "0.5", "2.0", "3.0", "32.0", "60.0", "+Inf")
    }
    assert counts == {"0.25": 0, "0.5": 1, "2.0": 1, "3.0": 3, "32.0": 3, "60.0": 4, "+Inf": 4}
    assert found[labelled(f"{name}_count", **WRITER)] == 4
    assert found[labelled(f"{name}_sum", **WRITER)] == pytest.approx(49.8, rel=0.01)


def test_calls_of_later_scrapes_are_added(store_path: Path, fill: Fill, make_row: MakeRow) -> None:
    collector = StoreCollector(store_path, wall_clock=lambda: NOW)
    key = labelled("claude_force_calls_total", **WRITER, outcome="answered")
    with PrometheusServer(collector, port=0) as server:
        assert samples(get(server.port)[1]) == {}
        fill([make_row()])
        assert samples(get(server.port)[1])[key] == 1
        fill([make_row(), make_row(error_kind="timeout")])
        assert samples(get(server.port)[1])[key] == 2


def test_no_counter_goes_back_when_rows_are_swept(
    store_path: Path, fill: Fill, make_row: MakeRow
) -> None:
    old = NOW - 40 * DAY
    fill([make_row(old), make_row(old, error_kind="timeout"), make_row(error_kind="timeout")])
    before = scrape(store_path)
    with closing(open_database(store_path, SCHEMA)) as connection:
        sweep(connection, int(NOW - 30 * DAY))
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (1,)
    assert scrape(store_path) == before
    assert before[labelled("claude_force_call_failures_total", agent="writer", kind="timeout")] == 2


def test_agents_beyond_the_bound_share_one_label_and_the_first_keep_theirs(
    store_path: Path, fill: Fill, make_row: MakeRow
) -> None:
    for number in range(4):
        # The later, the more: what an agent does must not change its label.
        fill([make_row(agent_name=f"agent-{number}") for _ in range(number + 1)])
    found = scrape(store_path, max_agents=2)
    model = "claude-sonnet-5-5"
    counts = {
        dict(labels)["agent"]: value
        for (name, labels), value in found.items()
        if name == "claude_force_calls_total" and dict(labels)["outcome"] == "answered"
    }
    assert counts == {"agent-0": 1, "agent-1": 2, "other": 3 + 4}
    assert labelled("claude_force_cost_dollars_total", agent="other", model=model) in found


def test_a_name_from_a_file_cannot_break_the_text(
    store_path: Path, fill: Fill, make_row: MakeRow
) -> None:
    hostile = 'a"} 1\nclaude_force_calls_total{agent="b\\'
    fill([make_row(agent_name=hostile)])
    found = scrape(store_path)
    assert {
        dict(labels)["agent"] for name, labels in found if name == "claude_force_calls_total"
    } == {hostile}


def test_limits_and_pauses_are_gauges(tmp_path: Path) -> None:
    change_limits(tmp_path / "limits.db", paused=True)
    with serve_prometheus(tmp_path, port=0) as server:
        found = samples(get(server.port)[1])
    assert found[labelled("claude_force_paused")] == 1
    assert found[labelled("claude_force_requests_in_flight")] == 0


def test_prometheus_may_ask_for_its_newer_format(
    store_path: Path, fill: Fill, make_row: MakeRow
) -> None:
    fill([make_row()])
    with serve_prometheus(store_path.parent, port=0) as server:
        status, text = get(server.port, accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert text.endswith("# EOF\n")
    names = {family.name for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call] # of the library
    assert {"claude_force_calls", "claude_force_call_duration_seconds"} <= names


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", ""])
def test_a_request_for_another_host_is_refused(tmp_path: Path, host: str) -> None:
    with serve_prometheus(tmp_path, port=0) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(f"GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            assert connection.makefile("rb").readline().split()[1] == b"403"
        assert get(server.port, host=f"localhost:{server.port}")[0] == 200
        assert get(server.port, path="/")[0] == 404


def test_only_loopback_is_served(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'192\.0\.2\.1'"):
        serve_prometheus(tmp_path, host="192.0.2.1", port=0)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with serve_prometheus(tmp_path, port=0) as server:
        second = serve_prometheus(tmp_path, port=server.port)
        with pytest.raises(ConfigError, match=f"port {server.port}"), second:
            pass


def test_a_store_that_cannot_be_read_fails_the_scrape_and_not_the_server(store_path: Path) -> None:
    store_path.parent.mkdir()
    store_path.write_bytes(b"this is no database" * 100)
    with serve_prometheus(store_path.parent, port=0) as server:
        status, text = get(server.port)
        assert (status, text) == (503, "The store of metrics cannot be read.\n")
        store_path.unlink()
        assert get(server.port)[0] == 200


def test_a_server_can_be_used_from_an_event_loop(tmp_path: Path) -> None:
    async def main() -> int:
        async with serve_prometheus(tmp_path, port=0) as server:
            status, _ = await asyncio.to_thread(get, server.port)
            return status

    assert asyncio.run(main()) == 200


def test_the_command_serves_calls_of_other_processes_until_interrupted(
    cli: Cli, spawn: Spawn
) -> None:
    serving = spawn("metrics", "serve", "--port", "0", "--json")
    assert serving.stdout is not None
    url = json.loads(serving.stdout.readline())["url"]
    assert cli("run", "agent", "alpha", "--task", "Hello").code == 0
    port = int(url.split(":")[2].split("/")[0])
    found = samples(get(port)[1])
    calls = {name: value for (name, labels), value in found.items() if dict(labels).get("agent") == "alpha" and dict(labels).get("outcome") == "answered"}  # fmt: skip
    assert calls == {"claude_force_calls_total": 1}
    serving.send_signal(signal.SIGINT)
    assert serving.wait(30) == 0


def test_without_the_library_the_extra_is_named() -> None:
    script = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from claude_force.cli.main import run\n"
        "sys.exit(run(['metrics', 'serve', '--port', '0', '--dir', '/']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert "pip install 'claude-force[prometheus]'" in done.stderr
    assert done.returncode == 3


@given(st.lists(st.floats(0.002, 1000), max_size=60))
def test_buckets_are_those_of_the_durations_within_one_percent(durations: list[float]) -> None:
    counts = Sketch.of(durations).counts_up_to(BUCKETS)
    for bound, count in zip(BUCKETS, counts, strict=True):
        surely = sum(duration <= bound * 0.98 for duration in durations)
        perhaps = sum(duration <= bound * 1.02 for duration in durations)
        assert surely <= count <= perhaps
    assert Sketch.of(durations).total_seconds == pytest.approx(sum(durations), rel=0.0101)
