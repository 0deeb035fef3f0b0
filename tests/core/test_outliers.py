"""An endpoint that fails is left alone, for longer each time, and comes back by one good try."""

from hypothesis import given
from hypothesis import strategies as st

from meridian.core.outliers import (
    FRESH,
    USUAL,
    Outlier,
    Policy,
    Sample,
    Shown,
    State,
    eject_standout,
    is_capped,
    standouts,
    step,
    wake,
)

FAILURES_IN_A_ROW, EJECTION_SECONDS, EJECTION_SECONDS_MAX = USUAL.failures_in_a_row, USUAL.seconds, USUAL.seconds_max
STRICT = Policy(errors_in_a_row=2, success_deviations=1.5, latency_factor=3.0, answers_min=10)


def failed(outlier: Outlier, times: int, now: float) -> Outlier:
    """After so many failures."""
    for _ in range(times):
        outlier = step(outlier, Shown.FAILED, now)
    return outlier


def test_failures_in_a_row_eject_and_a_success_between_starts_again() -> None:
    outlier = failed(FRESH, FAILURES_IN_A_ROW - 1, 0.0)
    assert outlier.state is State.ADMITTED
    assert failed(step(outlier, Shown.WHOLE, 0.0), FAILURES_IN_A_ROW - 1, 0.0).state is State.ADMITTED
    assert failed(outlier, 1, 0.0).state is State.EJECTED


def test_one_probe_decides() -> None:
    outlier = failed(FRESH, FAILURES_IN_A_ROW, 10.0)
    assert wake(outlier, 10.0 + EJECTION_SECONDS - 0.01) is outlier
    probing = wake(outlier, 10.0 + EJECTION_SECONDS)
    assert probing.state is State.PROBING
    assert step(probing, Shown.WHOLE, 13.0) == FRESH
    again = step(probing, Shown.FAILED, 13.0)
    assert again.state is State.EJECTED and again.until == 13.0 + 2 * EJECTION_SECONDS


def test_a_straggler_does_not_prolong() -> None:
    outlier = failed(FRESH, FAILURES_IN_A_ROW, 0.0)
    assert step(outlier, Shown.FAILED, 1.0) is outlier


@given(st.integers(1, 5000))
def test_ejections_grow_up_to_a_bound(times: int) -> None:
    outlier, now = FRESH, 0.0
    outlier = failed(outlier, FAILURES_IN_A_ROW, now)
    for _ in range(times):
        length = outlier.until - now
        assert EJECTION_SECONDS <= length + 1e-6 <= EJECTION_SECONDS_MAX + 1e-3
        now = outlier.until
        outlier = step(wake(outlier, now), Shown.FAILED, now)


def test_errors_in_a_row_count_where_the_document_says_so_and_a_whole_error_is_one() -> None:
    assert step(FRESH, Shown.ERROR, 0.0) is FRESH, "it answers"
    one = step(step(FRESH, Shown.ERROR, 0.0, STRICT), Shown.WHOLE, 0.0, STRICT)
    assert (one.state, one.errors) == (State.ADMITTED, 1)
    assert step(one, Shown.GOOD, 0.0, STRICT) is FRESH
    two = step(one, Shown.ERROR, 0.0, STRICT)
    assert two.state is State.EJECTED
    assert step(two, Shown.WHOLE, 0.0, STRICT) is two, "the end of the answer that ejected it"
    assert step(one, Shown.ERROR, 0.0, STRICT, capped=True).state is State.ADMITTED


def test_a_good_answer_ends_an_ejection_for_failures_but_not_one_of_a_standout() -> None:
    """When all are ejected they are all tried (fail open), and one that answers is back."""
    assert step(failed(FRESH, FAILURES_IN_A_ROW, 0.0), Shown.GOOD, 0.1) is FRESH
    standout = eject_standout(Sample(stands_out=2), 0.0, STRICT)
    assert standout.until == 2 * STRICT.interval_seconds
    assert step(standout, Shown.GOOD, 0.1) is standout
    assert wake(standout, standout.until).state is State.PROBING


def test_one_may_always_be_ejected_and_no_more_than_the_part() -> None:
    assert not is_capped(0, 1, STRICT) and is_capped(1, 3, STRICT)
    assert not is_capped(4, 10, STRICT) and is_capped(5, 10, STRICT)


def samples(*errors_and_seconds: tuple[int, float], answers: int = 100) -> list[Sample]:
    """Of so many answers each."""
    return [Sample(answers, errors, seconds * answers) for errors, seconds in errors_and_seconds]


def test_what_stands_out_by_errors_or_latency_is_found_the_worst_first() -> None:
    assert standouts(samples((0, 0.01), (1, 0.012), (0, 0.009), (40, 0.01), (0, 0.08)), STRICT) == [4, 3]
    assert standouts(samples((9, 0.01), (10, 0.02), (10, 0.01)), STRICT) == [], "all are alike"
    assert standouts(samples((0, 0.01), (90, 0.9)), STRICT) == [], "of two nobody can say which is odd"
    assert standouts(samples((0, 0.01), (0, 0.01), (9, 0.9), answers=9), STRICT) == [], "too few answers"


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0.001, 10)), max_size=12))
def test_never_most_stand_out(seen: list[tuple[int, float]]) -> None:
    """By Cantelli's inequality at most 1 / (1 + 1.5**2) lie so far under the mean, and half lie above a median."""
    found = standouts(samples(*seen), STRICT)
    assert len(found) == len(set(found)) <= len(seen) * (0.5 + 1 / 3.25)
    by_latency = standouts(samples(*seen), Policy(latency_factor=3.0, answers_min=10))
    assert len(by_latency) <= len(seen) / 2
