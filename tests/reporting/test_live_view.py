"""What people see while a run goes on, on a real terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.reporting.terminal import on_terminal

from claude_force.simulator import Latency, Scenario

if TYPE_CHECKING:
    from tests.conftest import Cli, Project
    from tests.reporting.terminal import Shown

    from claude_force.simulator import SimulatorThread

COMMAND = str(Path(sys.executable).with_name("claude-force"))


@pytest.fixture
def flow(project: Project, simulator: SimulatorThread) -> dict[str, str]:
    """A workflow with a fan-out, and the environment to run it in."""
    steps = [
        {"id": "first", "agent": "alpha", "task": "Begin."},
        {
            "id": "each",
            "agent": "beta",
            "task": "{{ item }}",
            "for_each": [1, 2, 3],
            "needs": ["first"],
        },
        {"id": "never", "agent": "gamma", "task": "No.", "when": "false", "needs": ["first"]},
        {"id": "last", "agent": "gamma", "task": "End.", "needs": ["each"]},
    ]
    wide = [{"id": f"step-{n}", "agent": "alpha", "task": f"Do {n}."} for n in range(40)]
    project.config(workflows={"flow": {"steps": steps}, "wide": {"steps": wide}})
    return {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": simulator.base_url}


def watch(name: str, env: dict[str, str], *more: str, **terminal: Any) -> Shown:
    arguments = [COMMAND, "run", "workflow", name, "--no-cache", *more]
    return on_terminal(arguments, env=env, **terminal)


def test_a_table_shows_every_step_and_its_last_frame_remains(flow: dict[str, str]) -> None:
    shown = watch("flow", flow)
    assert shown.code == 0
    lines = shown.screen(columns=100)
    (head,) = [line for line in lines if line.startswith("flow  ")]
    assert "4 of 4 steps" in head
    for mark, step, remark in (
        ("✓", "first", ""),
        ("✓", "each", "3 of 3 items"),
        ("○", "never", "condition"),
        ("✓", "last", ""),
    ):
        (line,) = [line for line in lines if line.startswith(f"{mark}  {step} ")]
        assert remark in line
    assert lines.index(head) < next(n for n, line in enumerate(lines) if "✓  last" in line)


def test_the_table_stays_within_the_height_of_the_terminal(flow: dict[str, str]) -> None:
    shown = watch("wide", flow, rows=14)
    assert shown.code == 0
    # To draw anew, the cursor never goes up by more lines than there are.
    longest = max(part.count("\x1b[1A") for part in shown.raw.split("\n"))
    assert longest < 14


def test_a_narrow_terminal_cuts_lines_instead_of_breaking_them(flow: dict[str, str]) -> None:
    lines = watch("flow", flow, columns=50).screen(columns=200)
    table = [line for line in lines if line[:1] in {"✓", "○"}]
    assert len(table) == 4
    assert all(len(line) <= 50 for line in table)


def test_a_failed_step_says_why(flow: dict[str, str], simulator: SimulatorThread) -> None:
    simulator.use_scenario("outage")
    shown = watch("flow", flow, "--max-retries", "0")
    assert shown.code == 7
    lines = shown.screen(columns=100)
    (failed,) = [line for line in lines if line.startswith("✗  first ")]
    assert "The API reports an error" in failed


def test_what_is_told_meanwhile_stands_above_the_table(
    flow: dict[str, str], simulator: SimulatorThread
) -> None:
    simulator.use_scenario(
        Scenario(latency=Latency(distribution="fixed", first_event_median_seconds=0.6))
    )
    shown = watch("flow", flow, interrupt_at="0 of 3 items")
    assert shown.code == 130
    lines = shown.screen(columns=200)
    told = [line.startswith("Interrupted: nothing more is sent") for line in lines].index(True)
    (head,) = [number for number, line in enumerate(lines) if line.startswith("flow  ")]
    assert told < head
    assert sum(line[3:].startswith("each ") for line in lines) == 1


def test_names_of_agents_and_steps_do_not_steer_the_terminal(
    project: Project, flow: dict[str, str]
) -> None:
    project.config(
        workflows={"flow": {"steps": [{"id": "a\x1b[31mb\x07", "agent": "alpha", "task": "x"}]}}
    )
    shown = watch("flow", flow)
    assert "\x1b[31mb" not in shown.raw
    assert "\x07" not in shown.raw


def test_without_a_terminal_there_are_plain_lines(cli: Cli, flow: dict[str, str]) -> None:
    run = cli("run", "workflow", "flow", "--no-cache")
    assert run.code == 0
    assert "\x1b" not in run.err
    lines = [line.split()[:2] for line in run.err.splitlines() if line.startswith("  ")]
    assert ["start", "first"] in lines
    assert ["done", "last:"] in lines
    assert ["skipped", "never:"] in lines
