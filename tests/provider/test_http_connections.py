"""Connections: reused, let go of, shared by threads and loops, and freed at once by a cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from typing import Any

import pytest

from claude_force.config.proxies import Proxies
from claude_force.domain.errors import CallError, ClosedError, TransportError
from claude_force.provider.http.errors import BrokenConnectionError, ConnectFailedError
from claude_force.provider.http.pool import ConnectionPool
from claude_force.provider.http.target import parse_target
from claude_force.simulator import Fault, FaultKind, Simulator, SimulatorThread


def pool_to(url: str) -> ConnectionPool:
    return ConnectionPool(
        parse_target(url, Proxies()), connect_timeout_seconds=5, idle_timeout_seconds=5
    )


def test_calls_one_after_the_other_share_a_connection(lab: Any) -> None:
    async def main() -> None:
        async with lab.serve(lab.answering(lab.chunked(lab.answer()))) as server:
            client = lab.client(server.url)
            for _ in range(20):
                assert (await client.send(lab.request())).text == "fine"
            assert (server.connections, len(server.heads)) == (1, 20)
            await client.aclose()
            await asyncio.sleep(0.05)
            assert server.open == 0

    lab.run(main())


def test_calls_at_the_same_time_have_a_connection_each_and_leave_them_for_the_next(
    lab: Any,
) -> None:
    async def main() -> None:
        async with lab.serve(lab.answering(lab.chunked(lab.answer()))) as server:
            client = lab.client(server.url)
            for _ in range(3):
                await asyncio.gather(*(client.send(lab.request()) for _ in range(30)))
            assert (server.connections, len(server.heads)) == (30, 90)
            await client.aclose()

    lab.run(main())


@pytest.mark.parametrize("loop_is_busy", [False, True])
def test_connection_that_the_server_closed_is_replaced_and_nothing_is_sent_twice(
    lab: Any, loop_is_busy: bool
) -> None:
    async def handle(peer: Any) -> None:
        await peer.request()
        await peer.send(lab.sized(lab.answer()))

    async def main() -> None:
        with SimulatorServerThread(lab, handle) as server:
            client = lab.client(server.url)
            for number in range(1, 6):
                assert (await client.send(lab.request(f"task {number}"))).text == "fine"
                if loop_is_busy:
                    # The goodbye arrives, and the loop has no turn to see it.
                    time.sleep(0.05)  # noqa: ASYNC251 - that is what is tested
                else:
                    await asyncio.sleep(0.05)
            await client.aclose()
            assert [body.count(b"task") for body in server.bodies] == [1] * 5
            assert server.connections == 5

    lab.run(main())


class SimulatorServerThread:
    """A server on a thread of its own, so that it goes on while the loop of the test is busy."""

    def __init__(self, lab: Any, handler: Any) -> None:
        self._lab, self._handler = lab, handler
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        async with self._lab.serve(self._handler) as self.server:
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> Any:
        self._thread.start()
        assert self._ready.wait(10)
        return self.server

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


def test_connection_that_is_closed_before_the_answer_fails_and_is_not_sent_again(lab: Any) -> None:
    async def handle(peer: Any) -> None:
        await peer.request()

    async def main() -> None:
        async with lab.serve(handle) as server:
            client = lab.client(server.url)
            with pytest.raises(TransportError, match="broke before the answer was complete"):
                await client.send(lab.request())
            assert len(server.heads) == 1
            await client.aclose()

    lab.run(main())


def test_data_on_an_idle_connection_ends_it(lab: Any) -> None:
    async def handle(peer: Any) -> None:
        await peer.request()
        await peer.send(lab.sized(lab.answer()))
        await asyncio.sleep(0.02)
        await peer.send(lab.sized(lab.answer("forged")))
        await peer.left()

    async def main() -> None:
        async with lab.serve(handle) as server:
            client = lab.client(server.url)
            assert (await client.send(lab.request())).text == "fine"
            await asyncio.wait_for(server.left.wait(), 5)
            assert (await client.send(lab.request())).text == "fine"
            assert server.connections == 2
            await client.aclose()

    lab.run(main())


def test_connection_that_asks_to_be_closed_is_not_used_again(lab: Any) -> None:
    data = lab.sized(lab.answer()).replace(b"\r\n", b"\r\nconnection: close\r\n", 1)

    async def main() -> None:
        async with lab.serve(lab.answering(data)) as server:
            client = lab.client(server.url)
            for number in (1, 2):
                await client.send(lab.request())
                assert server.connections == number
            await client.aclose()

    lab.run(main())


def test_tail_that_does_not_come_costs_half_a_second_and_the_connection(lab: Any) -> None:
    async def main() -> None:
        handler = lab.answering(lab.chunked(lab.answer(), end=False))
        async with lab.serve(handler) as server:
            client = lab.client(server.url)
            assert (await client.send(lab.request())).text == "fine"
            await client.send(lab.request())
            assert server.connections == 2
            await client.aclose()

    lab.run(main())


def test_old_idle_connections_are_closed(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from claude_force.provider.http import pool

    async def main() -> None:
        async with lab.serve(lab.answering(lab.chunked(lab.answer()))) as server:
            client = lab.client(server.url)
            await asyncio.gather(*(client.send(lab.request()) for _ in range(10)))
            assert server.open == 10
            monkeypatch.setattr(pool, "_MAX_IDLE_SECONDS", 0.1)
            await asyncio.sleep(0.15)
            await client.send(lab.request())
            await asyncio.sleep(0.05)
            assert (server.connections, server.open) == (11, 1)
            await asyncio.gather(*(client.send(lab.request()) for _ in range(3)))
            monkeypatch.setattr(pool, "_MAX_IDLE_SECONDS", 0.0)
            # Not taken: each of them is too old.
            await client.send(lab.request())
            assert server.connections == 14
            await client.aclose()

    lab.run(main())


def test_successive_loops_share_one_client_and_leave_nothing_open(lab: Any) -> None:
    with SimulatorThread() as sim:
        client = lab.client(sim.base_url)

        async def main() -> str:
            answers = await asyncio.gather(*(client.send(lab.request()) for _ in range(3)))
            return str(answers[0].text)

        texts = {lab.run(main()) for _ in range(5)}
        assert len(texts) == 1
        deadline = time.monotonic() + 10
        while sim.stats.open_connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sim.stats.open_connections == 0
        asyncio.run(client.aclose())


def test_threads_with_loops_of_their_own_share_one_client(lab: Any) -> None:
    with SimulatorThread() as sim:
        client = lab.client(sim.base_url)
        answers: list[str] = []

        async def main(number: int) -> None:
            for turn in range(5):
                calls = [client.send(lab.request(f"{number} {turn} {i}")) for i in range(5)]
                answers.extend(response.text for response in await asyncio.gather(*calls))

        threads = [threading.Thread(target=lambda n=n: asyncio.run(main(n))) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(answers) == 150
        assert sim.stats.requests == 150
        # No loop took the connection of another one: each has at most its own five.
        assert set(sim.stats.answers_by_fingerprint.values()) == {1}
        asyncio.run(client.aclose())


def test_closing_fails_the_calls_under_way_and_refuses_later_ones(lab: Any) -> None:
    async def main() -> None:
        async with lab.serve(lambda peer: peer.left()) as server:
            client = lab.client(server.url)
            calls = [asyncio.ensure_future(client.send(lab.request())) for _ in range(5)]
            while server.connections < 5:  # noqa: ASYNC110 - the server counts, and tells nobody
                await asyncio.sleep(0.005)
            await client.aclose()
            await client.aclose()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [ClosedError] * 5
            with pytest.raises(ClosedError, match="make a new one"):
                await client.send(lab.request())
            await asyncio.sleep(0.05)
            assert server.open == 0

    lab.run(main())


def test_call_that_was_connecting_when_the_client_closed_sends_nothing(lab: Any) -> None:
    async def main() -> None:
        async with lab.serve(lab.answering(lab.sized(lab.answer()))) as server:
            for turns in range(8):
                client = lab.client(server.url)
                call = asyncio.ensure_future(client.send(lab.request()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                await client.aclose()
                with contextlib.suppress(ClosedError):
                    # Those that had not begun are refused, those that had are cut; none is answered.
                    pytest.fail(f"answered after {turns} turns: {await call}")
            await asyncio.sleep(0.05)
            assert server.open == 0

    lab.run(main())


def test_closing_reaches_the_calls_of_another_thread(lab: Any) -> None:
    outcome: list[BaseException] = []
    with SimulatorThread() as sim:
        sim.queue_fault(Fault(kind=FaultKind.SLOW_HEADERS))
        client = lab.client(sim.base_url)

        async def call() -> None:
            try:
                await client.send(lab.request())
            except CallError as error:
                outcome.append(error)
            except ClosedError as error:
                outcome.append(error)

        thread = threading.Thread(target=lambda: asyncio.run(call()))
        thread.start()
        while sim.stats.requests < 1:
            time.sleep(0.01)
        asyncio.run(client.aclose())
        thread.join(10)
    assert [type(error) for error in outcome] == [ClosedError]


def test_closing_after_a_loop_has_ended_does_nothing(lab: Any) -> None:
    loop = asyncio.new_event_loop()

    async def main(url: str) -> Any:
        pool = pool_to(url)
        async with pool.connection() as connection:
            await connection.send(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", b"")
            while await connection.read() is not None:
                pass
        return pool

    with SimulatorThread() as sim:
        pool = loop.run_until_complete(main(sim.base_url))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        asyncio.run(pool.aclose())


def test_idle_connections_of_another_loop_are_closed_through_it(lab: Any) -> None:
    with SimulatorThread() as sim:
        client = lab.client(sim.base_url)
        done, release = threading.Event(), threading.Event()

        async def other() -> None:
            await client.send(lab.request())
            done.set()
            await asyncio.to_thread(release.wait, 10)
            await asyncio.sleep(0.05)

        thread = threading.Thread(target=lambda: asyncio.run(other()))
        thread.start()
        assert done.wait(10)
        asyncio.run(client.aclose())
        release.set()
        thread.join(10)
        assert sim.stats.requests == 1


def test_exchange_on_a_lost_connection_is_refused(lab: Any) -> None:
    async def main() -> None:
        async with lab.serve(lab.answering(close=True)) as server:
            pool = pool_to(server.url)
            async with pool.connection() as connection:
                for reason in ("the server closed the connection",) * 2:
                    with pytest.raises(BrokenConnectionError, match=reason):
                        await connection.send(b"POST / HTTP/1.1\r\n\r\n", b"")
                    await asyncio.sleep(0.02)
            await pool.aclose()

    lab.run(main())


def test_unread_body_keeps_a_connection_from_being_used_again(lab: Any) -> None:
    async def main() -> None:
        async with lab.serve(lab.answering(lab.sized(b"unread"))) as server:
            pool = pool_to(server.url)
            for number in (1, 2):
                async with pool.connection() as connection:
                    await connection.send(b"POST / HTTP/1.1\r\n\r\n", b"")
                assert server.connections == number
            await pool.aclose()

    lab.run(main())


def test_host_that_cannot_be_encoded_is_a_failed_connection(lab: Any) -> None:
    from claude_force.provider.http.target import Target

    async def main() -> None:
        target = Target(scheme="http", host="a..b", port=80, path="")
        pool = ConnectionPool(target, connect_timeout_seconds=5, idle_timeout_seconds=5)
        with pytest.raises(ConnectFailedError, match=r"idna|label"):
            async with pool.connection():
                pass
        await pool.aclose()

    lab.run(main())


# Cancellation.


@pytest.mark.parametrize("where", ["before the headers", "inside the answer"])
@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_cancelled_call_closes_its_socket_at_once(lab: Any, where: str, how: str) -> None:
    async def handle(peer: Any) -> None:
        await peer.request()
        if where == "inside the answer":
            await peer.send(lab.chunked(lab.events(lab.START), end=False))
        await peer.left()

    async def main() -> None:
        async with lab.serve(handle) as server:
            client = lab.client(server.url)
            if how == "timeout":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await client.send(lab.request())
            else:
                call = asyncio.ensure_future(client.send(lab.request()))
                await asyncio.sleep(0.05)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
            await asyncio.wait_for(server.left.wait(), 2)
            await client.aclose()

    lab.run(main())


def test_no_cancellation_is_swallowed_at_any_moment(lab: Any) -> None:
    """600 calls are cancelled at random moments: every one ends cancelled, or had its answer before."""
    chance = random.Random(7)  # noqa: S311 - a seed, so that a failure comes again

    async def handle(peer: Any) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(chance.random() * 0.004)
            await peer.send(lab.HEAD + b"transfer-encoding: chunked\r\n\r\n")
            for piece in lab.answer().split(b"\n\n")[:-1]:
                data = piece + b"\n\n"
                await peer.send(b"%x\r\n%b\r\n" % (len(data), data))
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.random() * 0.002)
            await peer.send(b"0\r\n\r\n")

    async def one(client: Any) -> str:
        call = asyncio.ensure_future(client.send(lab.request()))
        if chance.random() < 0.3:
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(chance.random() * 0.015)
        was_done = call.done()
        call.cancel()
        try:
            await call
        except asyncio.CancelledError:
            return "cancelled"
        return "answered" if was_done else "swallowed"

    async def main() -> None:
        async with lab.serve(handle) as server:
            client = lab.client(server.url)
            outcomes: list[str] = []
            for _ in range(30):
                outcomes += await asyncio.gather(*(one(client) for _ in range(20)))
            assert outcomes.count("swallowed") == 0
            assert outcomes.count("cancelled") > 200
            await client.aclose()
            await asyncio.sleep(0.05)
            assert server.open == 0

    lab.run(main())


def test_thousands_of_faulty_exchanges_leak_nothing(lab: Any) -> None:
    kinds = [
        *(FaultKind.CLOSE, FaultKind.RESET, FaultKind.GARBAGE, FaultKind.CUT, FaultKind.BAD_JSON),
        *(FaultKind.RESET_STREAM, FaultKind.EARLY_END, FaultKind.ERROR_OVERLOADED),
        *(FaultKind.OVERLOADED, FaultKind.REDIRECT, FaultKind.WRONG_CONTENT_TYPE),
    ]

    async def main() -> None:
        async with Simulator() as sim:
            client = lab.client(sim.base_url)
            tasks = len(asyncio.all_tasks())
            before = lab.descriptors()
            failures = 0
            for _ in range(40):
                for kind in kinds * 5:
                    sim.queue_fault(Fault(kind=kind))
                outcomes = await asyncio.gather(
                    *(client.send(lab.request()) for _ in range(55)), return_exceptions=True
                )
                assert all(isinstance(outcome, CallError) for outcome in outcomes)
                failures += len(outcomes)
            assert failures == 2200
            await client.aclose()
            await asyncio.sleep(0.1)
            assert lab.descriptors() <= before
            assert len(asyncio.all_tasks()) == tasks
            assert sim.stats.open_connections == 0

    lab.run(main())


def test_nothing_of_a_client_shows_its_key(lab: Any) -> None:
    client = lab.client("https://api.anthropic.com")
    assert lab.key not in repr(client)
    assert lab.key not in repr(client._pool) + repr(client._pool.target)
    lab.run(client.aclose())
