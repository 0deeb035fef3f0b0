"""Which failures are worth another try, how long it waits, and that a budget holds whatever comes."""

import random
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meridian.core.retrying import IDEMPOTENT, MEMORY_SECONDS, Allowance, Budget, Cause, Policy, Timeouts

ALL = Policy(causes=frozenset(Cause))


@pytest.mark.parametrize("cause", Cause)
def test_what_may_have_been_processed_is_repeated_only_for_methods_that_bear_it(cause: Cause) -> None:
    unsent = cause in (Cause.CONNECT, Cause.UNPROCESSED)
    assert ALL.allows(cause, b"GET", 1)
    assert ALL.allows(cause, b"POST", 1) is unsent
    assert Policy(causes=frozenset(Cause), methods=IDEMPOTENT | {b"POST"}).allows(cause, b"POST", 1)
    assert not Policy(causes=frozenset(Cause) - {cause}).allows(cause, b"GET", 1)


@given(st.integers(1, 11), st.integers(1, 20))
def test_tries_are_counted_with_the_first(tries: int, done: int) -> None:
    assert Policy(tries=tries).allows(Cause.CONNECT, b"GET", done) is (done < tries)


def test_the_first_further_try_goes_at_once_only_to_who_needs_no_rest() -> None:
    def always() -> float:
        return 0.5

    assert ALL.pause_seconds(1, always, at_once=True, asked_seconds=0.0) == 0.0
    assert ALL.pause_seconds(1, always, at_once=False, asked_seconds=0.0) == ALL.backoff_seconds / 2
    assert ALL.pause_seconds(2, always, at_once=True, asked_seconds=0.0) == ALL.backoff_seconds
    assert ALL.pause_seconds(1, always, at_once=True, asked_seconds=0.1) == 0.1, "it asked for that"
    assert ALL.pause_seconds(1, always, at_once=True, asked_seconds=inf) == ALL.backoff_seconds_max


@given(
    st.floats(0.001, 1.0), st.floats(1.0, 60.0), st.integers(1, 2000), st.floats(0.0, 1.0, exclude_max=True),
    st.booleans(), st.floats(0.0, 1e9),
)  # fmt: skip
def test_a_pause_is_within_its_doubled_base_and_the_greatest(
    base: float, longest: float, tries: int, drawn: float, at_once: bool, asked: float
) -> None:
    policy = Policy(backoff_seconds=base, backoff_seconds_max=longest)
    pause = policy.pause_seconds(tries, lambda: drawn, at_once=at_once, asked_seconds=asked)
    assert 0.0 <= pause <= longest
    assert pause >= min(asked, longest)
    if not asked:
        assert pause <= base * 2 ** min(tries - 1, 60)


def test_pauses_are_spread_over_their_whole_range() -> None:
    draw = random.Random(7).random
    pauses = [ALL.pause_seconds(3, draw, at_once=False, asked_seconds=0.0) for _ in range(1000)]
    assert min(pauses) < 0.01 and max(pauses) > 0.09 and 0.045 < sum(pauses) / 1000 < 0.055


_moves = st.lists(
    st.tuples(st.floats(0.0, 30.0) | st.just(0.0), st.integers(0, 2000), st.integers(0, 300)), min_size=1, max_size=40
)


@settings(deadline=None)
@given(st.floats(0.0, 1.0), st.floats(0.0, 50.0), _moves, st.floats(0.0, 1e6))
def test_a_budget_is_never_exceeded(
    ratio: float, per_second: float, moves: list[tuple[float, int, int]], began: float
) -> None:
    """Time passes, requests come, and as many retries as can be had are taken, in any pattern."""
    allowance, budget = Allowance(ratio, per_second), Budget(began)
    now, requests, taken = began, 0, 0
    for seconds, came, wanted in moves:
        now += seconds
        requests += came
        taken += sum(budget.take(allowance, requests, now) for _ in range(wanted))
        assert taken <= ratio * requests + per_second * (now - began + MEMORY_SECONDS) + 1e-6


def test_a_budget_gives_its_part_of_steady_load_and_forgets_what_is_not_spent() -> None:
    allowance, budget = Allowance(0.2, 0.0), Budget()
    taken = sum(budget.take(allowance, number, number / 1000) for number in range(1, 60_001))
    assert 0.2 * 60_000 - 10 <= taken <= 0.2 * 60_000
    idle = Budget()
    burst = sum(idle.take(allowance, 60_000, 3600.0) for _ in range(60_000))
    assert burst == int(0.2 * 60_000 / 3600 * MEMORY_SECONDS), "an hour's requests do not make a storm"


def test_few_requests_have_something_besides_and_no_allowance_is_none() -> None:
    few = Budget()
    assert sum(few.take(Allowance(0.2, 10.0), 1, 0.0) for _ in range(1000)) == 100
    assert not Budget().take(Allowance(0.0, 0.0), 1_000_000, 1000.0)


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    budget, allowance = Budget(10.0), Allowance(0.0, 1.0)
    assert sum(budget.take(allowance, 0, 10.0 - back) for back in range(100)) == MEMORY_SECONDS


def test_a_route_has_times_of_its_own() -> None:
    usual = Timeouts(answer=60.0, idle=30.0, total=5.0)
    assert usual.under(Policy(), None, None) == Timeouts(60.0, 30.0, 5.0, inf, False, True)
    assert usual.under(Policy(per_try_seconds=2.0), 7.0, 9.0) == Timeouts(2.0, 30.0, 7.0, 9.0, True, True)
    assert not Timeouts().under(Policy(per_try_seconds=90.0), None, None).per_try, "the upstream's is shorter"
