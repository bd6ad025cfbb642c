"""Retries, the deadline and the places of a call. Time is skipped, not waited for."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.domain.errors import (
    AuthenticationError,
    CallError,
    CallTimeoutError,
    InvalidRequestError,
    RateLimitError,
    RunStoppedError,
    ServiceError,
    SpendLimitError,
    TransportError,
)
from claude_force.domain.events import (
    AnswerStarted,
    AttemptFailed,
    AttemptStarted,
    Event,
    EventListener,
    TextDelta,
)
from claude_force.domain.usage import Usage
from claude_force.provider.resilient import ResilientClient
from claude_force.resilience.breaker import BreakerPolicy
from claude_force.resilience.circuit_breakers import CircuitBreakers
from claude_force.resilience.governor import Governor
from claude_force.resilience.retries import RetryPolicy
from claude_force.testing import ScriptedClient
from claude_force.workflows.run_stop import RunStop

if TYPE_CHECKING:
    from claude_force.domain.messages import MessageRequest, MessageResponse

PROMPT = Usage(input_tokens=100, output_tokens=1)


@dataclass
class SlowClient:
    """Takes some time for every answer, and tells the prompt at once."""

    seconds: float
    sent: list[float] = field(default_factory=list)
    closed: bool = False

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        self.sent.append(asyncio.get_running_loop().time())
        if on_event is not None:
            on_event(AnswerStarted("call-1", "req_1", PROMPT))
        await asyncio.sleep(self.seconds)
        return await ScriptedClient().send(request)

    async def aclose(self) -> None:
        self.closed = True


class LoopClock:
    """The time of the loop that runs, for parts that ask for it from a thread of their own too."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        with contextlib.suppress(RuntimeError):
            self._seconds = asyncio.get_running_loop().time()
        return self._seconds


def resilient(inner: Any, *, max_concurrent: int = 10, **options: Any) -> ResilientClient:
    """A client whose limits and breaker never stand in the way: they have tests of their own."""
    return ResilientClient(
        inner,
        governor=Governor(max_concurrent=max_concurrent, first_window=1000, clock=LoopClock()),
        breakers=CircuitBreakers(BreakerPolicy(failures_to_open=1000)),
        origin="http://127.0.0.1",
        policy=RetryPolicy(max_retries=options.pop("max_retries", 3)),
        **{"timeout_seconds": 60.0, "random_unit": lambda: 0.5, **options},
    )


def overloaded(**fields: Any) -> ServiceError:
    return ServiceError("Overloaded.", status=529, error_type="overloaded_error", **fields)


