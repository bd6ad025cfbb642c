"""Runs to report on: small ones spelled out, and large ones by rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from claude_force.domain.runs import CallPlace, CallRecord, PromptPart, RunRecord, StepRecord
from claude_force.domain.usage import NO_USAGE, Usage

BEGAN = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
SYSTEM = "You review code. Name what is wrong, where, and how bad it is.\n\nBe brief."


def call(step_id: str, began: float, ended: float, **fields: Any) -> CallRecord:
    """A call that was paid for, unless the fields say otherwise."""
    item, number, repair = fields.pop("item", None), fields.pop("round", 1), fields.pop("repair", 0)
    place = CallPlace(step_id=step_id, item_index=item, round=number, repair=repair)
    return CallRecord(
        **{
            "place": place,
            "key": f"{abs(hash((step_id, item, number, repair))):032x}"[:32],
            "agent_name": "code-reviewer",
            "model": "claude-sonnet-5-5",
            "prompt": (
                PromptPart("system", SYSTEM),
                PromptPart("user", f"<task>\nWork on {step_id}.\n</task>"),
            ),
            "text": f"The answer of {step_id}.",
            "usage": Usage(input_tokens=1840, cache_read_tokens=1200, output_tokens=312),
            "cost_usd": Decimal("0.01056"),
            "started_seconds": began,
            "ended_seconds": ended,
            "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy",
            **fields,
        }
    )


def step(step_id: str, began: float | None, ended: float | None, **fields: Any) -> StepRecord:
    """A step that succeeded with one call, unless the fields say otherwise."""
    if began is not None and ended is not None:
        fields.setdefault("calls", (call(step_id, began, ended),))
        fields.setdefault("state", "succeeded")
        if fields["state"] == "succeeded":
            fields.setdefault("text", f"The answer of {step_id}.")
    return StepRecord(
        **{
            "step_id": step_id,
            "agent_name": "code-reviewer",
            "started_seconds": began,
            "ended_seconds": ended,
            **fields,
        }
    )


def run(*steps: StepRecord, **fields: Any) -> RunRecord:
    """A run of these steps; what it cost is added up."""
    calls = [one for each in steps for one in each.calls]
    seconds = max((each.ended_seconds or 0.0 for each in steps), default=0.0)
    costs = [one.cost_usd for one in calls]
    return RunRecord(
        **{
            "run_id": "20261120-093000-7f3a",
            "workflow_name": "code-quality",
            "state": "succeeded",
            "started_at": BEGAN,
            "ended_at": BEGAN + timedelta(seconds=seconds),
            "seconds": seconds,
            "usage": sum((one.usage for one in calls), NO_USAGE),
            "cost_usd": None if None in costs else sum(filter(None, costs), Decimal(0)),
            "steps": steps,
            **fields,
        }
    )


def review() -> RunRecord:
    """Three reviews and a verdict; one review came from the cache, one was tried twice."""
    verdict = (
        "Two findings have to be settled before the release.\n\n"
        "1. `add` subtracts (src/app.py:2): every sum is wrong.\n"
        "2. The key stands in the source (src/store.py:1): move it to the environment.\n\n"
        "The tests would not have noticed either: there is none for negative numbers, and none that reads the store."
    )
    cached = call(
        "security",
        0.02,
        0.03,
        agent_name="security-reviewer",
        cached_tier="disk",
        cost_usd=Decimal(0),
        saved_usd=Decimal("0.0131"),
    )
    return run(
        step("code", 0.0, 6.41),
        step("security", 0.02, 0.03, agent_name="security-reviewer", calls=(cached,)),
        step(
            "tests",
            0.02,
            9.85,
            agent_name="test-reviewer",
            calls=(call("tests", 0.02, 9.85, agent_name="test-reviewer", attempts=2),),
        ),
        step(
            "verdict",
            9.86,
            14.2,
            agent_name="summarizer",
            dependencies=("code", "security", "tests"),
            text=verdict,
            calls=(call("verdict", 9.86, 14.2, agent_name="summarizer", text=verdict),),
        ),
        description="Three reviewers look at the code, a fourth one weighs what they found.",
        task="Review the two files before the release of Friday.",
    )


def failed() -> RunRecord:
    """A failed step, one that was skipped for it, a branch that went on, and one that never began."""
    message = "The API refuses the request: prompt is too long: 214,003 tokens > 200,000 maximum.\nSend fewer files, or split the task with for_each."
    lost = call(
        "collect",
        2.1,
        3.4,
        text=None,
        usage=NO_USAGE,
        cost_usd=Decimal(0),
        error_kind="invalid_request",
        error_message=message,
    )
    return run(
        step("outline", 0.0, 2.1, agent_name="planner"),
        step(
            "collect",
            2.1,
            3.4,
            state="failed",
            dependencies=("outline",),
            agent_name="researcher",
            error_kind="invalid_request",
            error_message=message,
            calls=(lost,),
        ),
        step(
            "weigh",
            None,
            None,
            state="skipped",
            dependencies=("collect",),
            agent_name="analyst",
            reason="collect failed",
        ),
        step("style", 2.1, 7.7, dependencies=("outline",), agent_name="writer"),
        step("report", None, None, dependencies=("weigh", "style"), agent_name="writer"),
        state="interrupted",
        ended_at=None,
        seconds=None,
        resumed=1,
        workflow_name="market-report",
    )


def fan_out(items: int = 120) -> RunRecord:
    """A list, one call for each of its items, a loop of three rounds, and the end."""
    calls = []
    for item in range(items):
        began = 1.2 + (item // 8) * 0.9 + item % 8 * 0.03
        fields: dict[str, Any] = {"item": item, "agent_name": "summarizer"}
        if item % 5 == 4:
            fields |= {
                "cached_tier": "memory",
                "cost_usd": Decimal(0),
                "saved_usd": Decimal("0.004"),
            }
        if item == 37:
            fields |= {
                "text": None,
                "error_kind": "refusal",
                "error_message": "The model refused to answer.",
            }
        if item == 50:
            fields["attempts"] = 3
        ended = began + 0.01 if item % 5 == 4 else began + 0.5 + item % 7 * 0.06
        calls.append(call("summaries", began, ended, **fields))
    end = max(one.ended_seconds for one in calls)
    rounds = tuple(
        call("polish", end + number * 2.0, end + number * 2.0 + 1.9, round=number + 1)
        for number in range(3)
    )
    return run(
        step("files", 0.0, 1.2, agent_name="planner"),
        step(
            "summaries",
            1.2,
            end,
            agent_name="summarizer",
            dependencies=("files",),
            calls=tuple(calls),
            text='["…"]',
        ),
        step("polish", end, end + 5.9, dependencies=("summaries",), calls=rounds),
        step("publish", end + 5.9, end + 7.0, dependencies=("polish", "files")),
        workflow_name="map-reduce-docs",
    )


def large(steps: int = 1000, *, width: int = 50, alike: bool = False) -> RunRecord:
    """Layers of steps, each behind one to three of the layer before; every 97th failed, what stands behind is skipped.

    With `alike`, chains beside each other, all of the same agents.
    """
    agents = ("planner", "code-reviewer", "test-reviewer", "summarizer", "writer")
    made: dict[str, StepRecord] = {}
    names = [f"{agents[number // width % 5]}-{number:04}" for number in range(steps)]
    for number, name in enumerate(names):
        layer, column = divmod(number, width)
        above = [0] if alike else [0, 7, 19][: 1 + number % 3]
        needs = tuple(names[(layer - 1) * width + (column + shift) % width] for shift in above)
        needs = needs if layer else ()
        common: dict[str, Any] = {
            "agent_name": agents[layer % 5],
            "dependencies": needs,
        }
        if any(made[one].state != "succeeded" for one in needs):
            made[name] = step(name, None, None, state="skipped", reason="a step failed", **common)
            continue
        began = max((made[one].ended_seconds or 0.0 for one in needs), default=0.0) + 0.002
        ended = began + 0.8 + (number * 7919 % 1000) / 400
        text = f"Step {name} found nothing of note. " * (5 + number % 60)
        if number % 197 == 96 and not alike:
            common |= {
                "state": "failed",
                "error_kind": "overloaded",
                "error_message": "Overloaded, 3 attempts.",
            }
        else:
            common["text"] = text
        prompt = (
            PromptPart("system", SYSTEM * 8),
            PromptPart("user", f"<task>\nLook at part {number}.\n</task>\n" + "x = 1\n" * 200),
        )
        calls = (
            call(
                name,
                began,
                ended,
                prompt=prompt,
                text=common.get("text"),
                agent_name=agents[layer % 5],
            ),
        )
        made[name] = step(name, began, ended, calls=calls, **common)
    failures = any(one.state == "failed" for one in made.values())
    return run(
        *made.values(),
        state="failed" if failures else "succeeded",
        workflow_name="audit-of-everything",
    )
