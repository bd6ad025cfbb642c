from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import (
    AgentResult,
    AsyncAgentOrchestrator,
    AttemptFailed,
    AttemptStarted,
    AuthenticationError,
    CallFailed,
    CallFinished,
    CallStarted,
    ClosedError,
    ConfigError,
    Event,
    IncompleteAnswerError,
    MissingCredentialsError,
    TextDelta,
)
from claude_force.simulator import Fault, FaultKind, SimulatorThread
from claude_force.testing import ScriptedClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import MakeAsync, Project

MARK = "[simulated answer: no model ran]"
# Some text arrives, and then nothing more until the client leaves.
ENDLESS = Fault(kind=FaultKind.STALL, after_bytes=1_000)


def test_execute_agent_gives_the_text(make_force: MakeAsync) -> None:
    async def main() -> str:
        async with make_force() as force:
            return await force.execute_agent("alpha", "Look at this")

    text = asyncio.run(main())
    assert type(text) is str
    assert text.startswith(MARK)
    assert "agent: You are alpha." in text
    assert "> Look at this" in text


def test_run_agent_gives_all_there_is_to_know(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    async def main() -> AgentResult:
        async with make_force(enable_cache=False) as force:
            return await force.run_agent("alpha", "Look at this", model="haiku")

    result = asyncio.run(main())
    assert result.ok
    assert result.agent_name == "alpha"
    assert result.stop_reason == "end_turn"
    assert result.requested_model == "claude-haiku-5-5"
    assert result.attempts == 1
    assert result.cached is None
    assert result.request_id
    assert result.request_id.startswith("req_")
    assert result.usage == simulator.stats.usage
    assert isinstance(result.cost_usd, Decimal)
    assert result.cost_usd > 0
    assert result.seconds > 0


def test_definition_goes_into_system_and_the_task_into_the_user_message(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    async def main() -> None:
        async with make_force() as force:
            await force.execute_agent("alpha", "Look", "opus", 500)

    asyncio.run(main())
    body = simulator.requests[0].body
    assert body["model"] == "claude-opus-5-5"
    assert body["max_tokens"] == 500
    assert body["stream"] is True
    assert [block["text"] for block in body["system"]] == ["You are alpha."]
    assert "temperature" not in body


def test_temperature_pins_the_version_that_takes_one(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    async def main() -> None:
        async with make_force() as force:
            await force.execute_agent("alpha", "Look", "claude-haiku-4-5", 4096, 0.5)

    asyncio.run(main())
    (request,) = simulator.requests
    assert request.body["temperature"] == 0.5
    assert request.headers["anthropic-version"] == "2023-06-01"


def test_load_config_and_load_agent_definition(make_force: MakeAsync, project: Project) -> None:
    project.config(performance={"max_concurrent_agents": 3, "timeout_seconds": 7})

    async def main() -> None:
        async with make_force() as force:
            settings = await force.load_config()
            assert settings.performance.max_concurrent_agents == 3
            assert force.max_concurrent == 3
            assert force.timeout_seconds == 7
            assert force.max_retries == 3
            assert await force.load_agent_definition("alpha") == "You are alpha."

    asyncio.run(main())


def test_constructor_reads_no_file_and_makes_no_connection(project: Project) -> None:
    project.write(".claude/claude.json", "not JSON")
    force = AsyncAgentOrchestrator()
    assert force.config_path is None
    with pytest.raises(ConfigError, match="not valid JSON"):
        asyncio.run(force.load_config())


def test_configuration_that_is_named_and_missing_is_an_error(project: Project) -> None:
    force = AsyncAgentOrchestrator("no/such/claude.json")
    with pytest.raises(ConfigError, match=r"no/such/claude\.json"):
        asyncio.run(force.load_config())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("alpha\n", "x"), "Invalid agent name: 'alpha\\\\n'"),
        (("../alpha", "x"), "Invalid agent name"),
        (("alpha;ls", "x"), "Invalid agent name"),
        (('al"pha', "x"), "Invalid agent name"),
        (("", "x"), "Invalid agent name"),
        (("delta", "x"), "Agent 'delta' not found"),
        (("alpha", "x" * 100_001), "Task too large: 100,001 characters, at most 100,000"),
        (("alpha", "  \n"), "The task is empty"),
        (("alpha", "x", None, 0), "max_tokens is 0"),
        (("alpha", "x", None, 10, 1.5), "temperature is 1.5"),
    ],
)
def test_call_that_cannot_be_sent_is_a_value_error_and_nothing_is_sent(
    make_force: MakeAsync, simulator: SimulatorThread, call: Any, message: str
) -> None:
    async def main() -> None:
        async with make_force() as force:
            for method in (force.execute_agent, force.run_agent):
                with pytest.raises(ValueError, match=message):
                    await method(*call)

    asyncio.run(main())
    assert simulator.stats.requests == 0


