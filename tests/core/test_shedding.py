"""Who is turned away when there is too much."""

import random

from hypothesis import given
from hypothesis import strategies as st

from meridian.core.shedding import Bounds, Overload, Priority


def shed(overload: Overload, active: int = 1) -> list[float]:
    """What part of each priority is turned away."""
    draw = random.Random(3).random
    return [sum(overload.sheds(one, active, draw) for _ in range(2000)) / 2000 for one in Priority]


def test_each_priority_has_its_part_of_the_requests_under_way() -> None:
    overload = Overload(Bounds(requests_max=100))
    assert [shed(overload, active) for active in (60, 61, 81, 101)] == [
        [0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1],
    ]  # fmt: skip


def test_lag_turns_the_lowest_away_first_and_the_cut_falls_slowly() -> None:
    overload = Overload(Bounds(lag_seconds_max=0.1))
    seen = []
    for _ in range(40):
        overload.lagged(0.2)
        seen.append(shed(overload))
    low, normal, high = zip(*seen, strict=True)
    assert list(low) == sorted(low) and list(normal) == sorted(normal) and list(high) == sorted(high)
    assert low[9] > 0.95 and normal[8] == 0 and normal[19] > 0.95 and high[18] == 0
    assert 0 < high[-1] < 1, "something is always let through"
    for _ in range(100):
        overload.lagged(0.0)
    assert 0 < overload.cut < 1
    for _ in range(100):
        overload.lagged(0.05)
    assert overload.cut == 0


@given(st.lists(st.floats(0.0, 10.0)), st.integers(0, 200), st.floats(0.0, 1.0, exclude_max=True))
def test_a_higher_priority_is_never_turned_away_where_a_lower_one_is_not(
    lags: list[float], active: int, drawn: float
) -> None:
    overload = Overload(Bounds(100, 0.1))
    for lag in lags:
        overload.lagged(lag)
    decided = [overload.sheds(one, active, lambda: drawn) for one in Priority]
    assert decided == sorted(decided, reverse=True)


def test_what_is_not_bounded_turns_nobody_away() -> None:
    overload = Overload(Bounds())
    for _ in range(100):
        overload.lagged(10.0)
    assert shed(overload, 1_000_000) == [0, 0, 0]
