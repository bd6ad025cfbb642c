"""Laws of the circuit breaker, without a clock."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.domain.errors import (
    AuthenticationError,
    CallError,
    CallTimeoutError,
    CertificateError,
    CircuitOpenError,
    InvalidRequestError,
    RateLimitError,
    ServiceError,
    TransportError,
)
from claude_force.domain.usage import Usage
from claude_force.resilience.breaker import (
    CLOSED,
    BreakerPolicy,
    BreakerState,
    Outcome,
    Verdict,
    admit,
    outcome_of,
    passed,
    probed,
)

POLICY = BreakerPolicy(failures_to_open=5, interval_seconds=60)


def opened(at: float = 0.0) -> BreakerState:
    state = CLOSED
    for number in range(5):
        state = passed(state, POLICY, at, Outcome.DOWN, message=f"fault {number}")
    return state


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    state = CLOSED
    for _ in range(4):
        state = passed(state, POLICY, 1.0, Outcome.DOWN)
    assert admit(state, POLICY, 1.0, by="a")[1] is Verdict.PASS
    state = passed(state, POLICY, 2.0, Outcome.DOWN)
    assert admit(state, POLICY, 2.0, by="a")[1] is Verdict.REFUSE
    assert state.opened_at == 2.0


def test_a_success_between_failures_starts_the_count_again() -> None:
    state = CLOSED
    for number in range(100):
        state = passed(state, POLICY, number, Outcome.ALIVE if number % 5 == 4 else Outcome.DOWN)
    assert state == CLOSED


def test_the_latest_three_errors_are_kept() -> None:
    assert opened().errors == ("fault 2", "fault 3", "fault 4")


def test_a_probe_that_succeeds_closes_it_and_one_that_fails_costs_another_interval() -> None:
    probing, verdict = admit(opened(), POLICY, 60.0, by="a")
    assert verdict is Verdict.PROBE
    assert probed(probing, Outcome.ALIVE, by="a") == CLOSED
    failed = probed(probing, Outcome.DOWN, by="a", message="still down")
    assert admit(failed, POLICY, 119.9, by="b")[1] is Verdict.REFUSE
    assert admit(failed, POLICY, 120.0, by="b")[1] is Verdict.PROBE
    assert (failed.failures, failed.errors[-1]) == (6, "still down")


def test_a_probe_that_was_cancelled_leaves_it_open_for_another_interval() -> None:
    probing, _ = admit(opened(), POLICY, 60.0, by="a")
    abandoned = probed(probing, Outcome.UNKNOWN, by="a")
    assert admit(abandoned, POLICY, 61.0, by="b")[1] is Verdict.REFUSE
    assert admit(abandoned, POLICY, 120.0, by="b")[1] is Verdict.PROBE


def test_a_late_success_from_before_the_opening_does_not_close_it() -> None:
    assert passed(opened(), POLICY, 1.0, Outcome.ALIVE) == opened()


@given(
    steps=st.lists(
        st.tuples(
            st.floats(0, 30),
            st.sampled_from(["enter", "end"]),
            st.sampled_from(list(Outcome)),
            st.integers(0, 5),
        ),
        max_size=200,
    )
)
def test_under_any_interleaving_one_probe_at_most_is_under_way(
    steps: list[tuple[float, str, Outcome, int]],
) -> None:
    state, now, number = opened(), 0.0, 0
    probing: list[str] = []
    started: list[float] = []
    for elapsed, action, outcome, which in steps:
        now += elapsed
        if action == "enter":
            number += 1
            was_open = state.opened_at is not None
            state, verdict = admit(state, POLICY, now, by=str(number))
            assert (verdict is Verdict.PASS) == (not was_open)
            if verdict is Verdict.PROBE:
                probing.append(str(number))
                started.append(now)
        elif probing and which < 3:
            prober = probing.pop()
            state = probed(state, outcome, by=prober)
        else:
            # An ordinary request, or a prober that has lost its place: neither may disturb the probe.
            state = passed(probed(state, outcome, by="nobody"), POLICY, now, outcome)
        assert len(probing) <= 1
        assert (state.probe_by is not None) == bool(probing)
        if state.opened_at is None:
            started.clear()
    assert all(later - earlier >= 60 for earlier, later in pairwise(started))


@given(
    start=st.floats(0, 1e9),
    gaps=st.lists(st.floats(1, 20), min_size=1, max_size=50),
)
def test_thirty_minutes_of_outage_cost_a_probe_an_interval_and_end_within_one(
    start: float, gaps: list[float]
) -> None:
    state, now, probes, refused = CLOSED, start, 0, 0
    index = 0
    while now < start + 1800:
        state, verdict = admit(state, POLICY, now, by="a")
        match verdict:
            case Verdict.PASS:
                state = passed(state, POLICY, now, Outcome.DOWN)
            case Verdict.PROBE:
                probes += 1
                state = probed(state, Outcome.DOWN, by="a")
            case Verdict.REFUSE:
                refused += 1
        now += gaps[index % len(gaps)]
        index += 1
    assert probes <= 30
    # The service is back: whoever asks next after at most an interval finds out.
    recovery, verdict = admit(state, POLICY, now + 60, by="a")
    if state.opened_at is not None:
        assert verdict is Verdict.PROBE
        assert probed(recovery, Outcome.ALIVE, by="a") == CLOSED


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ServiceError("", status=500), Outcome.DOWN),
        (ServiceError("", status=529), Outcome.DOWN),
        (ServiceError("", error_type="overloaded_error"), Outcome.DOWN),
        (TransportError("cut"), Outcome.DOWN),
        (ServiceError("", status=408), Outcome.ALIVE),
        (ServiceError("", status=409), Outcome.ALIVE),
        (RateLimitError("", status=429), Outcome.ALIVE),
        (InvalidRequestError("", status=400), Outcome.ALIVE),
        (AuthenticationError("", status=401), Outcome.ALIVE),
        (CallTimeoutError("late"), Outcome.UNKNOWN),
        # An attempt's own time is over: not a word came, or the answer was on its way.
        (CallTimeoutError("silent", should_retry=True), Outcome.DOWN),
        (
            CallTimeoutError("slow", should_retry=True, usages=[Usage(input_tokens=9)]),
            Outcome.UNKNOWN,
        ),
        (CircuitOpenError("open"), Outcome.UNKNOWN),
        (CertificateError("expired"), Outcome.UNKNOWN),
    ],
)
def test_only_faults_of_the_service_and_the_connection_count(
    error: CallError, outcome: Outcome
) -> None:
    assert outcome_of(error) is outcome


@pytest.mark.parametrize("values", [{"failures_to_open": 0}, {"interval_seconds": 0.0}])
def test_a_policy_that_cannot_work_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="can never work"):
        BreakerPolicy(**values)  # type: ignore[arg-type] # the table mixes whole numbers and seconds


def test_failures_in_a_row_beside_successes_are_bad_luck_and_open_nothing() -> None:
    policy = BreakerPolicy(failures_to_open=5, silence_seconds=1.0)
    state = CLOSED
    for _ in range(20):
        state = passed(state, policy, 10.5, Outcome.DOWN, alive_at=10.0)
    assert state.opened_at is None
    assert state.failures == 20


def test_the_first_failure_after_a_second_of_silence_opens() -> None:
    policy = BreakerPolicy(failures_to_open=5, silence_seconds=1.0)
    state = CLOSED
    for _ in range(5):
        state = passed(state, policy, 10.5, Outcome.DOWN, alive_at=10.0)
    assert passed(state, policy, 11.0, Outcome.DOWN, alive_at=10.0).opened_at == 11.0