def test_task_of_exactly_100_000_characters_is_sent(make_force: MakeAsync) -> None:
    async def main() -> AgentResult:
        async with make_force() as force:
            return await force.run_agent("alpha", "x" * 100_000)

    assert asyncio.run(main()).ok


def test_execute_with_semaphore_is_execute_agent(make_force: MakeAsync) -> None:
    async def main() -> tuple[str, str]:
        async with make_force() as force:
            one = await force.execute_with_semaphore("alpha", "x", effort="low")
            return one, await force.execute_agent("alpha", "x", effort="low")

    one, other = asyncio.run(main())
    assert one == other


def test_deadline_is_a_timeout_error_and_frees_the_socket(
    make_force: MakeAsync, simulator: SimulatorThread, until: Callable[[Any], None]
) -> None:
    simulator.queue_fault(replace(ENDLESS, times=2))

    async def main() -> None:
        async with make_force(max_retries=0) as force:
            force.timeout_seconds = 0.2
            with pytest.raises(
                TimeoutError, match=r"within 0\.2 s .*The prompt is billed"
            ) as caught:
                await force.run_agent("alpha", "x")
            assert caught.value.usage.input_tokens > 0  # type: ignore[attr-defined] # a CallTimeoutError
            with pytest.raises(TimeoutError, match=r"within 0\.3 s"):
                await force.run_agent("alpha", "x", timeout_seconds=0.3)

    asyncio.run(main())
    until(lambda: simulator.stats.open_connections == 0)


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_numbers_that_would_let_nothing_run_are_refused(make_force: MakeAsync, value: Any) -> None:
    with pytest.raises(ConfigError, match="timeout_seconds"):
        make_force(timeout_seconds=value)
    with pytest.raises(ConfigError, match="max_concurrent"):
        make_force(max_concurrent=value)
    force = make_force()
    with pytest.raises(ConfigError, match="timeout_seconds"):
        force.timeout_seconds = value


def test_missing_key_sends_nothing_and_names_both_ways_on(
    project: Project, simulator: SimulatorThread
) -> None:
    async def main() -> None:
        async with AsyncAgentOrchestrator(base_url=simulator.base_url) as force:
            for attempt in (
                force.run_agent("alpha", "x"),
                force.execute_multiple([("alpha", "x")]),
                force.execute_workflow(["alpha"], "x"),
                anext(force.run_many([("alpha", "x")])),
                _drain(force),
            ):
                with pytest.raises(MissingCredentialsError) as caught:
                    await attempt
                assert "export ANTHROPIC_API_KEY=" in str(caught.value)
                assert "--simulate" in str(caught.value)

    asyncio.run(main())
    assert simulator.stats.requests == 0


async def _drain(force: AsyncAgentOrchestrator) -> list[Event]:
    return [event async for event in force.stream_agent("alpha", "x")]