def outcome(lab: Any, client: ResilientClient, **changes: Any) -> tuple[Any, list[Event], float]:
    """The response or the error of one call, its events, and the seconds that it took."""
    events: list[Event] = []

    async def main() -> tuple[Any, list[Event], float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            result: Any = await client.send(lab.request(**changes), events.append)
        except CallError as error:
            result = error
        return result, events, loop.time() - began

    found: tuple[Any, list[Event], float] = lab.skip_time(main())
    return found


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_max_retries_is_requests_minus_one(lab: Any, max_retries: int) -> None:
    inner = ScriptedClient([overloaded() for _ in range(10)])
    error, events, _ = outcome(lab, resilient(inner, max_retries=max_retries))
    assert isinstance(error, ServiceError)
    assert len(inner.requests) == error.attempts == max_retries + 1
    assert [type(event) for event in events] == [AttemptStarted, AttemptFailed] * (max_retries + 1)


def test_answer_after_failures_tells_attempts_and_what_was_lost(lab: Any) -> None:
    lost = [Usage(input_tokens=5, output_tokens=n) for n in (1, 2)]
    inner = ScriptedClient([
        TransportError("cut", usages=[lost[0]]),
        overloaded(usages=[lost[1]]),
        "the answer",
    ])  # fmt: skip
    response, events, seconds = outcome(lab, resilient(inner))
    assert (response.text, response.attempts) == ("the answer", 3)
    assert response.lost_usages == tuple(lost)
    # Half of 0.5 s and half of 1 s: full jitter over a doubling range.
    assert seconds == pytest.approx(0.25 + 0.5)
    told = [event for event in events if isinstance(event, AttemptFailed)]
    assert [(event.attempt, event.error_kind, event.retry_in_seconds) for event in told] == [
        (1, "transport", 0.25),
        (2, "service", 0.5),
    ]


def test_failed_call_carries_the_usage_of_every_attempt(lab: Any) -> None:
    inner = ScriptedClient([TransportError("cut", usages=[PROMPT]) for _ in range(3)])
    error, _, _ = outcome(lab, resilient(inner, max_retries=2))
    assert error.usages == (PROMPT,) * 3
    assert error.usage.input_tokens == 300


def test_text_that_was_handed_out_before_a_failure_is_declared_void(lab: Any) -> None:
    class Breaking(ScriptedClient):
        async def send(
            self, request: MessageRequest, on_event: EventListener | None = None
        ) -> MessageResponse:
            if on_event is not None and not self.requests:
                on_event(TextDelta("call-1", "half of"))
            return await super().send(request, on_event)

    _, events, _ = outcome(lab, resilient(Breaking([TransportError("cut"), overloaded(), "done"])))
    failures = [event for event in events if isinstance(event, AttemptFailed)]
    assert [event.text_was_sent for event in failures] == [True, False]


@pytest.mark.parametrize(
    ("text", "output_tokens"), [("word " * 190, 250), ("\u8a9e" * 300, 300), ("", 1)]
)
def test_text_of_an_answer_that_broke_off_is_counted(
    lab: Any, text: str, output_tokens: int
) -> None:
    """The API tells how long an answer was when it ends; this one did not, and is billed all the same."""

    class Breaking(ScriptedClient):
        async def send(
            self, request: MessageRequest, on_event: EventListener | None = None
        ) -> MessageResponse:
            if on_event is not None and not self.requests and text:
                for start in range(0, len(text), 7):
                    on_event(TextDelta("call-1", text[start : start + 7]))
            return await super().send(request, on_event)

    inner = Breaking([TransportError("cut", usages=[PROMPT]), "done"])
    response, _, _ = outcome(lab, resilient(inner))
    assert [usage.input_tokens for usage in response.lost_usages] == [PROMPT.input_tokens]
    assert [usage.output_tokens for usage in response.lost_usages] == [output_tokens]


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError("no", status=400),
        AuthenticationError("no", status=401),
        SpendLimitError("no", status=429),
        overloaded(should_retry=False),
    ],
    ids=lambda error: error.kind,
)
def test_final_error_is_not_retried(lab: Any, error: CallError) -> None:
    inner = ScriptedClient([error])
    result, events, seconds = outcome(lab, resilient(inner))
    assert result is error
    assert (len(inner.requests), seconds, error.attempts) == (1, 0.0, 1)
    assert isinstance(events[-1], AttemptFailed)
    assert events[-1].retry_in_seconds is None


def test_retry_after_is_a_floor_under_the_wait(lab: Any) -> None:
    inner = ScriptedClient([RateLimitError("slow", status=429, retry_after_seconds=20), "done"])
    response, _, seconds = outcome(lab, resilient(inner))
    assert response.text == "done"
    assert seconds == pytest.approx(20.25)


def test_retry_after_beyond_the_deadline_is_an_error_at_once(lab: Any) -> None:
    inner = ScriptedClient([RateLimitError("slow", status=429, retry_after_seconds=61)])
    error, _, seconds = outcome(lab, resilient(inner))
    assert isinstance(error, RateLimitError)
    assert (seconds, len(inner.requests)) == (0.0, 1)


@given(attempt=st.integers(1, 20), unit=st.floats(0, 1, exclude_max=True))
def test_jitter_stays_within_its_bounds(attempt: int, unit: float) -> None:
    policy = RetryPolicy(max_retries=20, first_wait_seconds=0.5, max_wait_seconds=30)
    wait = policy.wait_seconds(
        overloaded(), attempt=attempt, remaining_seconds=1e9, random_unit=unit
    )
    assert wait is not None
    assert 0 <= wait <= min(30.0, 0.5 * 2 ** (attempt - 1))


def test_deadline_ends_a_call_as_a_timeout_error_and_keeps_the_prompt(lab: Any) -> None:
    error, events, seconds = outcome(lab, resilient(SlowClient(1000), timeout_seconds=30))
    assert isinstance(error, CallTimeoutError)
    assert isinstance(error, TimeoutError)
    assert seconds == pytest.approx(30)
    assert error.usages == (PROMPT,)
    assert "No complete answer within 30 s (attempt 1). The prompt is billed all the same." in str(
        error
    )
    assert [type(event) for event in events] == [AttemptStarted, AnswerStarted, AttemptFailed]


