"""Who goes first, who waits, and what becomes of them when something goes wrong."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.domain.companions import Companions
from claude_force.domain.errors import ServiceError
from claude_force.domain.events import AnswerStarted
from claude_force.domain.messages import (
    CallContext,
    Message,
    MessageRequest,
    MessageResponse,
    TextBlock,
)
from claude_force.domain.usage import Usage
from claude_force.provider.prompt_cache.client import PromptCacheClient

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from claude_force.domain.events import EventListener

# Caches from 512 tokens.
MODEL = "claude-opus-5"
SHARED = "word " * 1000


@dataclass(eq=False)
class Sent:
    """A request that has gone out; the test says when it is answered."""

    request: MessageRequest
    listener: EventListener | None
    end: asyncio.Future[MessageResponse]

    @property
    def marks(self) -> int:
        blocks = [*self.request.system, *self.request.messages[0].content]
        return sum(block.cache_ttl is not None for block in blocks)

    @property
    def task(self) -> str:
        return self.request.messages[0].content[-1].text

    def begin(self, usage: Usage = Usage(cache_read_tokens=1)) -> None:  # noqa: B008 - frozen
        if self.listener is not None:
            self.listener(AnswerStarted("c", None, usage))

    def finish(self) -> None:
        self.end.set_result(
            MessageResponse(
                message_id="m", model=MODEL, text="t", stop_reason="end_turn", usage=Usage()
            )
        )


@dataclass
class Api:
    """The other end: it keeps what arrives until the test answers it."""

    sent: list[Sent] = field(default_factory=list)

    async def send(
        self, request: MessageRequest, on_event: EventListener | None = None
    ) -> MessageResponse:
        sent = Sent(request, on_event, asyncio.get_running_loop().create_future())
        self.sent.append(sent)
        return await sent.end

    async def aclose(self) -> None:
        """Nothing is held."""

    def tasks(self) -> list[str]:
        return [sent.task for sent in self.sent]


def request(task: str = "Go.", *, shared: str = SHARED, **context: Any) -> MessageRequest:
    return MessageRequest(
        model=MODEL,
        max_tokens=9,
        messages=(Message("user", (TextBlock(shared), TextBlock(task))),),
        context=CallContext(**context),
    )


def together(count: int) -> list[MessageRequest]:
    """Calls of one fan-out, which knows how many they are."""
    companions = Companions()
    companions.expect(count)
    return [request(f"{number}", seat=companions.seat()) for number in range(count)]


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what a timer or another thread does."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.005)


async def end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await main

    asyncio.run(bounded())


def start(client: PromptCacheClient, requests: list[MessageRequest]) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(client.send(one)) for one in requests]


def test_one_goes_first_and_the_others_follow_its_first_event() -> None:
    async def main() -> None:
        api = Api()
        client = PromptCacheClient(api)
        tasks = start(client, together(10))
        await settle()
        assert [sent.marks for sent in api.sent] == [1]
        api.sent[0].begin()
        await settle()
        assert len(api.sent) == 10
        assert {sent.marks for sent in api.sent} == {1}
        for sent in api.sent:
            sent.finish()
        await asyncio.gather(*tasks)

    run(main())


def test_call_to_a_warm_prefix_waits_for_nobody() -> None:
    async def main() -> None:
        api = Api()
        client = PromptCacheClient(api)
        tasks = start(client, together(2))
        await settle()
        api.sent[0].begin()
        tasks.append(asyncio.create_task(client.send(request("late"))))
        # One step: the call is sent without giving the loop away.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert "late" in api.tasks()
        await end(*tasks)

    run(main())


def test_short_prompts_wait_for_nobody() -> None:
    async def main() -> None:
        api = Api()
        companions = Companions()
        companions.expect(3)
        requests = [
            request(f"{number}", shared="short", seat=companions.seat()) for number in range(3)
        ]
        tasks = start(PromptCacheClient(api), requests)
        await asyncio.sleep(0)
        assert api.tasks() == ["0", "1", "2"]
        assert companions.on_the_way == 0
        await end(*tasks)

    run(main())


def test_companions_that_share_nothing_go_as_soon_as_all_are_there() -> None:
    async def main() -> None:
        api = Api()
        client = PromptCacheClient(api, curiosity_seconds=60)
        companions = Companions()
        companions.expect(3)
        requests = [
            request("x", shared=f"{number}{SHARED}", seat=companions.seat()) for number in range(3)
        ]
        tasks = start(client, requests[:2])
        await settle()
        assert api.sent == []
        tasks += start(client, requests[2:])
        await settle()
        assert [sent.marks for sent in api.sent] == [0, 0, 0]
        await end(*tasks)

    run(main())


def test_companion_that_a_cache_has_answered_is_not_waited_for() -> None:
    async def main() -> None:
        api = Api()
        client = PromptCacheClient(api, curiosity_seconds=60)
        first, second = together(2)
        tasks = start(client, [first])
        await settle()
        assert api.sent == []
        assert second.context.seat is not None
        second.context.seat.settle()
        await settle()
        assert [sent.marks for sent in api.sent] == [0]
        await end(*tasks)

    run(main())


def test_curiosity_has_an_end() -> None:
    async def main() -> None:
        api = Api()
        first, _ = together(2)
        tasks = start(PromptCacheClient(api, curiosity_seconds=0.01), [first])
        await until(lambda: api.sent)
        assert api.sent[0].marks == 0
        await end(*tasks)

    run(main())


def test_writer_that_fails_hands_over_to_one_of_those_who_wait() -> None:
    async def main() -> None:
        api = Api()
        tasks = start(PromptCacheClient(api), together(5))
        await settle()
        api.sent[0].end.set_exception(ServiceError("down"))
        await settle()
        assert len(api.sent) == 2
        api.sent[1].begin()
        await settle()
        assert len(api.sent) == 5
        await end(*tasks)

    run(main())


def test_writer_that_is_cancelled_hands_over() -> None:
    async def main() -> None:
        api = Api()
        client = PromptCacheClient(api)
        tasks = start(client, together(4))
        await settle()
        first = next(at for at in range(4) if f"{at}" == api.sent[0].task)
        await end(tasks.pop(first))
        await settle()
        assert len(api.sent) == 2
        await end(*tasks)

    run(main())


def test_cancelled_waiter_leaves_and_holds_nobody_up() -> None:
    async def main() -> None:
        api = Api()
        client = PromptCacheClient(api)
        tasks = start(client, together(4))
        await settle()
        waiting = [at for at in range(4) if f"{at}" != api.sent[0].task]
        await end(tasks[waiting[0]])
        api.sent[0].begin()
        await settle()
        assert len(api.sent) == 3
        await end(*tasks)
        # Nothing is left behind: a call alone finds no reader present and no write under way.
        alone = asyncio.create_task(PromptCacheClient(api).send(request("alone")))
        await settle()
        assert api.sent[-1].marks == 0
        await end(alone)

    run(main())


def test_cancelled_undecided_call_leaves() -> None:
    async def main() -> None:
        api = Api()
        client = PromptCacheClient(api, curiosity_seconds=60)
        first, _, _ = together(3)
        tasks = start(client, [first])
        await settle()
        await end(*tasks)
        later = start(client, [request("later", shared="other " * 1000)])
        await settle()
        assert [sent.marks for sent in api.sent] == [0]
        await end(*later)

    run(main())


def test_patience_ends_and_one_takes_over_while_the_rest_pay_the_plain_price() -> None:
    async def main() -> None:
        api = Api()
        client = PromptCacheClient(api, patience_seconds=0.05)
        tasks = start(client, together(6))
        await until(lambda: len(api.sent) == 6)
        # The first, and the one that took over.
        assert sorted(sent.marks for sent in api.sent) == [0, 0, 0, 0, 1, 1]
        await end(*tasks)

    run(main())


def test_calls_to_another_model_are_not_held_up() -> None:
    async def main() -> None:
        api = Api()
        client = PromptCacheClient(api)
        tasks = start(client, together(3))
        await settle()
        other = MessageRequest(
            model="claude-sonnet-5", max_tokens=9, messages=request("other").messages
        )
        tasks += start(client, [other])
        await settle()
        assert len(api.sent) == 2
        assert api.sent[1].request.model == "claude-sonnet-5"
        await end(*tasks)

    run(main())


def test_prefix_that_the_provider_does_not_keep_is_marked_once_and_waited_for_once() -> None:
    async def main() -> None:
        api = Api()
        client = PromptCacheClient(api)
        tasks = start(client, together(4))
        await settle()
        api.sent[0].begin(Usage(input_tokens=500))
        await settle()
        assert [sent.marks for sent in api.sent] == [1, 0, 0, 0]
        await end(*tasks)

    run(main())


def test_request_with_marks_of_its_own_is_sent_as_it_is() -> None:
    async def main() -> None:
        api = Api()
        own = MessageRequest(
            model=MODEL,
            max_tokens=9,
            messages=(Message("user", (TextBlock(SHARED, "1h"), TextBlock("Go."))),),
        )
        tasks = start(PromptCacheClient(api), [own, own])
        await settle()
        assert [sent.request for sent in api.sent] == [own, own]
        await end(*tasks)

    run(main())


@pytest.mark.parametrize(("one_hour", "expected"), [(True, "1h"), (False, None)])
def test_gaps_of_ten_minutes_are_measured_and_outlasted(
    one_hour: bool, expected: str | None
) -> None:
    now = 0.0

    async def main() -> None:
        nonlocal now
        api = Api()
        client = PromptCacheClient(api, one_hour=one_hour, clock=lambda: now)
        for number in range(5):
            task = asyncio.create_task(client.send(request(f"{number}")))
            await settle()
            sent = api.sent[-1]
            sent.begin()
            sent.finish()
            await task
            now += 600
        lifetimes = [sent.request.messages[0].content[0].cache_ttl for sent in api.sent]
        assert lifetimes == [None, None, expected, expected, expected]

    run(main())


def test_waiter_on_another_loop_is_woken() -> None:
    api = Api()
    client = PromptCacheClient(api)
    loops: list[asyncio.AbstractEventLoop] = []
    done = threading.Event()

    async def other() -> None:
        loops.append(asyncio.get_running_loop())
        await client.send(request("there"))

    def in_thread() -> None:
        asyncio.run(other())
        done.set()

    async def main() -> None:
        thread = threading.Thread(target=in_thread)
        tasks = start(client, together(2))
        await settle()
        thread.start()
        await until(lambda: loops)
        await asyncio.sleep(0.05)
        assert "there" not in api.tasks()
        api.sent[0].begin()
        await until(lambda: "there" in api.tasks())
        there = next(sent for sent in api.sent if sent.task == "there")
        assert there.marks == 1
        loops[0].call_soon_threadsafe(there.finish)
        await until(done.is_set)
        thread.join()
        await end(*tasks)

    run(main())


def test_companions_to_come_are_readers_until_they_are_there() -> None:
    companions = Companions()
    seat = companions.later_seat([b"a", b"b"])
    companions.later_seat([b"a"])
    assert (companions.to_come(b"a"), companions.to_come(b"b")) == (2, 1)
    seat.settle()
    seat.settle()
    assert (companions.to_come(b"a"), companions.to_come(b"b")) == (1, 0)
    assert companions.on_the_way == 0
