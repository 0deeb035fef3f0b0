"""A clock bent by more than half of what is promised is found within ten seconds, and is trusted again after."""

import pytest

from meridian.core.granting.drift import WATCHED_SECONDS, Drift


@pytest.mark.parametrize(("rate", "bad"), [(1.0, False), (1.0005, False), (1.004, False), (1.006, True), (0.99, True)])
def test_a_bent_clock_is_found_and_trusted_again(rate: float, bad: bool) -> None:
    drift = Drift(100.0, 50.0)
    assert drift.look(100.0 + rate, 51.0, 0.01) is drift, "a second is not enough to tell"
    drift = drift.look(100.0 + rate * WATCHED_SECONDS, 50.0 + WATCHED_SECONDS, 0.01)
    assert drift.bad is bad
    again = drift.look(drift.steered + WATCHED_SECONDS, drift.raw + WATCHED_SECONDS, 0.01)
    assert not again.bad