def test_attempt_beyond_its_deadline_is_retried_within_that_of_the_call(lab: Any) -> None:
    inner = SlowClient(1000)
    client = resilient(inner, timeout_seconds=25, attempt_timeout_seconds=10)
    error, events, seconds = outcome(lab, client)
    # 10 s, 0.25 s, 10 s, 0.5 s, and the third attempt has what is left of the call.
    assert seconds == pytest.approx(25)
    assert "No complete answer within 25 s (attempt 3)" in str(error)
    assert (error.attempts, error.usages, len(inner.sent)) == (3, (PROMPT,) * 3, 3)
    failures = [event for event in events if isinstance(event, AttemptFailed)]
    assert [event.retry_in_seconds for event in failures] == [0.25, 0.5, None]
    assert failures[0].message.startswith(
        "Attempt 1 had no complete answer within 10 s. The prompt"
    )


def test_attempt_beyond_its_deadline_is_not_retried_beyond_max_retries(lab: Any) -> None:
    client = resilient(SlowClient(1000), attempt_timeout_seconds=10, max_retries=0)
    error, _, seconds = outcome(lab, client)
    assert isinstance(error, CallTimeoutError)
    assert seconds == pytest.approx(10)
    assert error.attempts == 1


def stopping(lab: Any, client: ResilientClient, after_seconds: float, *, cut: bool) -> Any:
    """How a call ends whose run is stopped after some time, and the seconds that it took."""
    stop = RunStop(lambda _: False)

    async def main() -> tuple[Any, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        loop.call_later(after_seconds, lambda: stop.stop(RunStoppedError("enough"), cut=cut))
        try:
            result: Any = await client.send(lab.request(context={"halt": stop}), stop)
        except CallError as error:
            result = error
        return result, loop.time() - began

    return lab.skip_time(main())


@pytest.mark.parametrize("cut", [False, True])
def test_stopped_run_ends_the_wait_for_a_retry_and_keeps_what_was_lost(lab: Any, cut: bool) -> None:
    late = TransportError("cut", usages=[PROMPT], retry_after_seconds=40)
    error, seconds = stopping(lab, resilient(ScriptedClient([late, "never"])), 7, cut=cut)
    assert isinstance(error, RunStoppedError)
    assert str(error) == "Not sent, because the run was stopped: enough"
    assert (error.attempts, error.usages, seconds) == (1, (PROMPT,), pytest.approx(7))


def test_run_that_is_stopped_while_a_retry_waits_for_a_budget_keeps_what_was_lost(lab: Any) -> None:
    class Waiting:
        """The budgets of a run that is stopped before it has room for another attempt."""

        def spend(self) -> None:
            return None

        async def renew(self, lost: Any) -> None:
            assert lost == (PROMPT,)
            await asyncio.sleep(1)
            raise RunStoppedError("the user has stopped the run", attempts=0)

    inner = ScriptedClient([TransportError("cut", usages=[PROMPT])])
    error, events, _ = outcome(lab, resilient(inner), context={"allowance": Waiting()})
    assert isinstance(error, RunStoppedError)
    assert (error.usages, error.attempts) == ((PROMPT,), 1)
    (failed,) = [event for event in events if isinstance(event, AttemptFailed)]
    assert (failed.error_kind, failed.retry_in_seconds) == ("transport", None)


def test_stopped_run_lets_an_attempt_on_the_wire_end_and_makes_no_other(lab: Any) -> None:
    response, seconds = stopping(lab, resilient(SlowClient(20)), 7, cut=False)
    assert (response.attempts, seconds) == (1, pytest.approx(20))

    class Late(SlowClient):
        async def send(
            self, request: MessageRequest, on_event: EventListener | None = None
        ) -> MessageResponse:
            await super().send(request, on_event)
            raise overloaded(usages=[PROMPT])

    inner = Late(20)
    error, seconds = stopping(lab, resilient(inner), 7, cut=False)
    assert isinstance(error, RunStoppedError)
    assert (error.attempts, error.usages, seconds) == (1, (PROMPT,), pytest.approx(20))
    assert len(inner.sent) == 1


def test_run_that_is_cut_ends_an_attempt_on_the_wire_and_counts_its_prompt(lab: Any) -> None:
    error, seconds = stopping(lab, resilient(SlowClient(20)), 7, cut=True)
    assert isinstance(error, RunStoppedError)
    assert (str(error), error.attempts, error.usages) == ("enough", 1, (PROMPT,))
    assert seconds == pytest.approx(7)


@pytest.mark.parametrize("cut", [False, True])
def test_call_of_a_run_that_was_stopped_before_is_not_sent(lab: Any, cut: bool) -> None:
    stop = RunStop(lambda _: False)
    stop.stop(RunStoppedError("enough"), cut=cut)
    inner = ScriptedClient()
    client = resilient(inner)

    async def main() -> None:
        with pytest.raises(RunStoppedError, match="Not sent") as caught:
            await client.send(lab.request(context={"halt": stop}), stop)
        assert caught.value.attempts == 0

    lab.skip_time(main())
    assert not inner.requests


def test_deadline_of_the_call_goes_before_that_of_the_client(lab: Any) -> None:
    client = resilient(SlowClient(1000), timeout_seconds=30)
    _, _, seconds = outcome(lab, client, context={"timeout_seconds": 5})
    assert seconds == pytest.approx(5)


def test_deadline_counts_retries_and_their_waits(lab: Any) -> None:
    class Failing(SlowClient):
        async def send(
            self, request: MessageRequest, on_event: EventListener | None = None
        ) -> MessageResponse:
            self.sent.append(asyncio.get_running_loop().time())
            await asyncio.sleep(8)
            raise RateLimitError("slow", status=429, retry_after_seconds=1)

    inner = Failing(0)
    error, _, seconds = outcome(lab, resilient(inner, timeout_seconds=20, max_retries=9))
    # 8 s, 1.25 s, 8 s, 1.5 s, and the third attempt is cut off after what is left of 20 s.
    assert seconds == pytest.approx(20)
    assert isinstance(error, CallTimeoutError)
    assert len(inner.sent) == error.attempts == 3
    # Nothing had been counted for the last one.
    assert "billed" not in str(error)


def test_deadline_does_not_count_the_queue_before_the_first_place(lab: Any) -> None:
    inner = SlowClient(9)
    client = resilient(inner, max_concurrent=1, timeout_seconds=10)

    async def main() -> list[MessageResponse]:
        return await asyncio.gather(*(client.send(lab.request()) for _ in range(5)))

    assert len(lab.skip_time(main())) == 5
    assert [sent - inner.sent[0] for sent in inner.sent] == pytest.approx([0, 9, 18, 27, 36])


def test_deadline_counts_the_queue_before_another_place_and_nothing_is_sent_after_it(
    lab: Any,
) -> None:
    class Once(SlowClient):
        async def send(
            self, request: MessageRequest, on_event: EventListener | None = None
        ) -> MessageResponse:
            if not self.sent:
                self.sent.append(0.0)
                raise overloaded(usages=[PROMPT])
            return await super().send(request, on_event)

    inner = Once(100)
    client = resilient(inner, max_concurrent=1, timeout_seconds=200)
    events: list[Event] = []

    async def main() -> CallError:
        short = lab.request(context={"timeout_seconds": 10})
        call = asyncio.ensure_future(client.send(short, events.append))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # Takes the only place for 100 seconds while the first call waits for its retry.
        other = asyncio.ensure_future(client.send(lab.request("other")))
        with pytest.raises(CallTimeoutError, match="attempt 2 was not sent") as caught:
            await call
        await other
        return caught.value

    error = lab.skip_time(main())
    assert (error.attempts, error.usages) == (1, (PROMPT,))
    assert len(inner.sent) == 2
    assert [type(event) for event in events] == [AttemptStarted, AttemptFailed]


def test_deadline_that_passed_in_the_wait_lets_nothing_out(lab: Any) -> None:
    """The place is free again in the very moment of the deadline."""

    class Jumping(SlowClient):
        async def send(
            self, request: MessageRequest, on_event: EventListener | None = None
        ) -> MessageResponse:
            if not self.sent:
                self.sent.append(0.0)
                raise overloaded()
            response = await super().send(request, on_event)
            # The clock jumps while the loop is busy, so that place and deadline come together.
            loop: Any = asyncio.get_running_loop()
            loop._skipping.skipped_seconds += 10
            return response

    inner = Jumping(0.4)
    client = resilient(inner, max_concurrent=1, timeout_seconds=10)

    async def main() -> None:
        call = asyncio.ensure_future(client.send(lab.request("late")))
        await asyncio.sleep(0.2)
        await client.send(lab.request("other"))
        with pytest.raises(CallTimeoutError):
            await call

    lab.skip_time(main())
    assert len(inner.sent) == 2


def test_no_place_is_held_while_a_call_waits_for_its_next_attempt(lab: Any) -> None:
    inner = ScriptedClient([TransportError("cut"), "b", "a"])
    client = resilient(inner, max_concurrent=1, random_unit=lambda: 0.9)

    async def main() -> tuple[str, str]:
        first = asyncio.ensure_future(client.send(lab.request("first")))
        await asyncio.sleep(0.1)
        second = await client.send(lab.request("second"))
        return (await first).text, second.text

    assert lab.skip_time(main()) == ("a", "b")


@pytest.mark.parametrize("seconds_until", [0.0, 0.2, 5.0])
def test_cancellation_leaves_no_place_taken(lab: Any, seconds_until: float) -> None:
    class Mixed(SlowClient):
        async def send(
            self, request: MessageRequest, on_event: EventListener | None = None
        ) -> MessageResponse:
            if len(self.sent) % 2:
                self.sent.append(0.0)
                raise TransportError("cut")
            return await super().send(request, on_event)

    inner = Mixed(10)
    client = resilient(inner, max_concurrent=2)

    async def main() -> None:
        calls = [asyncio.ensure_future(client.send(lab.request())) for _ in range(8)]
        await asyncio.sleep(seconds_until)
        for call in calls:
            call.cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(one, asyncio.CancelledError) for one in done)
        inner.sent.clear()
        began = asyncio.get_running_loop().time()
        inner.sent.append(0.0)
        inner.sent.append(0.0)
        # Both places are free: a call that needs ten seconds has its answer after ten.
        await client.send(lab.request())
        assert asyncio.get_running_loop().time() - began == pytest.approx(10)

    lab.skip_time(main())


