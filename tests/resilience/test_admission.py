"""Laws of admission, with faked time: what may go out, in which order, and that nothing stays reserved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from claude_force.domain.rate_limits import LimitReading, RateSnapshot
from claude_force.domain.usage import Usage
from claude_force.resilience.admission import NEVER, Admission
from claude_force.resilience.concurrency_window import ConcurrencyWindow
from claude_force.resilience.fair_queue import FairQueue
from claude_force.resilience.pace import Pace
from claude_force.resilience.rate_class import Estimate, RateClass
from claude_force.resilience.sharing import UserLimits
from claude_force.resilience.ticket import Ticket

KEY = "sonnet at https://api"
SMALL = Estimate(100, 50)
NO_PAUSE = float("-inf")


def admission(max_concurrent: int = 10, **changes: float) -> Admission:
    return Admission(UserLimits(max_concurrent=max_concurrent), shared=False, **changes)


def report(requests: int, remaining: int) -> RateSnapshot:
    return RateSnapshot(requests=LimitReading(requests, remaining))


class GovernedApi(RuleBasedStateMachine):
    """An API with one bucket of requests and one of input tokens, exact and without delay, and our admission."""

    requests_a_minute = 12
    input_a_minute = 3_000

    @initialize(concurrent=st.integers(1, 20))
    def start(self, concurrent: int) -> None:
        self.now = 0.0
        self.admission = admission(concurrent, first_window=8)
        self.concurrent = concurrent
        self.requests_left = float(self.requests_a_minute)
        self.input_left = float(self.input_a_minute)
        self.under_way: list[tuple[Ticket, RateSnapshot | None]] = []
        self.refusals = 0
        self.limits_known = False

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.requests_left = min(12.0, self.requests_left + seconds / 5)
        self.input_left = min(3_000.0, self.input_left + seconds * 50)
        self.send(self.admission.pump(self.now))

    @rule(flow=st.sampled_from("abc"), tokens=st.integers(1, 900))
    def enter(self, flow: str, tokens: int) -> None:
        self.enter_one(flow, tokens)

    @rule(flow=st.sampled_from("abc"), tokens=st.integers(1, 300), number=st.integers(2, 12))
    def enter_many(self, flow: str, tokens: int, number: int) -> None:
        for _ in range(number):
            self.enter_one(flow, tokens)

    def enter_one(self, flow: str, tokens: int) -> None:
        # Nothing is known before the first answer: the first requests go out one by one.
        ticket = Ticket(KEY, flow, Estimate(tokens, 10))
        if not self.limits_known and self.under_way:
            return
        if self.admission.enter(ticket, self.now):
            self.send([ticket])

    def send(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            tokens = ticket.estimate.input_tokens
            if self.requests_left < 1 or self.input_left < tokens:
                self.refusals += 1
                self.under_way.append((ticket, None))
                continue
            self.requests_left -= 1
            self.input_left -= tokens
            told = RateSnapshot(
                requests=LimitReading(12, int(self.requests_left)),
                input_tokens=LimitReading(3_000, int(self.input_left)),
            )
            self.under_way.append((ticket, told))
            if not self.limits_known:
                self.limits_known = True
                self.answer(0)

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 100))
    def answer(self, which: int) -> None:
        ticket, told = self.under_way.pop(which % len(self.under_way))
        assert ticket.reservation is not None
        rate = self.admission.classes[KEY].rate
        if told is not None:
            rate.observe(ticket.reservation, told)
            rate.succeeded()
        usage = Usage(input_tokens=ticket.estimate.input_tokens, output_tokens=5)
        self.admission.finish(ticket, usage)
        self.send(self.admission.pump(self.now))

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        ticket, _ = self.under_way.pop(which % len(self.under_way))
        self.admission.finish(ticket, None)
        self.send(self.admission.pump(self.now))

    @invariant()
    def nothing_was_refused(self) -> None:
        assert self.refusals == 0

    @invariant()
    def what_is_reserved_is_what_is_under_way(self) -> None:
        if not hasattr(self, "admission") or KEY not in self.admission.classes:
            return
        rate = self.admission.classes[KEY].rate
        reservations = [ticket.reservation for ticket, _ in self.under_way]
        held = [reservation for reservation in reservations if reservation is not None]
        assert self.admission.in_flight == rate.in_flight == len(held) <= self.concurrent
        assert rate.requests.reserved == len(held)
        assert rate.input_tokens.reserved == pytest.approx(sum(r.input_tokens for r in held))
        assert rate.output_tokens.reserved == pytest.approx(sum(r.output_tokens for r in held))

    @invariant()
    def somebody_who_can_go_is_not_kept(self) -> None:
        if not hasattr(self, "admission") or not self.admission.waiting:
            return
        assert not self.admission.pump(self.now)
        # Who waits knows for what: a time, or a place that is taken.
        if self.admission.next_seconds == NEVER:
            assert self.under_way

    def teardown(self) -> None:
        if not hasattr(self, "admission"):
            return
        for _ in range(10_000):
            if not self.under_way and not self.admission.waiting:
                break
            while self.under_way:
                self.answer(0)
            self.wait(5.0)
        assert self.admission.in_flight == self.admission.waiting == 0


TestGovernedApi = GovernedApi.TestCase


def test_a_flow_of_ten_thousand_does_not_starve_a_flow_of_one() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(10_000):
        queue.put("map", number)
    queue.put("workflow", -1)
    assert [queue.take(), queue.take(), queue.take()] == [0, -1, 1]


@given(arrivals=st.lists(st.sampled_from("abcd"), min_size=1, max_size=80))
def test_flows_take_turns_and_each_is_served_in_order(arrivals: list[str]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number, flow in enumerate(arrivals):
        queue.put(flow, (flow, number))
    waiting = {flow: arrivals.count(flow) for flow in arrivals}
    served: list[tuple[str, int]] = []
    while queue:
        most = len([flow for flow, count in waiting.items() if count])
        recent = [flow for flow, _ in served[-(most - 1) :]] if most > 1 else []
        flow, number = queue.take()
        # Nobody comes again before every other flow that waits had its turn.
        assert flow not in recent
        waiting[flow] -= 1
        served.append((flow, number))
    for flow in "abcd":
        numbers = [number for name, number in served if name == flow]
        assert numbers == sorted(numbers)


def test_who_leaves_the_queue_is_not_served() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("x", "y", "z"):
        queue.put("flow", item)
    assert queue.remove("flow", "y") is True
    assert queue.remove("flow", "y") is False
    assert (len(queue), queue.drain(), queue.first()) == (2, ["x", "z"], None)
    with pytest.raises(LookupError):
        queue.take()


@given(successes=st.integers(0, 300), refusals=st.integers(0, 30))
def test_a_window_only_grows_by_successes_and_only_shrinks_by_refusals(
    successes: int, refusals: int
) -> None:
    window = ConcurrencyWindow()
    for _ in range(successes):
        before = window.size
        window.succeeded(int(before))
        assert before < window.size <= before + 1
    for number in range(refusals):
        before = window.size
        assert window.refused(sent_at=number, now=number + 0.5)
        assert window.size == max(1.0, before * 0.7)
    assert window.size >= 1


def test_a_window_doubles_each_round_trip_and_after_a_refusal_grows_by_one() -> None:
    window = ConcurrencyWindow(first=4)
    for _ in range(4):
        window.succeeded(4)
    assert window.size == 8
    window.refused(sent_at=1.0, now=2.0)
    assert window.size == pytest.approx(5.6)
    for _ in range(6):
        window.succeeded(5)
    assert 6.4 < window.size < 6.7


def test_refusals_of_one_round_trip_shrink_a_window_once() -> None:
    window = ConcurrencyWindow(first=10)
    assert [window.refused(sent_at=1.0, now=2.0) for _ in range(5)] == [True, *[False] * 4]
    assert window.size == 7


def test_an_unused_window_does_not_grow() -> None:
    window = ConcurrencyWindow(first=10)
    for _ in range(100):
        window.succeeded(4)
    assert window.size == 10


def test_a_ramp_refusal_halves_the_growth_from_there_on() -> None:
    usual, ramped = ConcurrencyWindow(first=10), ConcurrencyWindow(first=10)
    usual.refused(sent_at=1.0, now=2.0)
    ramped.ramped_too_fast(sent_at=1.0, now=2.0)
    usual.succeeded(7)
    ramped.succeeded(7)
    assert usual.size - 7 == pytest.approx(2 * (ramped.size - 7))


def test_a_retry_after_holds_the_whole_class_back_until_then_and_no_other() -> None:
    gate = admission()
    first = Ticket(KEY, "a", SMALL)
    gate.enter(first, 0.0)
    assert first.reservation is not None
    gate.classes[KEY].rate.refused(first.reservation, 1.0, retry_after_seconds=30.0)
    second = Ticket(KEY, "a", SMALL)
    assert not gate.enter(second, 2.0)
    assert gate.enter(Ticket("haiku at https://api", "a", SMALL), 2.0)
    assert gate.pump(2.0) == []
    assert gate.next_seconds == 29.0
    assert gate.pump(31.0) == [second]


def test_a_short_pause_concerns_its_own_call_until_refusals_come_in_a_row() -> None:
    rate = RateClass()
    pauses = []
    for number in range(3):
        sent = rate.reserve(float(number), SMALL)
        rate.refused(sent, number + 0.1, retry_after_seconds=0.2)
        rate.settle(sent, None)
        pauses.append(rate.blocked_until)
    assert pauses == [NO_PAUSE, NO_PAUSE, 2.1 + 0.2]


def test_a_short_pause_holds_everybody_back_when_a_limit_is_empty() -> None:
    rate = RateClass()
    sent = rate.reserve(0.0, SMALL)
    rate.observe(sent, report(60, 0))
    rate.refused(sent, 0.1, retry_after_seconds=0.2)
    assert rate.blocked_until == 0.1 + 0.2


def test_refusals_without_a_time_pause_longer_and_longer_until_a_success() -> None:
    rate, pauses = RateClass(), []
    for number in range(7):
        sent = rate.reserve(number * 100.0, SMALL)
        rate.refused(sent, number * 100.0 + 1, retry_after_seconds=None)
        rate.settle(sent, None)
        pauses.append(rate.blocked_until - number * 100.0 - 1)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 16]
    rate.succeeded()
    sent = rate.reserve(1000.0, SMALL)
    rate.refused(sent, 1001.0, retry_after_seconds=None)
    assert rate.blocked_until == 1001.5


def test_without_headers_only_the_window_and_max_concurrent_bound() -> None:
    gate = admission(50)
    out = 0
    tickets = [Ticket(KEY, "a", Estimate(10**9, 10**9)) for _ in range(500)]
    for ticket in tickets:
        gate.enter(ticket, 0.0)
    under_way = [ticket for ticket in tickets if ticket.reservation is not None]
    assert len(under_way) == 4
    while under_way:
        assert len(under_way) <= 50
        gate.classes[KEY].rate.succeeded()
        gate.finish(under_way.pop(0), Usage(input_tokens=10**9))
        out += 1
        under_way += gate.pump(0.0)
    assert out == 500


def test_requests_beyond_what_remains_wait_for_the_refill() -> None:
    gate = admission(100, first_window=100)
    first = Ticket(KEY, "a", SMALL)
    gate.enter(first, 0.0)
    assert first.reservation is not None
    gate.classes[KEY].rate.observe(first.reservation, report(60, 2))
    tickets = [Ticket(KEY, "a", SMALL) for _ in range(4)]
    assert [gate.enter(ticket, 0.0) for ticket in tickets] == [True, True, False, False]
    assert gate.pump(0.5) == []
    assert gate.next_seconds == pytest.approx(0.5)
    assert gate.pump(1.0) == [tickets[2]]
    assert gate.pump(2.0) == [tickets[3]]


def test_a_request_larger_than_the_limit_goes_out_when_the_bucket_is_full() -> None:
    gate = admission()
    first = Ticket(KEY, "a", SMALL)
    gate.enter(first, 0.0)
    assert first.reservation is not None
    told = RateSnapshot(input_tokens=LimitReading(6_000, 0))
    gate.classes[KEY].rate.observe(first.reservation, told)
    gate.finish(first, Usage(input_tokens=100))
    huge = Ticket(KEY, "a", Estimate(50_000, 10))
    assert not gate.enter(huge, 0.0)
    assert gate.pump(59.0) == []
    assert gate.pump(60.0) == [huge]


def test_a_late_report_changes_nothing() -> None:
    gate = admission()
    first, second = Ticket(KEY, "a", SMALL), Ticket(KEY, "a", SMALL)
    gate.enter(first, 0.0)
    gate.enter(second, 0.0)
    rate = gate.classes[KEY].rate
    assert first.reservation is not None
    assert second.reservation is not None
    rate.observe(second.reservation, report(60, 10))
    rate.observe(first.reservation, report(60, 59))
    assert rate.requests.free == 10


def test_prompts_from_the_cache_teach_that_less_input_is_needed() -> None:
    rate = RateClass()
    for _ in range(100):
        sent = rate.reserve(0.0, Estimate(10_000, 10))
        rate.settle(sent, Usage(input_tokens=100, cache_read_tokens=9_900, output_tokens=5))
    assert rate.needs(Estimate(10_000, 10))[1] < 500
    sent = rate.reserve(0.0, Estimate(10_000, 10))
    rate.settle(sent, Usage(input_tokens=10_000, output_tokens=5))
    assert rate.needs(Estimate(10_000, 10))[1] > 5_000


def test_a_pause_lets_nothing_out_and_resuming_lets_all_out() -> None:
    gate = admission()
    gate.set_own_limits(UserLimits(max_concurrent=10, paused=True))
    ticket = Ticket(KEY, "a", SMALL)
    assert not gate.enter(ticket, 0.0)
    assert gate.pump(1e6) == []
    gate.set_own_limits(UserLimits(max_concurrent=10))
    assert gate.pump(1e6) == [ticket]


@given(
    per_minute=st.integers(1, 6_000),
    asks=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_a_pace_never_lets_more_than_its_limit_and_a_second_into_a_minute(
    per_minute: int, asks: list[float]
) -> None:
    pace, now, sent = Pace(per_minute), 0.0, []
    for elapsed in asks:
        now += elapsed
        while pace.wait_seconds(now) <= 0.0 and len(sent) < 5_000:
            pace.sent(now)
            sent.append(now)
    for index, start in enumerate(sent):
        within = sum(1 for at in sent[index:] if at < start + 60 - 1e-6)
        assert within <= per_minute + per_minute / 60 + 1
        if index > 50:
            break
