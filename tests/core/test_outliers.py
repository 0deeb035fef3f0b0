"""An endpoint that fails is left alone, for longer each time, and comes back by one good try."""

from hypothesis import given
from hypothesis import strategies as st

from meridian.core.outliers import (
    EJECTION_SECONDS,
    EJECTION_SECONDS_MAX,
    FAILURES_IN_A_ROW,
    FRESH,
    Outlier,
    State,
    step,
    wake,
)


def failed(outlier: Outlier, times: int, now: float) -> Outlier:
    """After so many failures."""
    for _ in range(times):
        outlier = step(outlier, False, now)
    return outlier


def test_failures_in_a_row_eject_and_a_success_between_starts_again() -> None:
    outlier = failed(FRESH, FAILURES_IN_A_ROW - 1, 0.0)
    assert outlier.state is State.ADMITTED
    assert failed(step(outlier, True, 0.0), FAILURES_IN_A_ROW - 1, 0.0).state is State.ADMITTED
    assert failed(outlier, 1, 0.0).state is State.EJECTED


def test_one_probe_decides() -> None:
    outlier = failed(FRESH, FAILURES_IN_A_ROW, 10.0)
    assert wake(outlier, 10.0 + EJECTION_SECONDS - 0.01) is outlier
    probing = wake(outlier, 10.0 + EJECTION_SECONDS)
    assert probing.state is State.PROBING
    assert step(probing, True, 13.0) == FRESH
    again = step(probing, False, 13.0)
    assert again.state is State.EJECTED and again.until == 13.0 + 2 * EJECTION_SECONDS


def test_a_straggler_does_not_prolong() -> None:
    outlier = failed(FRESH, FAILURES_IN_A_ROW, 0.0)
    assert step(outlier, False, 1.0) is outlier


@given(st.integers(1, 5000))
def test_ejections_grow_up_to_a_bound(times: int) -> None:
    outlier, now = FRESH, 0.0
    outlier = failed(outlier, FAILURES_IN_A_ROW, now)
    for _ in range(times):
        length = outlier.until - now
        assert EJECTION_SECONDS <= length + 1e-6 <= EJECTION_SECONDS_MAX + 1e-3
        now = outlier.until
        outlier = step(wake(outlier, now), False, now)
