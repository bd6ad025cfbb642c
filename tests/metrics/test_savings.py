"""What calls would have cost asked plainly is what they cost and what was saved on them, to the last digit."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_force import AsyncAgentOrchestrator, open_metrics
from claude_force.domain.errors import CallError, InvalidRequestError
from claude_force.domain.messages import MessageResponse
from claude_force.domain.usage import Usage
from claude_force.metrics.retention import sweep
from claude_force.metrics.schema import SCHEMA
from claude_force.pricing.catalogue import PriceCatalogue
from claude_force.storage.database import Schema, open_database
from claude_force.testing import ScriptedClient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.conftest import Cli, MakeBlocking, Project
    from tests.metrics.conftest import MakeLoad, MakeRow, OpenReader

    from claude_force.metrics.rows import CallRow

NOW = 1_795_435_200.0
DAY = 86_400
MODELS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5")
PRICES = PriceCatalogue()


@dataclass(frozen=True)
class Asked:
    """One call of a mix."""

    kind: Literal["answer", "hit", "fallback", "cut off"]
    model: str
    other_model: str
    usage: Usage
    lost: tuple[Usage, ...]


# On both sides of the size from which a whole prompt costs more.
tokens = st.integers(0, 150_000)
usages = st.builds(
    Usage,
    input_tokens=tokens,
    cache_write_5m_tokens=tokens,
    cache_write_1h_tokens=tokens,
    cache_read_tokens=tokens,
    output_tokens=st.integers(0, 5000),
)
mixes = st.lists(
    st.builds(
        Asked,
        kind=st.sampled_from(["answer", "answer", "hit", "fallback", "cut off"]),
        model=st.sampled_from(MODELS),
        other_model=st.sampled_from(MODELS),
        usage=usages,
        lost=st.lists(usages, max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=8,
)


def plainly(model: str, usage: Usage) -> Decimal:
    """The price of one request of which nothing is kept or read."""
    tariff = PRICES.tariff(model, at=datetime.now(UTC))
    assert tariff is not None
    plain = Usage(input_tokens=usage.total_input_tokens, output_tokens=usage.output_tokens)
    return tariff.cost_usd(plain)


def answer(asked: Asked, model: str) -> MessageResponse:
    cut_off = asked.kind == "cut off"
    return MessageResponse(
        message_id="m",
        model=model,
        text="an answer",
        stop_reason="max_tokens" if cut_off else "end_turn",
        usage=asked.usage,
        lost_usages=() if cut_off or asked.kind == "fallback" else asked.lost,
    )


async def ask_all(mix: Sequence[Asked], folder: Path) -> tuple[Decimal, Decimal]:
    """Make the calls; what they cost, and what they would have cost plainly, both worked out here."""
    actual, naive = Decimal(0), Decimal(0)
    plain_by_task: dict[tuple[str, str], Decimal] = {}
    for number, asked in enumerate(mix):
        falls_back = asked.kind == "fallback" and asked.model != asked.other_model
        script: list[MessageResponse | InvalidRequestError] = [
            answer(asked, asked.other_model if falls_back else asked.model)
        ]
        if falls_back:
            script.insert(0, InvalidRequestError("no such model", status=404))
        task, plain = f"Task {number}", plainly(asked.model, asked.usage)
        if asked.kind == "hit" and plain_by_task:
            (task, model), plain = next(iter(plain_by_task.items()))
            script.clear()
        else:
            model = asked.model
            if asked.kind in {"answer", "hit"}:
                plain += sum(plainly(model, usage) for usage in asked.lost)
                plain_by_task[task, model] = plain
        async with AsyncAgentOrchestrator(
            client=ScriptedClient(script, default=None),
            agents_dir=folder,
            cache_dir=folder / "cache",
            cache_origin="script",
            state_dir=folder / "state",
            prompt_cache=False,
        ) as force:
            try:
                result = await force.run_agent(
                    "writer", task, model=model, fallback=(asked.other_model,)
                )
                cost = result.cost_usd
            except CallError as error:
                cost = error.cost_usd
        assert cost is not None
        actual += cost
        naive += plain
    return actual, naive


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(mix=mixes)
def test_naive_is_actual_and_the_sum_of_the_lines_for_any_mix_of_calls(
    mix: list[Asked], project: Project
) -> None:
    with tempfile.TemporaryDirectory(dir=project.home) as name:
        folder = Path(name)
        (folder / "writer.md").write_text(
            "---\nname: writer\ndescription: Writes\n---\nYou write.\n", encoding="utf-8"
        )
        actual, naive = asyncio.run(ask_all(mix, folder))
        with closing(open_metrics(folder / "state")) as metrics:
            found = metrics.savings().value
    assert (found.calls, found.uncompared) == (len(mix), 0)
    assert found.actual_usd == actual
    assert found.naive_usd == naive
    assert found.naive_usd - found.actual_usd == sum(found.lines.values())


def test_each_line_is_what_its_part_saved(
    fill: Callable[[list[CallRow]], None], open_reader: OpenReader, make_row: MakeRow
) -> None:
    nothing = Decimal(0)
    ordinary: dict[str, Any] = {"prompt_cache_saved_usd": nothing}
    fill(
        [
            make_row(cost_usd=Decimal("0.010"), **ordinary),
            make_row(
                cost_usd=nothing,
                cached_tier="disk",
                saved_usd=Decimal("0.004"),
                plain_usd=Decimal("0.008"),
                **ordinary,
            ),
            make_row(cost_usd=Decimal("0.002"), prompt_cache_saved_usd=Decimal("0.003")),
            # A write that nobody read.
            make_row(cost_usd=Decimal("0.002"), prompt_cache_saved_usd=Decimal("-0.0005")),
            make_row(cost_usd=Decimal("0.001"), batch_saved_usd=Decimal("0.001"), **ordinary),
            make_row(cost_usd=Decimal("0.001"), fallback_saved_usd=Decimal("0.019"), **ordinary),
            # Nobody knows what these would have cost.
            make_row(cost_usd=Decimal("0.5")),
            make_row(cost_usd=None),
        ]
    )
    found = open_reader().savings().value
    assert found.lines == {
        "response cache": Decimal("0.008"),
        "prompt cache": Decimal("0.0025"),
        "batches": Decimal("0.001"),
        "fallbacks": Decimal("0.019"),
    }
    assert found.actual_usd == Decimal("0.516")
    assert found.naive_usd == Decimal("0.5465")
    assert (found.calls, found.uncompared) == (8, 2)


def test_roll_ups_say_what_the_rows_said(
    store_path: Path,
    fill: Callable[[list[CallRow]], None],
    open_reader: OpenReader,
    make_load: MakeLoad,
) -> None:
    load = make_load(1500, days=50)
    rows = [
        row._replace(
            plain_usd=Decimal(place) / 10_000 if row.cached_tier else Decimal(0),
            prompt_cache_saved_usd=None if place % 7 == 0 else Decimal(place - 300) / 100_000,
            batch_saved_usd=Decimal(place % 5) / 1000,
            fallback_saved_usd=Decimal(place % 3 - 1) / 1000,
        )
        for place, row in enumerate(load)
    ]
    fill(rows)
    before = open_reader().savings().value
    assert before.prompt_cache_usd == sum(row.prompt_cache_saved_usd or 0 for row in rows)
    assert before.batch_usd == sum(row.batch_saved_usd for row in rows)
    assert before.fallback_usd == sum(row.fallback_saved_usd for row in rows)
    assert before.response_cache_usd == sum(row.plain_usd for row in rows)
    assert before.uncompared == sum(row.prompt_cache_saved_usd is None for row in rows)
    with closing(open_database(store_path, SCHEMA)) as connection:
        sweep(connection, int(NOW) - 10 * DAY)
    after = open_reader()
    assert after.savings().value == before
    own = after.savings(agent="writer").value
    assert own.batch_usd == sum(row.batch_saved_usd for row in rows if row.agent_name == "writer")


def test_store_of_an_earlier_version_keeps_what_it_knew(
    store_path: Path, open_reader: OpenReader
) -> None:
    first = Schema(
        application_id=SCHEMA.application_id,
        migrations=SCHEMA.migrations[:1],
        shrinkable=SCHEMA.shrinkable,
    )
    hour = int(NOW) // 3600 * 3600
    day = int(NOW) // DAY * DAY
    with closing(open_database(store_path, first)) as connection:
        connection.execute("INSERT INTO names (name) VALUES ('writer'), ('m'), ('disk')")
        # One answer of the API for a dollar, and the same from the cache.
        for call, cost, tier, saved in (("c1", 10**12, 0, None), ("c2", 0, 3, 10**12)):
            connection.execute(
                "INSERT INTO calls VALUES (NULL, ?, ?, 1, 2, 2, 0, NULL, NULL, 0, 2.0, NULL, 1, 5, 6, 0, 0, ?, ?, ?)",
                (int(NOW * 1000), call, cost, tier, saved),
            )
        for table, start in (("hours", hour), ("agent_hours", hour), ("days", day)):
            connection.execute(
                f"INSERT INTO {table} VALUES (?, 1, 2, 0, 2, 0, 1, 0, 5, 6, 0, 0, ?, 0, ?, ?)",  # noqa: S608 - names above
                (start, 10**12, 10**12, b""),
            )
    reader = open_reader(NOW + 1200)
    found = reader.savings().value
    assert (found.calls, found.uncompared) == (2, 1)
    assert found.actual_usd == 1
    assert found.lines["response cache"] == 1
    assert reader.savings(600).value.calls == 0
    assert [(row.call_id, row.cost_usd, row.plain_usd) for row in reader.rows()] == [
        ("c1", Decimal(1), Decimal(0)),
        ("c2", Decimal(0), Decimal(1)),
    ]
    assert [row.prompt_cache_saved_usd for row in reader.rows()] == [None, 0]


def test_calls_of_one_millisecond_are_all_kept(
    store_path: Path, fill: Callable[[list[CallRow]], None], make_row: MakeRow
) -> None:
    for batch in range(3):
        fill([make_row(call_id=f"{batch}-{number}") for number in range(45)])
    with closing(sqlite3.connect(store_path)) as connection:
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (135,)


def test_batch_and_its_repetition_are_two_lines(
    project: Project, make_blocking: MakeBlocking
) -> None:
    with make_blocking() as force:
        batched = next(iter(force.run_batch([("alpha", "Name a colour.")])))
        again = force.run_agent("alpha", "Name a colour.")
    assert batched.cost_usd
    assert again.cached is not None
    assert again.cached.saved_usd == batched.cost_usd
    with closing(open_metrics(project.home / "state" / "claude-force")) as metrics:
        found = metrics.savings().value
    assert found.lines == {
        # Asked plainly, the cached answer would have cost twice what the batch took.
        "response cache": 2 * batched.cost_usd,
        "prompt cache": 0,
        "batches": batched.cost_usd,
        "fallbacks": 0,
    }
    assert found.actual_usd == batched.cost_usd
    assert found.naive_usd == 4 * batched.cost_usd


def test_second_of_two_equal_calls_of_a_batch_is_not_paid_for(
    project: Project, make_blocking: MakeBlocking
) -> None:
    with make_blocking() as force:
        outcomes = list(force.run_batch([("alpha", "Name a colour.")] * 2))
    assert [one.result is not None and one.result.cached is None for one in outcomes] == [
        True,
        False,
    ]
    with closing(open_metrics(project.home / "state" / "claude-force")) as metrics:
        found = metrics.savings().value
    assert found.response_cache_usd == 2 * found.actual_usd


@pytest.mark.usefixtures("project")
def test_command_shows_lines_that_add_up(cli: Cli) -> None:
    for agent in ("alpha", "alpha", "alpha", "beta"):
        assert cli("run", "agent", agent, "--task", "Look at this", "--json").code == 0
    shown = cli("metrics", "savings")
    assert shown.code == 0
    assert [line.split("  ")[0].rstrip() for line in shown.out.splitlines()] == [
        "asked plainly",
        "response cache",
        "prompt cache",
        "batches",
        "fallbacks",
        "paid",
    ]
    assert "4 calls in the last 7 d" in shown.out
    told = cli("metrics", "savings", "--json", "--since", "1h").json
    parts = ("response_cache", "prompt_cache", "batches", "fallbacks")
    saved = sum(Decimal(told[f"saved_by_{part}_usd"]) for part in parts)
    assert Decimal(told["naive_usd"]) == Decimal(told["actual_usd"]) + saved
    assert (told["calls"], told["calls_without_comparison"]) == (4, 0)
    # Two of the four answers came from the cache, and all cost about the same.
    assert 0.45 < told["saved_share"] < 0.55
    assert cli("metrics", "savings", "--agent", "nobody").out == (
        "No calls of nobody were recorded in the last 7 d.\n"
    )