@pytest.mark.parametrize("seconds", [9.999, 10.0, 10.0001])
@pytest.mark.parametrize("stopped", [False, True])
def test_cancellation_beside_the_deadline_is_never_swallowed(
    lab: Any, seconds: float, stopped: bool
) -> None:
    stop = RunStop(lambda _: False)

    async def main() -> asyncio.Task[MessageResponse]:
        loop = asyncio.get_running_loop()
        client = resilient(SlowClient(1000), timeout_seconds=10)
        request = lab.request(context={"halt": stop})
        call = asyncio.ensure_future(client.send(request, stop))
        loop.call_at(loop.time() + seconds, call.cancel)
        if stopped:
            loop.call_at(loop.time() + 10, lambda: stop.stop(RunStoppedError("enough"), cut=True))
        await asyncio.wait((call,))
        return call

    call = lab.skip_time(main())
    # Whoever came first decides; both together are a cancellation.
    if seconds <= 10:
        assert call.cancelled()
    else:
        assert isinstance(call.exception(), CallTimeoutError | RunStoppedError)


def test_deadline_leaves_the_task_that_called_as_it_was(lab: Any) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        for _ in range(3):
            with pytest.raises(CallTimeoutError):
                await resilient(SlowClient(1000), timeout_seconds=1).send(lab.request())
            assert task.cancelling() == 0
        # And a timeout of its own around a call still works.
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(5):
                await resilient(SlowClient(1000), timeout_seconds=10).send(lab.request())
        assert not isinstance(caught.value, CallError)
        assert task.cancelling() == 0

    lab.skip_time(main())


@pytest.mark.parametrize("error", [TimeoutError, KeyError])
def test_error_of_a_listener_is_not_taken_for_the_deadline(
    lab: Any, error: type[Exception]
) -> None:
    client = resilient(ScriptedClient())

    def listen(event: Event) -> None:
        if isinstance(event, TextDelta):
            raise error("of the listener")

    async def main() -> None:
        with pytest.raises(error, match="of the listener"):
            await client.send(lab.request(), listen)

    lab.skip_time(main())


def test_call_that_nobody_listens_to_works_the_same(lab: Any) -> None:
    inner = ScriptedClient([overloaded(), "done"])
    client = resilient(inner)

    async def main() -> MessageResponse:
        response = await client.send(lab.request())
        await client.aclose()
        return response

    assert lab.skip_time(main()).attempts == 2
    assert inner.closed