@pytest.mark.parametrize("variable", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
def test_key_and_address_come_from_the_environment(
    project: Project, simulator: SimulatorThread, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "from-the-environment")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)

    async def main() -> AgentResult:
        async with AsyncAgentOrchestrator() as force:
            return await force.run_agent("alpha", "x")

    assert asyncio.run(main()).ok


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (FaultKind.MAX_TOKENS, "cut off at max_tokens=4,096"),
        (FaultKind.REFUSAL, "refused to answer"),
        (FaultKind.CONTEXT_EXCEEDED, "context is full"),
        (FaultKind.PAUSE_TURN, "paused its turn"),
        (FaultKind.NO_STOP_REASON, "without a reason"),
        (FaultKind.EMPTY_TEXT, "no text"),
    ],
)
def test_incomplete_answer_is_an_error_that_keeps_what_was_paid(
    make_force: MakeAsync, simulator: SimulatorThread, kind: FaultKind, message: str
) -> None:
    simulator.queue_fault(Fault(kind=kind))
    heard: list[Event] = []

    async def main() -> AgentResult:
        async with make_force(listeners=[heard.append]) as force:
            with pytest.raises(IncompleteAnswerError, match=message) as caught:
                await force.run_agent("alpha", "x")
            error = caught.value
            assert not error.response.complete
            assert error.response.usage == simulator.stats.usage
            assert error.cost_usd is not None
            assert error.cost_usd > 0
            assert error.agent_name == "alpha"
            # Not cached either: the next call asks again.
            return await force.run_agent("alpha", "x")

    assert asyncio.run(main()).ok
    assert simulator.stats.requests == 2
    assert [type(event) for event in heard if isinstance(event, CallFinished | CallFailed)] == [
        CallFailed,
        CallFinished,
    ]


def test_changed_agent_file_is_used_by_the_next_call(
    make_force: MakeAsync, project: Project, simulator: SimulatorThread
) -> None:
    async def main() -> None:
        async with make_force() as force:
            await force.execute_agent("alpha", "x")
            project.agent("alpha", "You are alpha, rewritten.")
            await force.execute_agent("alpha", "x")
            project.agent("delta", "You are new.")
            await force.execute_agent("delta", "x")

    asyncio.run(main())
    prompts = [request.body["system"][0]["text"] for request in simulator.requests]
    assert prompts == ["You are alpha.", "You are alpha, rewritten.", "You are new."]


def test_custom_client_is_asked_and_stays_open(project: Project) -> None:
    client = ScriptedClient(["first", "second"])

    async def main() -> list[str]:
        async with AsyncAgentOrchestrator(client=client) as force:
            return [await force.execute_agent("alpha", "x") for _ in range(2)]

    assert asyncio.run(main()) == ["first", "second"]
    assert not client.closed
    assert [request.system[0].text for request in client.requests] == ["You are alpha."] * 2


def test_use_after_close_is_an_error_and_closing_twice_is_none(make_force: MakeAsync) -> None:
    async def main() -> None:
        force = make_force()
        await force.execute_agent("alpha", "x")
        await force.aclose()
        await force.aclose()
        with pytest.raises(ClosedError, match="make a new one"):
            await force.execute_agent("alpha", "x")
        with pytest.raises(ClosedError):
            await anext(force.run_many([("alpha", "x")]))

    asyncio.run(main())


def test_close_makes_calls_under_way_fail(
    make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    simulator.queue_fault(ENDLESS)

    async def main() -> None:
        force = make_force()
        started = asyncio.Event()
        call = asyncio.create_task(_first_text(force, started))
        await started.wait()
        await force.aclose()
        with pytest.raises(ClosedError):
            await call

    asyncio.run(main())


async def _listen(force: AsyncAgentOrchestrator, events: list[Event]) -> None:
    async for event in force.stream_agent("alpha", "x"):
        events.append(event)  # noqa: PERF401 - what came before an error counts


async def _first_text(force: AsyncAgentOrchestrator, started: asyncio.Event) -> None:
    async for event in force.stream_agent("alpha", "x"):
        if isinstance(event, TextDelta):
            started.set()


def test_key_is_in_no_repr_and_no_error(make_force: MakeAsync, simulator: SimulatorThread) -> None:
    simulator.queue_fault(Fault(kind=FaultKind.AUTHENTICATION))

    async def main() -> None:
        async with make_force(api_key="sk-very-secret") as force:
            with pytest.raises(AuthenticationError) as caught:
                await force.run_agent("alpha", "x")
            assert "very-secret" not in repr(caught.value)
            assert "very-secret" not in repr(force)
            assert "very-secret" not in repr(force._runtime._options)

    asyncio.run(main())


class TestStream:
    def test_events_come_in_order_and_the_text_adds_up(self, make_force: MakeAsync) -> None:
        async def main() -> list[Event]:
            async with make_force(enable_cache=False) as force:
                return await _drain(force)

        events = asyncio.run(main())
        kinds = [type(event).__name__ for event in events]
        assert kinds[:3] == ["CallStarted", "AttemptStarted", "AnswerStarted"]
        assert kinds[-1] == "CallFinished"
        assert set(kinds[3:-1]) == {"TextDelta"}
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        last = events[-1]
        assert isinstance(last, CallFinished)
        assert last.result.text == text
        assert len({event.call_id for event in events if hasattr(event, "call_id")}) == 1

    def test_cut_answer_is_void_and_starts_again(
        self, make_force: MakeAsync, simulator: SimulatorThread
    ) -> None:
        simulator.queue_fault(Fault(kind=FaultKind.CUT, after_bytes=1_000))

        async def main() -> list[Event]:
            async with make_force(enable_cache=False) as force:
                return await _drain(force)

        events = asyncio.run(main())
        (failed,) = [event for event in events if isinstance(event, AttemptFailed)]
        assert failed.attempt == 1
        assert failed.error_kind == "transport"
        assert failed.text_was_sent
        assert failed.retry_in_seconds is not None
        assert [event.attempt for event in events if isinstance(event, AttemptStarted)] == [1, 2]
        after = events[events.index(failed) :]
        last = events[-1]
        assert isinstance(last, CallFinished)
        assert "".join(e.text for e in after if isinstance(e, TextDelta)) == last.result.text
        assert last.result.attempts == 2
        assert len(last.result.lost_usages) == 1
        assert simulator.stats.requests == 2

    def test_error_comes_after_the_events_that_led_there(
        self, make_force: MakeAsync, simulator: SimulatorThread
    ) -> None:
        simulator.queue_fault(Fault(kind=FaultKind.REFUSAL))
        events: list[Event] = []

        async def main() -> None:
            async with make_force() as force:
                with pytest.raises(IncompleteAnswerError):
                    await _listen(force, events)

        asyncio.run(main())
        assert type(events[0]) is CallStarted
        assert type(events[-1]) is CallFailed

    def test_early_close_cancels_the_request_and_leaves_no_task(
        self, make_force: MakeAsync, simulator: SimulatorThread, until: Callable[[Any], None]
    ) -> None:
        simulator.queue_fault(ENDLESS)

        async def main() -> None:
            async with make_force() as force:
                async with aclosing(force.stream_agent("alpha", "x")) as events:
                    async for event in events:
                        if isinstance(event, TextDelta):
                            break
                until(lambda: simulator.stats.open_connections == 0)
                assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(main())
        assert simulator.stats.answers == 0

    def test_cancelled_call_frees_its_place(
        self, make_force: MakeAsync, simulator: SimulatorThread
    ) -> None:
        simulator.queue_fault(ENDLESS)

        async def main() -> AgentResult:
            async with make_force(max_concurrent=1) as force:
                started = asyncio.Event()
                first = asyncio.create_task(_first_text(force, started))
                await started.wait()
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
                return await force.run_agent("alpha", "after that")

        assert asyncio.run(main()).ok


def test_listeners_hear_every_call_and_a_fault_of_theirs_ends_it(make_force: MakeAsync) -> None:
    first: list[Event] = []
    second: list[Event] = []

    async def main() -> None:
        async with make_force(listeners=[first.append, second.append]) as force:
            await force.execute_agent("alpha", "x")
            await force.execute_workflow(["beta"], "y", on_event=second.append)

        def broken(event: Event) -> None:
            raise RuntimeError("a broken listener")

        async with make_force(listeners=[broken]) as force:
            with pytest.raises(RuntimeError, match="a broken listener"):
                await force.execute_agent("alpha", "z")

    asyncio.run(main())
    names = [type(event).__name__ for event in first]
    assert names[0] == "CallStarted"
    assert names.count("CallFinished") == 2
    assert {"RunStarted", "StepStarted", "StepFinished", "RunFinished"} <= set(names)
    assert [type(event).__name__ for event in second].count("RunFinished") == 2
